//! Priority and default tolerations of new pods.
//!
//! Invariant: a pod's priority is a number that the scheduler need not look up; who names a class that does not exist is
//! told so.

use corten_api::status::Status;
use serde_json::{Value, json};

use super::{Admission, Review};
use crate::registry::Registry;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const PREEMPT_LOWER: &str = "PreemptLowerPriority";

/// Resolves the priority class.
pub(super) fn set_priority(
    registry: &Registry,
    review: &Review<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let Some(cache) = registry
        .caches()
        .named("scheduling.k8s.io", "priorityclasses")
    else {
        return Ok(());
    };
    let classes = cache.snapshot();
    let named = pod["spec"]["priorityClassName"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    let class = if named.is_empty() {
        // Should there be several defaults, the lowest does the least harm.
        let defaults = classes
            .iter()
            .map(|item| item.value())
            .filter(|class| class["globalDefault"] == true);
        defaults.min_by_key(|class| class["value"].as_i64().unwrap_or(0))
    } else {
        let found = classes.get("", &named).map(|item| item.value());
        Some(found.ok_or_else(|| {
            review
                .target
                .forbidden(&format!("no PriorityClass with name {named} was found"))
        })?)
    };
    let priority = class
        .as_ref()
        .and_then(|class| class["value"].as_i64())
        .unwrap_or(0);
    let given = pod["spec"]["priority"].as_i64();
    if given.is_some_and(|given| given != priority) {
        return Err(review.target.forbidden(&format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name",
            given.unwrap_or_default()
        )));
    }
    let policy = class
        .as_ref()
        .and_then(|class| class["preemptionPolicy"].as_str())
        .unwrap_or(PREEMPT_LOWER);
    let policy = policy.to_owned();
    if let Some(name) = class
        .as_ref()
        .and_then(|class| class["metadata"]["name"].as_str())
    {
        pod["spec"]["priorityClassName"] = name.into();
    }
    pod["spec"]["priority"] = priority.into();
    match pod["spec"]["preemptionPolicy"].as_str() {
        Some(given) if given != policy => {
            return Err(review.target.forbidden(&format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        Some(_) => {}
        None => pod["spec"]["preemptionPolicy"] = policy.into(),
    }
    Ok(())
}

/// Without these, pods would leave a node the moment it stops answering.
pub(super) fn add_default_tolerations(admission: &Admission, pod: &mut Value) {
    let Some(spec) = pod["spec"].as_object_mut() else {
        return;
    };
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if tolerations.is_null() {
        *tolerations = json!([]);
    }
    let Some(list) = tolerations.as_array_mut() else {
        return;
    };
    for (key, seconds) in [
        (NOT_READY, admission.not_ready_toleration_seconds),
        (UNREACHABLE, admission.unreachable_toleration_seconds),
    ] {
        let tolerated = list.iter().any(|toleration| {
            let keys = toleration["key"].as_str().unwrap_or("");
            let effect = toleration["effect"].as_str().unwrap_or("");
            (keys.is_empty() || keys == key) && matches!(effect, "" | "NoExecute")
        });
        if !tolerated {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
            }));
        }
    }
}
