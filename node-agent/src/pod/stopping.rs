//! How a pod and its containers are brought to a stop: who first, with how much grace, and when to lose patience. Pure.

use std::time::Duration;

use super::container::{ContainerMachine, State, Stop};
use super::machine::{Part, PodMachine, positive_seconds};
use super::types::{Action, Now, Severity};
use crate::spec::ContainerKind;

/// After a preStop hook used up the grace period, a container still gets this long between TERM and KILL.
const GRACE_MIN: Duration = Duration::from_secs(2);
/// SIGKILL is repeated this often: the supervisor's socket may have been full.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// The pod as a whole is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodStop {
    pub deadline: Duration,
    pub deleted: bool,
}

impl PodMachine {
    /// Decides whether the pod as a whole must stop, and how soon.
    pub(super) fn plan_stop(&mut self, now: Now) {
        if self.is_deleted() {
            let asked = self.pod.metadata.deletion_grace_period_seconds;
            // An object that is gone already leaves nothing to wait for but the container's own reaction.
            let grace = if self.removed {
                positive_seconds(1)
            } else {
                asked.map_or_else(|| self.grace(), positive_seconds)
            };
            let deadline = now.mono + grace;
            match &mut self.stop {
                Some(stop) => {
                    stop.deleted = true;
                    stop.deadline = stop.deadline.min(deadline);
                }
                None => {
                    self.stop = Some(PodStop {
                        deadline,
                        deleted: true,
                    })
                }
            }
            return;
        }
        if self.stop.is_none() && (self.failed.is_some() || self.is_frozen() || self.is_complete())
        {
            // Memory that is short cannot wait for a grace period.
            let grace = if self.is_evicted() {
                positive_seconds(1)
            } else {
                self.grace()
            };
            self.stop = Some(PodStop {
                deadline: now.mono + grace,
                deleted: false,
            });
        }
    }

    /// The API showed a terminal phase before this agent knew the pod: it never runs again.
    pub fn is_frozen(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Every app container has ended for good, or an init container has failed for good.
    pub(super) fn is_complete(&self) -> bool {
        let policy = self.restart_policy();
        let over = |container: &ContainerMachine| {
            container
                .ended()
                .is_some_and(|e| !container.restarts(policy, e.exit.exit_code))
        };
        let init_failed = self.containers.iter().any(|container| {
            container.kind == ContainerKind::Init
                && over(container)
                && container.ended().is_some_and(|e| e.exit.exit_code != 0)
        });
        let mut apps = self
            .containers
            .iter()
            .filter(|c| c.kind == ContainerKind::App)
            .peekable();
        init_failed || apps.peek().is_some() && apps.all(over)
    }

    /// Begins to end one container. A second call can only shorten the wait.
    pub(super) fn stop_container(&mut self, at: usize, grace: Duration, why: &str, now: Now) {
        let container = &mut self.containers[at];
        let (name, attempt) = (container.name().to_owned(), container.restart_count);
        let hook = container
            .spec
            .lifecycle
            .as_ref()
            .and_then(|l| l.pre_stop.clone());
        let Some(run) = container.run_mut() else {
            return;
        };
        let deadline = now.mono + grace;
        if let Some(stop) = &mut run.stop {
            stop.deadline = stop.deadline.min(deadline);
            return;
        }
        let hook = hook.filter(|_| !grace.is_zero());
        run.stop = Some(Stop {
            deadline,
            pre_stop_pending: hook.is_some(),
            terminated: false,
            killed: false,
        });
        if why == "pod" {
            self.report(
                Severity::Normal,
                "Killing",
                format!("Stopping container {name}"),
                Some(&name),
            );
        } else if why == "FailedPostStartHook" {
            let text = format!("{why}: container {name} is stopped");
            self.report(Severity::Normal, "Killing", text, Some(&name));
        }
        if let Some(hook) = hook {
            self.actions.push(Action::PreStop {
                container: name,
                attempt,
                hook,
                timeout: grace,
            });
        }
    }

    pub(super) fn pre_stop_done(&mut self, name: &str, attempt: u32, error: Option<String>) {
        let Some(at) = self.position(name) else {
            return;
        };
        let container = &mut self.containers[at];
        if container.restart_count != attempt {
            return;
        }
        if let Some(stop) = container.run_mut().and_then(|run| run.stop.as_mut()) {
            stop.pre_stop_pending = false;
        }
        if let Some(error) = error {
            let text = format!("PreStopHook failed: {error}");
            self.report(Severity::Warning, "FailedPreStopHook", text, Some(name));
        }
    }

    /// Moves every container that is being ended: hook, TERM, KILL.
    pub(super) fn plan_container_stops(&mut self, now: Now) {
        if self.stop.is_some() {
            self.stop_all(now);
        }
        for container in &mut self.containers {
            let name = container.name().to_owned();
            let Some(run) = container.run_mut() else {
                continue;
            };
            let id = run.id.clone();
            let Some(stop) = &mut run.stop else { continue };
            if stop.pre_stop_pending && now.mono < stop.deadline {
                continue;
            }
            if !stop.terminated {
                let immediate = now.mono >= stop.deadline && !stop.pre_stop_pending;
                stop.terminated = true;
                if !immediate {
                    stop.deadline = stop.deadline.max(now.mono + GRACE_MIN);
                    self.actions.push(Action::Terminate {
                        container: name,
                        id,
                    });
                    stop.pre_stop_pending = false;
                    continue;
                }
            }
            if now.mono >= stop.deadline {
                stop.killed = true;
                stop.deadline = now.mono + KILL_AGAIN;
                self.actions.push(Action::Kill {
                    container: name,
                    id,
                });
            }
        }
    }

    /// App, init and ephemeral containers first; then sidecars, the last started first.
    fn stop_all(&mut self, now: Now) {
        let Some(stop) = self.stop else { return };
        let grace = stop.deadline.saturating_sub(now.mono);
        let mut blocked = false;
        for at in 0..self.containers.len() {
            if self.containers[at].kind != ContainerKind::Sidecar {
                self.stop_container(at, grace, "pod", now);
                blocked |= self.containers[at].kind == ContainerKind::App
                    && !is_quiet(&self.containers[at]);
            }
        }
        for at in self.positions(ContainerKind::Sidecar).into_iter().rev() {
            if blocked && now.mono < stop.deadline {
                return;
            }
            self.stop_container(at, grace.max(GRACE_MIN), "pod", now);
            blocked |= !is_quiet(&self.containers[at]);
        }
    }

    /// Once nothing runs: sandbox and volumes go, then the object.
    pub(super) fn plan_take_down(&mut self, now: Now) {
        if !self.containers.iter().all(is_quiet) {
            return;
        }
        if is_due(&self.sandbox, now) {
            self.sandbox = Part::Removing;
            self.actions.push(Action::RemoveSandbox);
        }
        if is_due(&self.volumes, now) {
            self.volumes = Part::Removing;
            self.actions.push(Action::TeardownVolumes);
        }
        let deleted = self.stop.is_some_and(|stop| stop.deleted);
        if deleted && self.sandbox == Part::Gone && self.volumes == Part::Gone {
            self.finished = true;
            self.actions.push(Action::Finish);
        }
    }

    /// Moments at which stopping needs attention.
    pub(super) fn stop_times(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.stop.iter().map(|stop| stop.deadline).collect();
        times.extend(
            self.containers
                .iter()
                .filter_map(|c| Some(c.run()?.stop.as_ref()?.deadline)),
        );
        times
    }
}

/// Nothing of it runs or is about to. A pull does not count: its result is ignored.
fn is_quiet(container: &ContainerMachine) -> bool {
    container.is_quiet() || container.state == State::Pulling
}

/// A part that must go now; also one that was never seen complete, for half of it may be there.
fn is_due(part: &Part, now: Now) -> bool {
    match part {
        Part::Ready => true,
        Part::Absent { retry_at } => *retry_at <= now.mono,
        Part::Making | Part::Removing | Part::Gone => false,
    }
}
