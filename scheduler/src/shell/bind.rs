//! Sends bindings, several at once, and brings back what came of them. Invariant: never more than `limit` are under way,
//! which is also the size of the channel of answers, so no answer ever waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::tasks::{TaskKind, spawn};
use corten_base::trace;
use corten_client::events::{EventKind, Recorder};
use corten_client::{Client, Error};
use k8s_openapi::api::core::v1::{Binding, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::core::pod::PodInfo;

/// What came of a binding.
pub(super) struct Bound {
    pub(super) pod: Arc<PodInfo>,
    pub(super) node: String,
    pub(super) result: Result<(), Error>,
    /// Since when the pod had waited.
    pub(super) added: Instant,
    /// How long the call took.
    pub(super) took: Duration,
}

/// Sends bindings.
pub(super) struct Binder {
    client: Client,
    recorder: Recorder,
    answers: mpsc::Sender<Bound>,
    limit: usize,
    under_way: usize,
}

impl Binder {
    pub(super) fn new(
        client: Client,
        recorder: Recorder,
        answers: mpsc::Sender<Bound>,
        limit: usize,
    ) -> Self {
        Self {
            client,
            recorder,
            answers,
            limit,
            under_way: 0,
        }
    }

    /// Whether another binding may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.under_way < self.limit
    }

    /// Bindings that have not been answered.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// An answer was taken in.
    pub(super) fn answered(&mut self) {
        self.under_way -= 1;
    }

    pub(super) fn bind(&mut self, pod: &Arc<PodInfo>, node: &str, added: Instant) {
        self.under_way += 1;
        let (client, recorder, answers) = (
            self.client.clone(),
            self.recorder.clone(),
            self.answers.clone(),
        );
        let (pod, node) = (Arc::clone(pod), node.to_owned());
        // One of thousands a second: no span of its own.
        spawn("bind", TaskKind::Connection, async move {
            let begin = Instant::now();
            let span = trace::run("schedule", "bind", &pod.full_name());
            let result = client.bind(&binding(&pod, &node)).instrument(span).await;
            match &result {
                Ok(()) => {
                    let message = format!("Successfully assigned {} to {node}", pod.full_name());
                    recorder.record(reference(&pod), EventKind::Normal, "Scheduled", message);
                }
                Err(error) if !error.is_not_found() => {
                    let message = format!("binding to {node} was refused: {error}");
                    recorder.record(
                        reference(&pod),
                        EventKind::Warning,
                        "FailedScheduling",
                        message,
                    );
                }
                Err(_) => {}
            }
            let bound = Bound {
                pod,
                node,
                result,
                added,
                took: begin.elapsed(),
            };
            // Nobody listens only when the process is stopping.
            let _ = answers.send(bound).await;
        });
    }
}

fn binding(pod: &PodInfo, node: &str) -> Binding {
    Binding {
        metadata: ObjectMeta {
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            // The uid keeps a pod of the same name that came later from being bound by mistake.
            uid: Some(pod.uid.clone()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    }
}

/// The pod as events refer to it.
pub(super) fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}
