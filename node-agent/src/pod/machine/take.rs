//! Taking events: each changes the state it is about, and nothing is planned here. What is not about the current attempt of
//! a container is dropped.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{PART_RETRY, Part, PodMachine};
use crate::eviction::REASON as EVICTED;
use crate::pod::container::{CONFIG_RETRY, ContainerMachine, State};
use crate::pod::types::{Event, Now, Severity};
use crate::spec;

impl PodMachine {
    /// The container, if the event is about its current attempt.
    pub(super) fn current(&self, name: &str, attempt: u32) -> Option<usize> {
        self.position(name)
            .filter(|at| self.containers[*at].restart_count == attempt)
    }

    pub(super) fn take(&mut self, event: Event, now: Now) {
        match event {
            Event::Updated(pod) => self.update(pod, now),
            Event::Removed => self.removed = true,
            Event::Rejected { reason, message } => {
                self.report(Severity::Warning, reason.clone(), message.clone(), None);
                self.failed.get_or_insert((reason, message));
            }
            Event::Evicted { message } => {
                self.report(Severity::Warning, EVICTED, message.clone(), None);
                self.failed.get_or_insert((EVICTED.to_owned(), message));
            }
            Event::Resize(verdict) => self.take_verdict(verdict, now),
            Event::Resized(result) => self.resized(*result, now),
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

    /// A new version of the object: images, tolerations, deadlines and ephemeral containers may have changed. Resources are
    /// what was promised, whatever it asks for.
    fn update(&mut self, pod: Arc<Pod>, now: Now) {
        let pod = self.allocation.onto(&pod);
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
}
