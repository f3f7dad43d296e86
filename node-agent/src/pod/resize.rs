//! Words for a change of a pod's size: what its node has promised it, what the node says to a wish, and what a container
//! has. Pure; who decides is `agent::allocation`, what follows from it is the machine's.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cgroup::GroupLimits;
use crate::spec::resources::group_of;
use crate::spec::{ContainerKind, containers, quantity};

/// Condition of a pod whose node does not give what is asked for, and says why.
pub const PENDING: &str = "PodResizePending";
/// Condition of a pod whose containers do not have yet what the node promised.
pub const IN_PROGRESS: &str = "PodResizeInProgress";
/// Reason of [`IN_PROGRESS`] when a try has failed.
pub const ERROR: &str = "Error";
const RESTART: &str = "RestartContainer";

/// What the node has promised to the containers of a pod whose size can change, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allocation(BTreeMap<String, ResourceRequirements>);

impl Allocation {
    /// What a pod asks for.
    pub fn of(pod: &Pod) -> Self {
        let sized = containers(pod)
            .into_iter()
            .filter(|(kind, _)| is_sized(*kind));
        let promised = |(_, container): (ContainerKind, Container)| {
            (container.name, container.resources.unwrap_or_default())
        };
        Self(sized.map(promised).collect())
    }

    /// The pod as the node lets it be. The same object when it asks for nothing else.
    pub fn onto(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if Self::of(pod) == *self {
            return pod.clone();
        }
        let mut pod = (**pod).clone();
        if let Some(spec) = &mut pod.spec {
            let sidecar = |c: &&mut Container| c.restart_policy.as_deref() == Some("Always");
            let init = spec.init_containers.iter_mut().flatten().filter(sidecar);
            for container in spec.containers.iter_mut().chain(init) {
                if let Some(promised) = self.0.get(&container.name) {
                    container.resources = Some(promised.clone());
                }
            }
        }
        Arc::new(pod)
    }
}

/// Whether containers of this kind can change their size while they run.
pub fn is_sized(kind: ContainerKind) -> bool {
    matches!(kind, ContainerKind::App | ContainerKind::Sidecar)
}

/// What the node says to the size that a pod asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It has it.
    Settled,
    Pending(Pending),
    Allocated {
        allocation: Allocation,
        /// Of the object that asked for it.
        generation: Option<i64>,
    },
}

/// A wish that the node does not fulfil, at least not now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub reason: Reason,
    pub message: String,
    pub generation: Option<i64>,
}

/// Why a wish waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Other pods take the room now.
    Deferred,
    /// The node is too small.
    Infeasible,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }

    /// The reason of the event that tells of it.
    pub fn event(self) -> &'static str {
        match self {
            Self::Deferred => "ResizeDeferred",
            Self::Infeasible => "ResizeInfeasible",
        }
    }
}

impl Pending {
    /// What an earlier agent said of the pod.
    pub fn shown(pod: &Pod) -> Option<Self> {
        let condition = condition(pod.status.as_ref()?, PENDING)?;
        let known = [Reason::Deferred, Reason::Infeasible].into_iter();
        let reason = known
            .into_iter()
            .find(|reason| Some(reason.name()) == condition.reason.as_deref())?;
        Some(Self {
            reason,
            message: condition.message.clone().unwrap_or_default(),
            generation: condition.observed_generation,
        })
    }
}

/// A resize that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub generation: Option<i64>,
    /// What went wrong in the last try.
    pub error: Option<String>,
}

impl Progress {
    /// What an earlier agent was at.
    pub fn shown(pod: &Pod) -> Option<Self> {
        let condition = condition(pod.status.as_ref()?, IN_PROGRESS)?;
        let failed = condition.reason.as_deref() == Some(ERROR);
        Some(Self {
            generation: condition.observed_generation,
            error: condition.message.clone().filter(|_| failed),
        })
    }
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> Option<&'a PodCondition> {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == name)
}

/// A container whose size changes while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizing {
    pub container: String,
    pub attempt: u32,
    pub from: ResourceRequirements,
    pub to: ResourceRequirements,
}

type Amounts = Option<BTreeMap<String, Quantity>>;

/// The numbers of a resource in a container: its request and its limit. Zero is none.
fn numbers(resources: &ResourceRequirements, name: &str) -> (i64, i64) {
    let of = |amounts: &Amounts| quantity::of(amounts.as_ref(), name).unwrap_or(0);
    (of(&resources.requests), of(&resources.limits))
}

/// Whether two containers with these resources are of one size.
pub fn same_size(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    ["cpu", "memory"]
        .into_iter()
        .all(|name| numbers(a, name) == numbers(b, name))
}

/// Whether a container that has `from` must restart to have what it is promised.
pub fn must_restart(container: &Container, from: &ResourceRequirements) -> bool {
    let to = container.resources.clone().unwrap_or_default();
    let policies = container.resize_policy.iter().flatten();
    policies
        .filter(|policy| policy.restart_policy == RESTART)
        .any(|policy| {
            let name = policy.resource_name.as_str();
            numbers(from, name) != numbers(&to, name)
        })
}

/// What a container has, by the limits that its group shows: what it was to get, what it had, or else a number.
pub fn present(
    sizing: &Sizing,
    shown: &GroupLimits,
    as_read: impl Fn(&GroupLimits) -> GroupLimits,
) -> ResourceRequirements {
    let (from, to) = (&sizing.from, &sizing.to);
    let (old, new) = (as_read(&group_of(from)), as_read(&group_of(to)));
    let mut has = to.clone();
    if shown.cpu_shares != new.cpu_shares && shown.cpu_shares == old.cpu_shares {
        take(&mut has.requests, &from.requests, "cpu");
    }
    if shown.cpu_quota_us != new.cpu_quota_us {
        let milli = shown.cpu_quota_us.map(|quota| format!("{}m", quota / 100));
        let other = shown.cpu_quota_us != old.cpu_quota_us;
        take_or(
            &mut has.limits,
            &from.limits,
            "cpu",
            milli.filter(|_| other),
        );
    }
    if shown.memory_bytes != new.memory_bytes {
        let bytes = shown.memory_bytes.map(|bytes| bytes.to_string());
        let other = shown.memory_bytes != old.memory_bytes;
        take_or(
            &mut has.limits,
            &from.limits,
            "memory",
            bytes.filter(|_| other),
        );
        // Memory that is only asked for stands in no group: it goes with the limit.
        take(&mut has.requests, &from.requests, "memory");
    }
    has
}

/// Makes one amount what it is in `from`.
fn take(to: &mut Amounts, from: &Amounts, name: &str) {
    match from.as_ref().and_then(|amounts| amounts.get(name)) {
        Some(amount) => {
            let amounts = to.get_or_insert_default();
            amounts.insert(name.to_owned(), amount.clone());
        }
        None => {
            if let Some(amounts) = to {
                amounts.remove(name);
            }
        }
    }
    if to.as_ref().is_some_and(BTreeMap::is_empty) {
        *to = None;
    }
}

fn take_or(to: &mut Amounts, from: &Amounts, name: &str, found: Option<String>) {
    match found {
        Some(found) => {
            let amounts = to.get_or_insert_default();
            amounts.insert(name.to_owned(), Quantity(found));
        }
        None => take(to, from, name),
    }
}

/// What an event about a resize says: the resources of all containers, for people and programs.
pub fn message(what: &str, pod: &Pod, generation: Option<i64>, error: Option<&str>) -> String {
    let list = |wanted: &[ContainerKind]| -> Vec<_> {
        let all = containers(pod).into_iter();
        all.filter(|(kind, _)| wanted.contains(kind))
            .map(|(_, container)| {
                json!({"name": container.name, "resources": container.resources.unwrap_or_default()})
            })
            .collect()
    };
    let init = list(&[ContainerKind::Init, ContainerKind::Sidecar]);
    let mut summary = serde_json::Map::new();
    for (key, list) in [
        ("initContainers", init),
        ("containers", list(&[ContainerKind::App])),
    ] {
        if !list.is_empty() {
            summary.insert(key.to_owned(), list.into());
        }
    }
    summary.insert("generation".to_owned(), generation.unwrap_or(0).into());
    if let Some(error) = error {
        summary.insert("error".to_owned(), error.into());
    }
    format!("Pod resize {what}: {}", serde_json::Value::Object(summary))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn resources(value: Value) -> ResourceRequirements {
        serde_json::from_value(value).expect("resources")
    }

    fn pod() -> Arc<Pod> {
        let spec = json!({
            "initContainers": [
                {"name": "i", "resources": {"limits": {"cpu": "1"}}},
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            ],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}}}],
        });
        Arc::new(serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a pod"))
    }

    #[test]
    fn the_promise_is_laid_over_the_wish() {
        let promised = Allocation::of(&pod());
        assert!(Arc::ptr_eq(&promised.onto(&pod()), &pod()) || promised.onto(&pod()) == pod());
        let mut wish = (*pod()).clone();
        let spec = wish.spec.as_mut().expect("a spec");
        let init = spec.init_containers.as_mut().expect("init containers");
        for container in init.iter_mut().chain(&mut spec.containers) {
            container.resources = Some(resources(json!({"requests": {"cpu": "9"}})));
        }
        init[0].resources = None;
        let wish = Arc::new(wish);
        let made = promised.onto(&wish);
        assert_eq!(Allocation::of(&made), promised);
        let spec = made.spec.as_ref().expect("a spec");
        let init = spec.init_containers.as_ref().expect("init containers");
        assert_eq!(init[0].resources, None, "its size is none of ours");
        let text = serde_json::to_string(&promised).expect("json");
        assert_eq!(
            serde_json::from_str::<Allocation>(&text).expect("itself"),
            promised
        );
    }

    #[test]
    fn a_restart_only_where_the_policy_of_what_changes_says_so() {
        let container: Container = serde_json::from_value(json!({
            "name": "c",
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
            "resizePolicy": [
                {"resourceName": "cpu", "restartPolicy": "NotRequired"},
                {"resourceName": "memory", "restartPolicy": "RestartContainer"},
            ],
        }))
        .expect("a container");
        for (from, same, restarts) in [
            (
                json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}}),
                true,
                false,
            ),
            (
                json!({"requests": {"cpu": "2", "memory": "1Gi"}}),
                false,
                false,
            ),
            (
                json!({"requests": {"cpu": "1", "memory": "2Gi"}}),
                false,
                true,
            ),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
                false,
                true,
            ),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1"}}),
                true,
                false,
            ),
        ] {
            let from = resources(from);
            let to = container.resources.clone().expect("resources");
            assert_eq!(same_size(&from, &to), same, "{from:?}");
            assert_eq!(must_restart(&container, &from), restarts, "{from:?}");
        }
    }

    #[test]
    fn what_a_group_shows_is_told_in_the_words_of_the_spec() {
        let old = json!({"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "200m", "memory": "2Mi"}});
        let new = json!({"requests": {"cpu": "0.3", "memory": "3Mi"}, "limits": {"cpu": "0.4", "memory": "4Mi"}});
        let sizing = Sizing {
            container: "c".to_owned(),
            attempt: 0,
            from: resources(old.clone()),
            to: resources(new.clone()),
        };
        let (before, after) = (group_of(&sizing.from), group_of(&sizing.to));
        let strange = GroupLimits {
            cpu_quota_us: Some(12_300),
            memory_bytes: None,
            ..after
        };
        let half = GroupLimits {
            memory_bytes: before.memory_bytes,
            ..after
        };
        for (shown, expected) in [
            (after, new.clone()),
            (before, old.clone()),
            (
                half,
                json!({"requests": {"cpu": "0.3", "memory": "1Mi"}, "limits": {"cpu": "0.4", "memory": "2Mi"}}),
            ),
            (
                strange,
                json!({"requests": {"cpu": "0.3", "memory": "1Mi"}, "limits": {"cpu": "123m", "memory": "2Mi"}}),
            ),
        ] {
            let found = present(&sizing, &shown, |limits| *limits);
            assert_eq!(found, resources(expected), "{shown:?}");
        }
    }

    #[test]
    fn events_tell_all_sizes() {
        assert_eq!(
            message("Deferred", &pod(), Some(3), Some("no room")),
            r#"Pod resize Deferred: {"initContainers":[{"name":"i","resources":{"limits":{"cpu":"1"}}},{"name":"s","resources":{"requests":{"cpu":"100m"}}}],"containers":[{"name":"c","resources":{"limits":{"cpu":"100m"},"requests":{"cpu":"50m"}}}],"generation":3,"error":"no room"}"#
        );
    }

    #[test]
    fn what_an_earlier_agent_said_is_read_back() {
        let with = |condition: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {}, "status": {"conditions": [condition]}}))
                .expect("a pod")
        };
        let pending = with(
            json!({"type": PENDING, "status": "True", "reason": "Deferred", "message": "m", "observedGeneration": 2}),
        );
        let expected = Pending {
            reason: Reason::Deferred,
            message: "m".to_owned(),
            generation: Some(2),
        };
        assert_eq!(Pending::shown(&pending), Some(expected));
        assert_eq!(Progress::shown(&pending), None);
        let failed = with(
            json!({"type": IN_PROGRESS, "status": "True", "reason": "Error", "message": "m", "observedGeneration": 2}),
        );
        let expected = Progress {
            generation: Some(2),
            error: Some("m".to_owned()),
        };
        assert_eq!(Progress::shown(&failed), Some(expected));
    }
}
