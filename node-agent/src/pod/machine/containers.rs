//! Which container is started, restarted or probed now: init containers in order, then the rest. Pure.

use super::{PodMachine, SHOW_ERROR};
use crate::pod::container::State;
use crate::pod::types::{Action, Now, Severity};
use crate::spec::ContainerKind;

impl PodMachine {
    pub(super) fn plan_containers(&mut self, now: Now) {
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
                    if !container.again {
                        container.backoff.tried(now.mono);
                    }
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

    pub(super) fn plan_probes(&mut self, now: Now) {
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
}
