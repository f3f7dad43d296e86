//! What several controllers ask of pods: conditions, readiness, activity, selectors, owner references. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_client::object::controller_of;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
};
use serde_json::{Value, json};

/// Index of objects by the uid of their managing owner.
pub const BY_CONTROLLER: &str = "controller";

/// The key of [`BY_CONTROLLER`].
pub fn controller_uid<T: corten_client::object::Cached>(object: &T) -> Vec<String> {
    controller_of(object.meta())
        .map(|owner| owner.uid.clone())
        .into_iter()
        .collect()
}

/// Whether the pod can still do work: not finished, not on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether all containers have ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The phase, `Pending` while there is none.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or("Pending")
}

/// A condition by its type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// Whether the Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// When the pod became ready, if it is.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether the pod has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    min_ready_seconds == 0
        || ready_since(pod).is_some_and(|since| {
            now.as_second() - since.as_second() >= i64::from(min_ready_seconds)
        })
}

/// When the first of these pods that is ready, but not for long enough, becomes available.
pub fn until_available<'a>(
    pods: impl Iterator<Item = &'a Pod>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Duration> {
    let limit = i64::from(min_ready_seconds);
    pods.filter_map(ready_since)
        .map(|since| limit - (now.as_second() - since.as_second()))
        .filter(|left| *left > 0)
        // A clock that went back must not make the wait longer than the limit.
        .map(|left| Duration::from_secs(u64::try_from(left.min(limit)).unwrap_or(1)))
        .min()
}

/// Whether a label selector takes these labels. An empty selector takes everything, as the API has it.
pub fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let get = |key: &str| labels.and_then(|labels| labels.get(key));
    let exact = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| get(key) == Some(value));
    exact
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|requirement| meets(requirement, get(&requirement.key)))
}

fn meets(requirement: &LabelSelectorRequirement, value: Option<&String>) -> bool {
    let listed = |value: &String| requirement.values.iter().flatten().any(|v| v == value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false, // validation lets no other in
    }
}

/// Whether a Service's map selector takes these labels. An empty one takes nothing.
pub fn selects_map(
    selector: &BTreeMap<String, String>,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// A pod out of a template, owned.
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    name: String,
    owner: OwnerReference,
) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The merge patch that makes `owner` the manager of an object with this uid.
pub fn adopt_patch(meta: &ObjectMeta, owner: &OwnerReference) -> Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.push(owner.clone());
    json!({"metadata": {"uid": meta.uid, "ownerReferences": owners}})
}

/// The merge patch that takes `owner` away from an object.
pub fn release_patch(meta: &ObjectMeta, owner_uid: &str) -> Value {
    let owners: Vec<_> = meta
        .owner_references
        .iter()
        .flatten()
        .filter(|owner| owner.uid != owner_uid)
        .collect();
    json!({"metadata": {"uid": meta.uid, "ownerReferences": owners}})
}

/// The letters that generated names are made of: no vowels, so that no words appear.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name out of bytes that make it unique: the same bytes give the same name.
pub fn short_name(seed: &[u8], length: usize) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(seed);
    digest
        .iter()
        .take(length)
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_follow_the_api() {
        let labels: BTreeMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
        let selector =
            |value: Value| -> LabelSelector { serde_json::from_value(value).expect("selector") };
        for (value, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
                false,
            ),
        ] {
            assert_eq!(
                selects(&selector(value.clone()), Some(&labels)),
                expected,
                "{value}"
            );
        }
        assert!(!selects_map(&BTreeMap::new(), Some(&labels)));
    }

    #[test]
    fn names_are_stable_and_short() {
        assert_eq!(short_name(b"x", 5), short_name(b"x", 5));
        assert_ne!(short_name(b"x", 5), short_name(b"y", 5));
        assert_eq!(short_name(b"x", 5).len(), 5);
    }
}
