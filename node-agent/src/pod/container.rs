//! One container of a pod: where it stands, what its last run left, and whether it runs again. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};

use super::backoff::Backoff;
use super::probing::{ProbeKind, ProbeMachine};
use super::types::{Exit, Now};
use crate::spec::ContainerKind;
use crate::traits::ImageRecord;

/// A run that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub id: String,
    pub exit: Exit,
    pub reason: String,
    /// When, on the monotonic clock.
    pub at: Duration,
}

/// A run in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub id: String,
    pub started_at: Timestamp,
    pub post_start_pending: bool,
    pub startup: Option<ProbeMachine>,
    pub liveness: Option<ProbeMachine>,
    pub readiness: Option<ProbeMachine>,
    pub stop: Option<Stop>,
}

/// A run that is being ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// SIGKILL comes at this moment.
    pub deadline: Duration,
    pub pre_stop_pending: bool,
    pub terminated: bool,
    pub killed: bool,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Not running and not (any more) told why; `since` is when the reason arose.
    Waiting {
        reason: String,
        message: Option<String>,
        since: Duration,
        retry_at: Duration,
        pull_failed: bool,
    },
    Pulling,
    Creating,
    Running(Box<Run>),
    Ended(Ended),
}

/// One container over all its runs.
#[derive(Clone, Debug)]
pub struct ContainerMachine {
    pub kind: ContainerKind,
    pub spec: Container,
    pub state: State,
    /// The run before the current one.
    pub last: Option<Ended>,
    /// How many runs there were before the current or next one.
    pub restart_count: u32,
    pub image: Option<Box<ImageRecord>>,
    /// What its present run has, which need not be what it is promised.
    pub resources: ResourceRequirements,
    /// Its run ends only to begin anew with other resources: neither policy nor back-off are asked.
    pub again: bool,
    pub backoff: Backoff,
    pub image_backoff: Backoff,
    /// The back-off event of this wait has been sent.
    pub backoff_reported: bool,
}

/// Back-off of configuration errors, which people mend by hand.
pub const CONFIG_RETRY: Duration = Duration::from_secs(10);

impl ContainerMachine {
    pub fn new(kind: ContainerKind, spec: Container) -> Self {
        Self {
            kind,
            spec,
            state: State::Waiting {
                reason: "ContainerCreating".to_owned(),
                message: None,
                since: Duration::ZERO,
                retry_at: Duration::ZERO,
                pull_failed: false,
            },
            last: None,
            restart_count: 0,
            image: None,
            resources: ResourceRequirements::default(),
            again: false,
            backoff: Backoff::default(),
            image_backoff: Backoff::default(),
            backoff_reported: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn run(&self) -> Option<&Run> {
        match &self.state {
            State::Running(run) => Some(run),
            _ => None,
        }
    }

    pub fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.state {
            State::Running(run) => Some(run),
            _ => None,
        }
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// Neither running nor about to: nothing of it needs to be stopped.
    pub fn is_quiet(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Ended(_))
    }

    /// Past postStart and its startup probe.
    pub fn is_started(&self) -> bool {
        self.run().is_some_and(|run| {
            !run.post_start_pending && run.startup.as_ref().is_none_or(|p| p.verdict == Some(true))
        })
    }

    pub fn is_ready(&self) -> bool {
        match &self.state {
            State::Running(run) => {
                self.kind != ContainerKind::Ephemeral
                    && self.is_started()
                    && run
                        .readiness
                        .as_ref()
                        .is_none_or(|p| p.verdict == Some(true))
            }
            State::Ended(ended) => self.kind == ContainerKind::Init && ended.exit.exit_code == 0,
            _ => false,
        }
    }

    /// Whether a run that ended with `exit_code` is followed by another one.
    pub fn restarts(&self, pod_policy: &str, exit_code: i32) -> bool {
        if self.again {
            return true;
        }
        let policy = self.spec.restart_policy.as_deref().unwrap_or(pod_policy);
        match self.kind {
            ContainerKind::Sidecar => true,
            ContainerKind::Ephemeral => false,
            ContainerKind::Init => exit_code != 0 && policy != "Never",
            ContainerKind::App => match policy {
                "Never" => false,
                "OnFailure" => exit_code != 0,
                _ => true,
            },
        }
    }

    /// When an ended container may run again.
    pub fn restart_at(&self, ended: &Ended) -> Duration {
        if self.again {
            return ended.at;
        }
        ended.at + self.backoff.delay(ended.at)
    }

    /// Takes the start of a run.
    pub fn started(&mut self, id: String, started_at: Timestamp, now: Now) {
        let probe = |kind, probe: &Option<_>| {
            probe
                .as_ref()
                .map(|probe| ProbeMachine::new(kind, probe, now.mono))
        };
        let hook = self
            .spec
            .lifecycle
            .as_ref()
            .is_some_and(|l| l.post_start.is_some());
        self.backoff_reported = false;
        self.again = false;
        self.state = State::Running(Box::new(Run {
            id,
            started_at,
            post_start_pending: hook,
            startup: probe(ProbeKind::Startup, &self.spec.startup_probe),
            liveness: probe(ProbeKind::Liveness, &self.spec.liveness_probe),
            readiness: probe(ProbeKind::Readiness, &self.spec.readiness_probe),
            stop: None,
        }));
    }

    /// Takes the end of a run.
    pub fn exited(&mut self, id: String, exit: Exit, now: Now) {
        let reason = if exit.start_error.is_some() {
            "StartError"
        } else if exit.lost {
            "ContainerStatusUnknown"
        } else if exit.oom_killed {
            "OOMKilled"
        } else if exit.exit_code == 0 {
            "Completed"
        } else {
            "Error"
        };
        self.backoff_reported = false;
        self.state = State::Ended(Ended {
            id,
            exit,
            reason: reason.to_owned(),
            at: now.mono,
        });
    }

    /// The wait after a failed pull, configuration or creation.
    pub fn wait(
        &mut self,
        reason: &str,
        message: String,
        retry_in: Duration,
        pull: bool,
        now: Now,
    ) {
        self.state = State::Waiting {
            reason: reason.to_owned(),
            message: Some(message),
            since: now.mono,
            retry_at: now.mono + retry_in,
            pull_failed: pull,
        };
    }
}
