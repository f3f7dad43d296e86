//! The pod machine: takes an event, then looks at the whole state and says what to do next. Planning is level-triggered:
//! it depends on where things stand, never on which event woke it. Pure.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use super::backoff::Backoff;
use super::container::{CONFIG_RETRY, ContainerMachine, State};
use super::probing::ProbeKind;
use super::stopping::PodStop;
use super::types::{Action, Event, Now, Severity};
use crate::spec::{self, ContainerKind};
use crate::traits::PodRef;

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
    pub pod: Arc<Pod>,
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

    /// The container, if the event is about its current attempt.
    fn current(&self, name: &str, attempt: u32) -> Option<usize> {
        self.position(name)
            .filter(|at| self.containers[*at].restart_count == attempt)
    }

    fn take(&mut self, event: Event, now: Now) {
        match event {
            Event::Updated(pod) => self.update(pod, now),
            Event::Removed => self.removed = true,
            Event::Rejected { reason, message } => {
                self.report(Severity::Warning, reason.clone(), message.clone(), None);
                self.failed.get_or_insert((reason, message));
            }
            Event::Tick => {}
            Event::VolumesReady if self.volumes == Part::Making => self.volumes = Part::Ready,
            Event::VolumesFailed { message } if self.volumes == Part::Making => {
                self.volumes = Part::Absent {
                    retry_at: now.mono + PART_RETRY,
                };
                self.report(Severity::Warning, "FailedMount", message, None);
            }
            Event::VolumesGone { error: None } => self.volumes = Part::Gone,
            Event::VolumesGone { error: Some(_) } => {
                self.volumes = Part::Absent {
                    retry_at: now.mono + PART_RETRY,
                };
            }
            Event::SandboxReady { ips } if self.sandbox == Part::Making => {
                self.sandbox = Part::Ready;
                self.ips = ips;
            }
            Event::SandboxFailed { message } if self.sandbox == Part::Making => {
                self.sandbox = Part::Absent {
                    retry_at: now.mono + PART_RETRY,
                };
                let message = format!("Failed to create pod sandbox: {message}");
                self.report(Severity::Warning, "FailedCreatePodSandBox", message, None);
            }
            Event::SandboxGone { error: None } => self.sandbox = Part::Gone,
            Event::SandboxGone {
                error: Some(message),
            } => {
                self.sandbox = Part::Absent {
                    retry_at: now.mono + PART_RETRY,
                };
                let message = format!("error killing pod: {message}");
                self.report(Severity::Warning, "FailedKillPod", message, None);
            }
            Event::VolumesReady
            | Event::VolumesFailed { .. }
            | Event::SandboxReady { .. }
            | Event::SandboxFailed { .. } => {}
            other => self.take_container(other, now),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one match, an arm per event")]
    fn take_container(&mut self, event: Event, now: Now) {
        match event {
            Event::Pulling { container } => {
                if let Some(at) = self.position(&container) {
                    let image = self.containers[at].spec.image.clone().unwrap_or_default();
                    let message = format!("Pulling image \"{image}\"");
                    self.report(Severity::Normal, "Pulling", message, Some(&container));
                }
            }
            Event::ImageReady {
                container,
                image,
                pulled,
            } => {
                self.image_ready(&container, image, pulled);
            }
            Event::ImageFailed {
                container,
                reason,
                message,
                backs_off,
            } => {
                self.image_failed(&container, reason, message, backs_off, now);
            }
            Event::CreateFailed {
                container,
                attempt,
                reason,
                message,
            } => {
                if let Some(at) = self.current(&container, attempt) {
                    self.containers[at].wait(reason, message.clone(), CONFIG_RETRY, false, now);
                    let text = format!("Error: {message}");
                    self.report(Severity::Warning, "Failed", text, Some(&container));
                }
            }
            Event::Started {
                container,
                attempt,
                id,
                at,
            } => {
                self.container_started(&container, attempt, id, at, now);
            }
            Event::Exited {
                container,
                attempt,
                id,
                exit,
            } => {
                if let Some(at) = self.current(&container, attempt) {
                    if let Some(error) = &exit.start_error {
                        let text = format!("Error: {error}");
                        self.report(Severity::Warning, "Failed", text, Some(&container));
                    }
                    self.containers[at].exited(id, exit, now);
                }
            }
            Event::PostStartDone {
                container,
                attempt,
                error,
            } => {
                self.post_start_done(&container, attempt, error, now);
            }
            Event::PreStopDone {
                container,
                attempt,
                error,
            } => {
                self.pre_stop_done(&container, attempt, error);
            }
            Event::Probed {
                container,
                attempt,
                kind,
                ok,
                output,
            } => {
                self.probed(&container, attempt, kind, ok, &output, now);
            }
            _ => {}
        }
    }

    /// A new version of the object: images, tolerations, deadlines and ephemeral containers may have changed.
    fn update(&mut self, pod: Arc<Pod>, now: Now) {
        let mut changed = Vec::new();
        for (kind, container) in spec::containers(&pod) {
            match self.position(&container.name) {
                Some(at) => {
                    if self.containers[at].spec.image != container.image {
                        changed.push(at);
                    }
                    self.containers[at].spec = container;
                }
                None => self.containers.push(ContainerMachine::new(kind, container)),
            }
        }
        self.pod = pod;
        for at in changed {
            self.image_changed(at, now);
        }
    }

    /// Another image: a wait for the old one is over, a run of the old one too.
    fn image_changed(&mut self, at: usize, now: Now) {
        let grace = self.grace();
        let container = &mut self.containers[at];
        container.image_backoff.reset();
        if let State::Waiting { retry_at, .. } = &mut container.state {
            *retry_at = now.mono;
        }
        if container.run().is_some_and(|run| run.stop.is_none()) {
            let name = container.name().to_owned();
            let text = format!("Container {name} definition changed, will be restarted");
            self.report(Severity::Normal, "Killing", text, Some(&name));
            self.stop_container(at, grace, "", now);
        }
    }

    fn image_ready(
        &mut self,
        name: &str,
        image: Box<crate::traits::ImageRecord>,
        pulled: Option<String>,
    ) {
        let Some(at) = self.position(name) else {
            return;
        };
        let reference = self.containers[at].spec.image.clone().unwrap_or_default();
        let message = match pulled {
            Some(how) => format!("Successfully pulled image \"{reference}\" {how}"),
            None => format!("Container image \"{reference}\" already present on machine"),
        };
        self.report(Severity::Normal, "Pulled", message, Some(name));
        let stopping = self.stop.is_some() || self.failed.is_some();
        let attempt = self.containers[at].restart_count;
        let container = &mut self.containers[at];
        container.image_backoff = Backoff::default();
        container.image = Some(image.clone());
        if container.state != State::Pulling {
            return;
        }
        if stopping {
            container.state = ContainerMachine::new(container.kind, container.spec.clone()).state;
            return;
        }
        container.state = State::Creating;
        self.actions.push(Action::Start {
            container: name.to_owned(),
            attempt,
            image,
        });
    }

    fn image_failed(
        &mut self,
        name: &str,
        reason: &'static str,
        message: String,
        backs_off: bool,
        now: Now,
    ) {
        let Some(at) = self.position(name) else {
            return;
        };
        let container = &mut self.containers[at];
        let image = container.spec.image.clone().unwrap_or_default();
        container.image_backoff.tried(now.mono);
        let delay = container.image_backoff.delay(now.mono);
        container.wait(reason, message.clone(), delay, backs_off, now);
        container.backoff_reported = false;
        let text = if backs_off {
            format!("Failed to pull image \"{image}\": {message}")
        } else {
            message
        };
        let failed = if reason == "InvalidImageName" {
            "InspectFailed"
        } else if reason == "ErrImageNeverPull" {
            reason
        } else {
            "Failed"
        };
        self.report(Severity::Warning, failed, text, Some(name));
        self.report(
            Severity::Warning,
            "Failed",
            format!("Error: {reason}"),
            Some(name),
        );
    }

    fn container_started(
        &mut self,
        name: &str,
        attempt: u32,
        id: String,
        started: Timestamp,
        now: Now,
    ) {
        let Some(at) = self.current(name, attempt) else {
            return;
        };
        self.containers[at].started(id, started, now);
        if self.containers[at].kind == ContainerKind::App {
            self.initialized = true;
        }
        self.report(
            Severity::Normal,
            "Created",
            format!("Created container: {name}"),
            Some(name),
        );
        self.report(
            Severity::Normal,
            "Started",
            format!("Started container {name}"),
            Some(name),
        );
        let hook = self.containers[at]
            .spec
            .lifecycle
            .as_ref()
            .and_then(|l| l.post_start.clone());
        if let Some(hook) = hook {
            self.actions.push(Action::PostStart {
                container: name.to_owned(),
                attempt,
                hook,
            });
        }
    }

    fn post_start_done(&mut self, name: &str, attempt: u32, error: Option<String>, now: Now) {
        let Some(at) = self.current(name, attempt) else {
            return;
        };
        if let Some(run) = self.containers[at].run_mut() {
            run.post_start_pending = false;
        }
        if let Some(error) = error {
            let text = format!("PostStartHook failed: {error}");
            self.report(Severity::Warning, "FailedPostStartHook", text, Some(name));
            let grace = self.grace();
            self.stop_container(at, grace, "FailedPostStartHook", now);
        }
    }

    fn probed(
        &mut self,
        name: &str,
        attempt: u32,
        kind: ProbeKind,
        ok: bool,
        output: &str,
        now: Now,
    ) {
        let Some(at) = self.current(name, attempt) else {
            return;
        };
        let Some(run) = self.containers[at].run_mut() else {
            return;
        };
        let probe = match kind {
            ProbeKind::Startup => run.startup.as_mut(),
            ProbeKind::Liveness => run.liveness.as_mut(),
            ProbeKind::Readiness => run.readiness.as_mut(),
        };
        let Some(probe) = probe else { return };
        let changed = probe.result(ok);
        let verdict = probe.verdict;
        let grace = probe.probe.termination_grace_period_seconds;
        let stopping = run.stop.is_some();
        if !ok && !stopping {
            let text = format!("{} probe failed: {output}", kind.title());
            self.report(Severity::Warning, "Unhealthy", text, Some(name));
        }
        let kills = kind != ProbeKind::Readiness && verdict == Some(false) && !stopping;
        if changed && kills {
            let grace = grace.map_or_else(|| self.grace(), positive_seconds);
            let text = format!(
                "Container {name} failed {} probe, will be restarted",
                kind.title().to_lowercase()
            );
            self.report(Severity::Normal, "Killing", text, Some(name));
            self.stop_container(at, grace, "", now);
        }
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
        self.plan_container_stops(now);
        if self.stop.is_none() {
            self.plan_parts(now);
            if self.sandbox == Part::Ready && self.volumes == Part::Ready {
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
            self.actions.push(Action::CreateSandbox);
        }
    }

    fn plan_containers(&mut self, now: Now) {
        if !self.initialized {
            self.initialized = self.plan_init(now);
        } else {
            for at in self.positions(ContainerKind::Sidecar) {
                self.plan_container(at, now);
            }
        }
        if self.initialized {
            for at in self.positions(ContainerKind::App) {
                self.plan_container(at, now);
            }
        }
        for at in self.positions(ContainerKind::Ephemeral) {
            self.plan_container(at, now);
        }
    }

    pub(super) fn positions(&self, kind: ContainerKind) -> Vec<usize> {
        (0..self.containers.len())
            .filter(|at| self.containers[*at].kind == kind)
            .collect()
    }

    /// Brings the init containers up in order; true when all are through.
    fn plan_init(&mut self, now: Now) -> bool {
        for at in 0..self.containers.len() {
            let container = &self.containers[at];
            let through = match container.kind {
                ContainerKind::Init => container.ended().is_some_and(|e| e.exit.exit_code == 0),
                ContainerKind::Sidecar => container.is_started(),
                ContainerKind::App | ContainerKind::Ephemeral => continue,
            };
            if !through {
                self.plan_container(at, now);
                return false;
            }
            if container.kind == ContainerKind::Sidecar {
                self.plan_container(at, now);
            }
        }
        true
    }

    /// Starts or restarts one container when its time has come.
    fn plan_container(&mut self, at: usize, now: Now) {
        let policy = self.restart_policy().to_owned();
        let container = &self.containers[at];
        let name = container.name().to_owned();
        match &container.state {
            State::Waiting {
                retry_at,
                since,
                pull_failed,
                ..
            } => {
                if *retry_at <= now.mono {
                    self.begin(at);
                } else if *pull_failed
                    && *since + SHOW_ERROR <= now.mono
                    && !container.backoff_reported
                {
                    let image = container.spec.image.clone().unwrap_or_default();
                    self.containers[at].backoff_reported = true;
                    let text = format!("Back-off pulling image \"{image}\"");
                    self.report(Severity::Normal, "BackOff", text, Some(&name));
                    self.report(
                        Severity::Warning,
                        "Failed",
                        "Error: ImagePullBackOff".to_owned(),
                        Some(&name),
                    );
                }
            }
            State::Ended(ended) if container.restarts(&policy, ended.exit.exit_code) => {
                if container.restart_at(ended) <= now.mono {
                    let ended = ended.clone();
                    let container = &mut self.containers[at];
                    container.backoff.tried(now.mono);
                    container.restart_count += 1;
                    if let Some(old) = container.last.replace(ended) {
                        self.actions.push(Action::Remove {
                            container: name,
                            id: old.id,
                        });
                    }
                    self.begin(at);
                } else if !container.backoff_reported {
                    self.containers[at].backoff_reported = true;
                    let pod = &self.pod_ref;
                    let text = format!(
                        "Back-off restarting failed container {name} in pod {}_{}({})",
                        pod.name, pod.namespace, pod.uid
                    );
                    self.report(Severity::Warning, "BackOff", text, Some(&name));
                }
            }
            State::Ended(_) | State::Pulling | State::Creating | State::Running(_) => {}
        }
    }

    fn begin(&mut self, at: usize) {
        self.containers[at].state = State::Pulling;
        self.containers[at].backoff_reported = false;
        self.actions.push(Action::PullImage {
            container: self.containers[at].name().to_owned(),
        });
    }

    fn plan_probes(&mut self, now: Now) {
        for container in &mut self.containers {
            let started = container.is_started();
            let (name, attempt) = (container.name().to_owned(), container.restart_count);
            let Some(run) = container.run_mut() else {
                continue;
            };
            if run.post_start_pending || run.stop.is_some() {
                continue;
            }
            let id = run.id.clone();
            let startup = run.startup.as_mut().filter(|_| !started);
            let others = [&mut run.liveness, &mut run.readiness]
                .into_iter()
                .flatten()
                .filter(|_| started);
            for probe in startup.into_iter().chain(others) {
                if probe.begin_if_due(now.mono) {
                    self.actions.push(Action::Probe {
                        container: name.clone(),
                        attempt,
                        id: id.clone(),
                        kind: probe.kind,
                        probe: Box::new(probe.probe.clone()),
                    });
                }
            }
        }
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
