//! The pod machine: takes an event, then looks at the whole state and says what to do next. Planning is level-triggered:
//! it depends on where things stand, never on which event woke it. Pure.

mod containers;
mod resize;
mod results;
mod take;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use super::container::{ContainerMachine, State};
use super::resize::Allocation;
use super::stopping::PodStop;
use super::types::{Action, Event, Now, Severity};
use crate::spec::{self, ContainerKind};
use crate::traits::PodRef;

pub use resize::{Resize, Resized};

/// Something that is made once for the pod and taken down at its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Absent { retry_at: Duration },
    Making,
    Ready,
    Removing,
    Gone,
}

/// Retry of volumes and sandbox.
const PART_RETRY: Duration = Duration::from_secs(2);
/// `ErrImagePull` turns into `ImagePullBackOff` after being shown this long.
pub const SHOW_ERROR: Duration = Duration::from_secs(2);

/// One pod over its whole life on this node.
#[derive(Clone, Debug)]
pub struct PodMachine {
    /// With the resources that the node has promised, which need not be those that are asked for.
    pub pod: Arc<Pod>,
    pub allocation: Allocation,
    pub resize: Resize,
    pub pod_ref: PodRef,
    pub host_ips: Vec<IpAddr>,
    pub containers: Vec<ContainerMachine>,
    pub sandbox: Part,
    pub volumes: Part,
    pub ips: Vec<IpAddr>,
    pub start_time: Timestamp,
    /// All init containers are through; survives restarts of app containers.
    pub initialized: bool,
    /// Failed for a reason of the pod's own (rejected, deadline).
    pub failed: Option<(String, String)>,
    pub stop: Option<PodStop>,
    pub removed: bool,
    /// Conditions as last rendered: their transition times hold until they change.
    pub(super) shown: Vec<PodCondition>,
    pub(super) finished: bool,
    pub(super) actions: Vec<Action>,
}

impl PodMachine {
    /// A pod that this node has just met.
    pub fn new(pod: Arc<Pod>, host_ips: Vec<IpAddr>, now: Now) -> Self {
        let status = pod.status.as_ref();
        let start_time = status
            .and_then(|s| s.start_time.as_ref())
            .map_or(now.wall, |time| time.0);
        let failed = status
            .filter(|s| s.phase.as_deref() == Some("Failed"))
            .and_then(|s| Some((s.reason.clone()?, s.message.clone().unwrap_or_default())));
        let shown = status
            .and_then(|s| s.conditions.clone())
            .unwrap_or_default();
        Self {
            pod_ref: PodRef::of(&pod),
            allocation: Allocation::of(&pod),
            resize: Resize::of(&pod),
            containers: spec::containers(&pod)
                .into_iter()
                .map(|(kind, container)| ContainerMachine::new(kind, container))
                .collect(),
            pod,
            host_ips,
            sandbox: Part::Absent {
                retry_at: Duration::ZERO,
            },
            volumes: Part::Absent {
                retry_at: Duration::ZERO,
            },
            ips: Vec::new(),
            start_time,
            initialized: false,
            failed,
            stop: None,
            removed: false,
            shown,
            finished: false,
            actions: Vec::new(),
        }
    }

    /// One turn: the event, then the plan.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        self.take(event, now);
        self.plan(now);
        std::mem::take(&mut self.actions)
    }

    /// Whether the pod has come to its end and its worker may go.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Keeps what was rendered, so that unchanged conditions keep their times.
    pub fn remember(&mut self, status: &PodStatus) {
        if let Some(conditions) = &status.conditions {
            self.shown.clone_from(conditions);
        }
    }

    pub fn restart_policy(&self) -> &str {
        self.pod
            .spec
            .as_ref()
            .and_then(|s| s.restart_policy.as_deref())
            .unwrap_or("Always")
    }

    pub fn is_deleted(&self) -> bool {
        self.removed || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Ended by this node for want of memory.
    pub fn is_evicted(&self) -> bool {
        self.failed
            .as_ref()
            .is_some_and(|(reason, _)| reason == crate::eviction::REASON)
    }

    pub(super) fn report(
        &mut self,
        severity: Severity,
        reason: impl Into<Cow<'static, str>>,
        message: String,
        container: Option<&str>,
    ) {
        self.actions.push(Action::Report {
            severity,
            reason: reason.into(),
            message,
            container: container.map(str::to_owned),
        });
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.containers
            .iter()
            .position(|container| container.name() == name)
    }

    /// How long this pod's containers get to stop when a container is ended for its own sake.
    pub(super) fn grace(&self) -> Duration {
        let spec = self.pod.spec.as_ref();
        positive_seconds(
            spec.and_then(|s| s.termination_grace_period_seconds)
                .unwrap_or(30),
        )
    }

    fn plan(&mut self, now: Now) {
        if self.finished {
            return;
        }
        self.check_deadline(now);
        self.plan_stop(now);
        self.plan_resize_restarts(now);
        self.plan_container_stops(now);
        if self.stop.is_none() {
            self.plan_parts(now);
            self.plan_resize(now);
            let ready = self.sandbox == Part::Ready && self.volumes == Part::Ready;
            if ready && !self.resize_holds() {
                self.plan_containers(now);
            }
            self.plan_probes(now);
        } else {
            self.plan_take_down(now);
        }
    }

    fn check_deadline(&mut self, now: Now) {
        let deadline = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.active_deadline_seconds);
        let Some(seconds) = deadline.filter(|_| self.failed.is_none() && self.stop.is_none())
        else {
            return;
        };
        if now.wall.duration_since(self.start_time).as_secs() >= seconds {
            let message =
                "Pod was active on the node longer than the specified deadline".to_owned();
            self.report(Severity::Normal, "DeadlineExceeded", message.clone(), None);
            self.failed = Some(("DeadlineExceeded".to_owned(), message));
        }
    }

    fn plan_parts(&mut self, now: Now) {
        if matches!(self.volumes, Part::Absent { retry_at } if retry_at <= now.mono) {
            self.volumes = Part::Making;
            self.actions.push(Action::SetupVolumes);
        }
        if matches!(self.sandbox, Part::Absent { retry_at } if retry_at <= now.mono) {
            self.sandbox = Part::Making;
            self.group_is_made();
            self.actions.push(Action::CreateSandbox);
        }
    }

    pub(super) fn positions(&self, kind: ContainerKind) -> Vec<usize> {
        (0..self.containers.len())
            .filter(|at| self.containers[*at].kind == kind)
            .collect()
    }

    /// When the machine must be looked at again without any event.
    pub fn wake_at(&self, now: Now) -> Option<Duration> {
        let mut times: Vec<Duration> = Vec::new();
        for part in [&self.sandbox, &self.volumes] {
            if let Part::Absent { retry_at } = part {
                times.push(*retry_at);
            }
        }
        let deadline = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.active_deadline_seconds);
        if let Some(seconds) = deadline.filter(|_| self.failed.is_none() && self.stop.is_none()) {
            let left = seconds - now.wall.duration_since(self.start_time).as_secs();
            times.push(now.mono + Duration::from_secs(u64::try_from(left).unwrap_or(0)));
        }
        times.extend(self.stop_times());
        times.push(self.resize.retry_at());
        for container in &self.containers {
            match &container.state {
                State::Waiting {
                    retry_at, since, ..
                } => times.extend([*retry_at, *since + SHOW_ERROR]),
                State::Ended(ended) => times.push(container.restart_at(ended)),
                State::Running(run) if run.stop.is_none() && !run.post_start_pending => {
                    let started = container.is_started();
                    let startup = run.startup.iter().filter(|_| !started);
                    let others = run
                        .liveness
                        .iter()
                        .chain(&run.readiness)
                        .filter(|_| started);
                    times.extend(
                        startup
                            .chain(others)
                            .filter_map(super::probing::ProbeMachine::next_due),
                    );
                }
                State::Running(_) | State::Pulling | State::Creating => {}
            }
        }
        // What is due already was acted upon in this turn: only the future counts.
        times.into_iter().filter(|time| *time > now.mono).min()
    }
}

/// Seconds of the API as a duration; negative counts as zero.
pub(super) fn positive_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
