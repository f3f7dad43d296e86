//! What makes a pod of a StatefulSet itself: its ordinal, and the name, host name and labels that follow from it. Pure.

use std::ops::Range;

use corten_client::object::controller_reference;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::rollout::Release;
use super::{name_of, replicas, storage};
use crate::pods;

/// Holds the pod's name, so that a Service can select a single pod.
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// Holds the ordinal.
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
/// Holds the name of the revision that the pod was made of.
const REVISION_LABEL: &str = "controller-revision-hash";

/// The set's part and the number of a pod's name.
fn split(pod: &Pod) -> Option<(&str, &str)> {
    let name = pod.metadata.name.as_deref()?;
    let (parent, number) = name.rsplit_once('-')?;
    let numeric = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    numeric.then_some((parent, number))
}

/// The ordinal in a pod's name; none in a name that has no number, or one too large.
pub(super) fn ordinal(pod: &Pod) -> Option<i32> {
    split(pod)?.1.parse().ok()
}

/// Whether a pod's name is one of the set's.
pub(super) fn is_member(set: &StatefulSet, pod: &Pod) -> bool {
    split(pod).is_some_and(|(parent, _)| parent == name_of(set))
}

/// The first ordinal.
pub(super) fn start(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    ordinals.and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// The ordinals that shall have a pod.
pub(super) fn ordinals(set: &StatefulSet) -> Range<i32> {
    let start = start(set);
    start..start.saturating_add(replicas(set).max(0))
}

/// The name of an ordinal's pod.
pub(super) fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", name_of(set))
}

/// The name of the revision that a pod was made of, "" if it does not say.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(REVISION_LABEL))
        .map_or("", String::as_str)
}

/// The pod of an ordinal, of this release.
pub(super) fn new_pod(set: &StatefulSet, release: &Release, ordinal: i32) -> Pod {
    let name = pod_name(set, ordinal);
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let owner = controller_reference(set);
    let mut pod = pods::from_template(&release.template, namespace, name.clone(), owner);
    pod.metadata.generate_name = Some(format!("{}-", name_of(set)));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(REVISION_LABEL.to_owned(), release.name.clone());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    let service = set.spec.as_ref().and_then(|s| s.service_name.clone());
    spec.subdomain = service.filter(|service| !service.is_empty());
    storage::mount(set, spec, ordinal);
    pod
}

/// Whether a pod carries its own name as a label. The name itself is right, or the pod would not be the set's.
pub(super) fn is_labelled(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(NAME_LABEL)) == pod.metadata.name.as_ref()
}

/// The merge patch that gives a pod the labels of its identity.
pub(super) fn label_patch(pod: &Pod, ordinal: i32) -> Value {
    let labels = json!({NAME_LABEL: pod.metadata.name, INDEX_LABEL: ordinal.to_string()});
    json!({"metadata": {"uid": pod.metadata.uid, "labels": labels}})
}
