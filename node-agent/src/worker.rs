//! The worker of one pod: feeds its machine with events, performs the actions, and publishes the status. It decides nothing;
//! each action runs in a task of its own and comes back as an event. Invariant: at most one worker per pod uid.

mod adopt;
mod effects;
mod exit;
mod inputs;
mod layout;
pub mod pause;
mod publish;
mod resize;
mod start;
mod subpath;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_base::tasks::{self, TaskKind};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::context::NodeContext;
use crate::pod::{Action, Event, PodMachine};
use crate::traits::{PodRef, PodView, PreparedVolume};

pub use layout::{
    container_of, images_in_use, read_allocation, read_record, stored_pods, write_allocation,
};

/// Events waiting for a worker. Senders wait when it is full: nothing is lost.
const MAILBOX: usize = 64;
/// ConfigMaps, Secrets, tokens and downward fields are brought up to date this often.
const REFRESH: Duration = Duration::from_secs(30);

/// What the agent holds of a worker.
#[derive(Clone)]
pub struct WorkerHandle {
    pub pod_ref: PodRef,
    /// The pod as it was when the worker began; counts until there is a view.
    first: Arc<Pod>,
    rejected: bool,
    sender: mpsc::Sender<Event>,
    view: watch::Receiver<Option<Arc<PodView>>>,
}

impl WorkerHandle {
    /// Tells the worker something; false when it has ended.
    pub async fn send(&self, event: Event) -> bool {
        self.sender.send(event).await.is_ok()
    }

    /// The pod as it is now.
    pub fn view(&self) -> Option<Arc<PodView>> {
        self.view.borrow().clone()
    }

    /// The object for counting what this node has given away; None when it was never let in, or is gone.
    pub fn counted(&self) -> Option<Arc<Pod>> {
        if self.rejected {
            return None;
        }
        match self.view() {
            Some(view) => Some(view.pod.clone()),
            None if self.is_over() => None,
            None => Some(self.first.clone()),
        }
    }

    pub fn is_over(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Shared by the worker and the tasks of its actions.
pub(crate) struct Shared {
    pub(crate) context: Arc<NodeContext>,
    pub(crate) pod_ref: PodRef,
    pub(crate) sender: mpsc::Sender<Event>,
    pub(crate) volumes: Mutex<BTreeMap<String, PreparedVolume>>,
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    machine: PodMachine,
    events: mpsc::Receiver<Event>,
    publisher: publish::Publisher,
    view: watch::Sender<Option<Arc<PodView>>>,
    /// The waits that are on disk.
    waits: waits::Waits,
}

/// Starts the worker of a pod, which comes with the resources that it was promised; what an earlier agent left of it is taken over first.
/// A pod that this node refuses comes with the reason and message of that.
pub fn start(
    context: Arc<NodeContext>,
    pod: Arc<Pod>,
    refusal: Option<(String, String)>,
) -> WorkerHandle {
    let (sender, events) = mpsc::channel(MAILBOX);
    let (view_sender, view) = watch::channel(None);
    let pod_ref = PodRef::of(&pod);
    let handle = WorkerHandle {
        pod_ref: pod_ref.clone(),
        first: pod.clone(),
        rejected: refusal.is_some(),
        sender: sender.clone(),
        view,
    };
    let shared = Arc::new(Shared {
        context,
        pod_ref,
        sender,
        volumes: Mutex::default(),
    });
    let first = match refusal {
        Some((reason, message)) => Event::Rejected { reason, message },
        None => Event::Tick,
    };
    tasks::spawn("pod-worker", TaskKind::Background, async move {
        let now = shared.context.now();
        let mut machine = PodMachine::new(pod, shared.context.host_ips.clone(), now);
        adopt::adopt(&shared, &mut machine).await;
        let publisher = publish::Publisher::new(shared.context.api.clone());
        let waits = waits::Waits::of(&machine);
        Worker {
            shared,
            machine,
            events,
            publisher,
            view: view_sender,
            waits,
        }
        .run(first)
        .await;
    });
    handle
}

impl Worker {
    async fn run(mut self, mut event: Event) {
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = self.shared.context.now();
            if let Event::Updated(pod) = &event {
                layout::write_record(&self.shared, pod);
            }
            let actions = self.machine.step(event, now);
            self.keep_waits(now);
            self.show(now);
            if self.perform(actions).await {
                return;
            }
            let now = self.shared.context.now();
            let wake = self
                .machine
                .wake_at(now)
                .map(|at| at.saturating_sub(now.mono));
            event = tokio::select! {
                biased;
                // Each arm is cancel-safe: a receive, a watch of a task, and two timers.
                Some(event) = self.events.recv() => event,
                () = self.publisher.progress() => Event::Tick,
                () = sleep_for(wake) => Event::Tick,
                _ = refresh.tick() => {
                    effects::refresh_volumes(&self.shared, &self.machine);
                    Event::Tick
                }
            };
        }
    }

    fn keep_waits(&mut self, now: crate::pod::Now) {
        let waits = waits::Waits::of(&self.machine);
        if waits != self.waits {
            waits.write(&self.shared, now);
            self.waits = waits;
        }
    }

    /// Renders the status, hands it to the publisher and shows the pod to the server.
    fn show(&mut self, now: crate::pod::Now) {
        if self.machine.is_frozen() && self.machine.containers.iter().all(|c| c.ended().is_none()) {
            // A terminal status of an earlier life is better than anything we could say.
            self.view.send_replace(Some(Arc::new(layout::view(
                &self.shared,
                &self.machine,
                None,
            ))));
            return;
        }
        let status = crate::pod::status::render(&self.machine, now);
        self.machine.remember(&status);
        let view = layout::view(&self.shared, &self.machine, Some(&status));
        self.view.send_replace(Some(Arc::new(view)));
        if !self.machine.removed {
            self.publisher.offer(&self.machine.pod, status);
        }
    }

    /// Performs actions in order; true when the pod is finished.
    async fn perform(&mut self, actions: Vec<Action>) -> bool {
        for action in actions {
            match action {
                Action::Report {
                    severity,
                    reason,
                    message,
                    container,
                } => {
                    self.shared.context.api.event(
                        &self.machine.pod,
                        container.as_deref(),
                        severity,
                        &reason,
                        &message,
                    );
                }
                Action::Finish => {
                    self.finish().await;
                    return true;
                }
                other => effects::perform(&self.shared, &self.machine, other),
            }
        }
        false
    }

    /// The last status, the object, and everything on disk.
    async fn finish(&mut self) {
        self.events.close();
        if !self.machine.removed {
            self.publisher.drain().await;
            self.publisher.delete(&self.shared.pod_ref).await;
        }
        layout::erase(&self.shared).await;
        self.view.send_replace(None);
        tracing::info!(pod = %self.shared.pod_ref, "pod is gone");
    }
}

async fn sleep_for(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_is_gone_no_longer_counts() {
        let (sender, mut events) = mpsc::channel(1);
        let (_shown, view) = watch::channel(None);
        let handle = WorkerHandle {
            pod_ref: PodRef::of(&Pod::default()),
            first: Arc::default(),
            rejected: false,
            sender,
            view,
        };
        assert!(handle.counted().is_some(), "it has only just come");
        events.close();
        assert!(handle.counted().is_none());
    }
}
