//! What came of pulls, starts, hooks and probes. Pure.

use jiff::Timestamp;

use super::{PodMachine, positive_seconds};
use crate::pod::backoff::Backoff;
use crate::pod::container::{ContainerMachine, State};
use crate::pod::probing::ProbeKind;
use crate::pod::types::{Action, Now, Severity};
use crate::spec::ContainerKind;
use crate::traits::ImageRecord;

impl PodMachine {
    pub(super) fn image_ready(
        &mut self,
        name: &str,
        image: Box<ImageRecord>,
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
        // A start now would meet a group that is changing: it is asked for again.
        let stopping = self.stop.is_some() || self.failed.is_some() || self.resize_holds();
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
        container.resources = container.spec.resources.clone().unwrap_or_default();
        self.actions.push(Action::Start {
            container: name.to_owned(),
            attempt,
            image,
        });
    }

    pub(super) fn image_failed(
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

    pub(super) fn container_started(
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

    pub(super) fn post_start_done(
        &mut self,
        name: &str,
        attempt: u32,
        error: Option<String>,
        now: Now,
    ) {
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

    pub(super) fn probed(
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
        } else if ok && !output.is_empty() && !stopping {
            let text = format!("{} probe warning: {output}", kind.title());
            self.report(Severity::Warning, "ProbeWarning", text, Some(name));
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
}
