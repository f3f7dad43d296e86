//! Bringing containers to the size that the node has promised: in place where they may stay, by a restart where their
//! policy says so. Pure; like everything planned here it looks at where things stand, so that a try that failed, or that an
//! earlier agent began, is simply made again.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Part, PodMachine};
use crate::cgroup::GroupLimits;
use crate::pod::resize::{
    ERROR, IN_PROGRESS, PENDING, Pending, Progress, Sizing, Verdict, is_sized, message,
    must_restart, same_size,
};
use crate::pod::types::{Action, Now, Severity};
use crate::spec;
use crate::spec::resources::of_pod;

/// The next try after one that failed: memory may have been given back by then.
const RETRY: Duration = Duration::from_secs(10);

/// Where the size of a pod stands.
#[derive(Clone, Debug)]
pub struct Resize {
    /// What the node does not give.
    pub pending: Option<Pending>,
    /// What it has promised and is at.
    pub progress: Option<Progress>,
    /// The limits that the pod's own group was given; None when nobody knows.
    group: Option<GroupLimits>,
    /// A try is being made.
    working: bool,
    /// Something else was promised while a try was made: what comes of it is not about that.
    outdated: bool,
    retry_at: Duration,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq)]
pub struct Resized {
    /// What each container has now, by name and attempt.
    pub present: BTreeMap<(String, u32), ResourceRequirements>,
    /// The limits that the pod's group was to get.
    pub group: GroupLimits,
    pub error: Option<String>,
}

impl Resize {
    pub(super) fn of(pod: &k8s_openapi::api::core::v1::Pod) -> Self {
        Self {
            pending: Pending::shown(pod),
            progress: Progress::shown(pod),
            group: Some(of_pod(pod, None)),
            working: false,
            outdated: false,
            retry_at: Duration::ZERO,
        }
    }

    /// An earlier agent may have ended in the middle of a change.
    pub fn doubt_group(&mut self) {
        self.group = None;
    }

    pub(super) fn retry_at(&self) -> Duration {
        self.retry_at
    }
}

impl PodMachine {
    /// Takes what the node says to the size that the pod asks for.
    pub(super) fn take_verdict(&mut self, verdict: Verdict, now: Now) {
        self.resize.pending = None;
        match verdict {
            Verdict::Settled => {}
            Verdict::Pending(pending) => self.resize.pending = Some(pending),
            Verdict::Allocated {
                allocation,
                generation,
            } => {
                self.resize.progress = Some(Progress {
                    generation,
                    error: None,
                });
                self.resize.retry_at = now.mono;
                self.resize.outdated = self.resize.working;
                self.pod = allocation.onto(&self.pod);
                self.allocation = allocation;
                for (_, container) in spec::containers(&self.pod) {
                    if let Some(at) = self.position(&container.name) {
                        self.containers[at].spec = container;
                    }
                }
            }
        }
    }

    /// Takes what came of a try.
    pub(super) fn resized(&mut self, result: Resized, now: Now) {
        self.resize.working = false;
        let outdated = std::mem::take(&mut self.resize.outdated);
        for ((name, attempt), has) in result.present {
            if let Some(at) = self.current(&name, attempt) {
                self.containers[at].resources = has;
            }
        }
        let Some(error) = result.error else {
            self.resize.group = Some(result.group);
            return;
        };
        self.resize.group = None;
        if outdated {
            return;
        }
        self.resize.retry_at = now.mono + RETRY;
        let generation = self.pod.metadata.generation;
        let progress = self.resize.progress.get_or_insert(Progress {
            generation,
            error: None,
        });
        if progress.error.as_ref() == Some(&error) {
            return;
        }
        progress.error = Some(error.clone());
        let text = message("error", &self.pod, progress.generation, Some(&error));
        self.report(Severity::Warning, "ResizeError", text, None);
    }

    /// The pod's group is made anew, of the size that is promised now.
    pub(super) fn group_is_made(&mut self) {
        self.resize.group = Some(of_pod(&self.pod, None));
    }

    /// Ends the runs that cannot be resized in place; the next ones begin with what is promised.
    pub(super) fn plan_resize_restarts(&mut self, now: Now) {
        if self.stop.is_some() {
            return;
        }
        let grace = self.grace();
        for at in 0..self.containers.len() {
            let container = &self.containers[at];
            if self.is_resized(at) && must_restart(&container.spec, &container.resources) {
                let name = container.name().to_owned();
                let text = format!("Container {name} resize requires restart");
                self.report(Severity::Normal, "Killing", text, Some(&name));
                self.containers[at].again = true;
                self.stop_container(at, grace, "", now);
            }
        }
    }

    /// Whether a container runs, is to go on, and has another size than promised.
    fn is_resized(&self, at: usize) -> bool {
        let container = &self.containers[at];
        let stays = container.run().is_some_and(|run| run.stop.is_none());
        let promised = container.spec.resources.clone().unwrap_or_default();
        stays && is_sized(container.kind) && !same_size(&container.resources, &promised)
    }

    /// Starts a try where one is due, and notes that all is done where it is.
    pub(super) fn plan_resize(&mut self, now: Now) {
        let resized = (0..self.containers.len()).filter(|at| self.is_resized(*at));
        let sizings: Vec<Sizing> = resized.map(|at| self.sizing(at)).collect();
        let group =
            self.sandbox == Part::Ready && self.resize.group != Some(of_pod(&self.pod, None));
        if sizings.is_empty() && !group {
            if !self.resize.working && !self.containers.iter().any(|c| c.again) {
                self.resize_done();
            }
            return;
        }
        if !sizings.is_empty() && self.resize.progress.is_none() {
            self.resize.progress = Some(Progress {
                generation: self.pod.metadata.generation,
                error: None,
            });
        }
        let ready = self.sandbox == Part::Ready && self.resize.retry_at <= now.mono;
        if ready && !self.resize_holds() {
            self.resize.working = true;
            self.actions.push(Action::Resize {
                containers: sizings,
            });
        }
    }

    fn sizing(&self, at: usize) -> Sizing {
        let container = &self.containers[at];
        Sizing {
            container: container.name().to_owned(),
            attempt: container.restart_count,
            from: container.resources.clone(),
            to: container.spec.resources.clone().unwrap_or_default(),
        }
    }

    fn resize_done(&mut self) {
        if let Some(progress) = self.resize.progress.take() {
            let text = message("completed", &self.pod, progress.generation, None);
            self.report(Severity::Normal, "ResizeCompleted", text, None);
        }
    }

    /// Whether no container may start: the pod's own group is about to change, and must not be smaller than they are.
    pub(super) fn resize_holds(&self) -> bool {
        let stopping = |c: &super::ContainerMachine| c.again && c.run().is_some();
        self.resize.working || self.containers.iter().any(stopping)
    }

    /// The conditions that tell of it, with the times of those that said the same before.
    pub(crate) fn resize_conditions(&self, now: Now) -> Vec<PodCondition> {
        let pending = self.resize.pending.as_ref().map(|pending| {
            let message = Some(pending.message.clone());
            let reason = Some(pending.reason.name());
            (PENDING, reason, message, pending.generation)
        });
        let progress = self.resize.progress.as_ref().map(|progress| {
            let reason = progress.error.as_ref().map(|_| ERROR);
            (
                IN_PROGRESS,
                reason,
                progress.error.clone(),
                progress.generation,
            )
        });
        let make = |(name, reason, message, generation): (&str, Option<&str>, _, _)| {
            let old = self
                .shown
                .iter()
                .find(|c| c.type_ == name && c.reason.as_deref() == reason);
            let since = old.and_then(|c| c.last_transition_time.clone());
            PodCondition {
                type_: name.to_owned(),
                status: "True".to_owned(),
                reason: reason.map(str::to_owned),
                message,
                last_probe_time: None,
                last_transition_time: Some(since.unwrap_or(Time(now.wall))),
                observed_generation: generation,
            }
        };
        pending.into_iter().chain(progress).map(make).collect()
    }
}
