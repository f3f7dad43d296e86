//! The pods that a Job makes, and what it writes on pods.

use std::collections::BTreeMap;

use corten_client::client::Patch;
use corten_client::object::controller_reference;
use corten_client::runner::Action;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use serde_json::json;

use super::FINALIZER;
use super::failure_policy::judge;
use super::sync::is_indexed;
use crate::pods;

/// Annotation and label with the completion index.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation: how many pods of the index failed before this one.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation: how many pods of the index failed before this one and do not count.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The variable that tells a container its index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// The longest name in front of the random letters.
const PREFIX_MAX: usize = 58;

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// The completion index of a pod.
pub(super) fn index(pod: &Pod) -> Option<i32> {
    let index = annotation(pod, INDEX)?.parse().ok()?;
    (index >= 0).then_some(index)
}

/// Users can write annotations: what is no number counts as none.
fn number(pod: &Pod, key: &str) -> i32 {
    let number = annotation(pod, key).and_then(|text| text.parse::<i32>().ok());
    number.unwrap_or(0).max(0)
}

/// How many pods of the index failed before this one and count.
pub(super) fn failures(pod: &Pod) -> i32 {
    number(pod, FAILURES)
}

/// How many pods of the index failed before this one.
pub(super) fn all_failures(pod: &Pod) -> i32 {
    number(pod, FAILURES).saturating_add(number(pod, IGNORED))
}

/// Takes our finalizer off.
pub(super) fn untrack(pod: &Pod) -> Action {
    let patch = json!({"metadata": {
        "uid": pod.metadata.uid,
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
    }});
    Action::patch(pod, Patch::Strategic(patch))
}

/// A new pod.
pub(super) struct New<'a> {
    pub(super) job: &'a Job,
    pub(super) spec: &'a JobSpec,
    /// Which one of this run.
    pub(super) number: usize,
    pub(super) index: Option<i32>,
    /// The failed pod of the same index.
    pub(super) replaces: Option<&'a Pod>,
    pub(super) now: Timestamp,
}

impl New<'_> {
    pub(super) fn pod(&self) -> Pod {
        let namespace = self.job.metadata.namespace.as_deref().unwrap_or_default();
        let owner = controller_reference(self.job);
        let mut pod = pods::from_template(&self.spec.template, namespace, self.name(), owner);
        let finalizers = pod.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|held| held == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        if is_indexed(self.spec) {
            tell_index(&mut pod);
        }
        if let Some(index) = self.index {
            self.mark(&mut pod, index);
        }
        pod
    }

    fn name(&self) -> String {
        let meta = &self.job.metadata;
        let (base, uid) = (
            meta.name.as_deref().unwrap_or_default(),
            meta.uid.as_deref().unwrap_or_default(),
        );
        let middle = self
            .index
            .map_or("-".to_owned(), |index| format!("-{index}-"));
        let base = crate::truncated(base, PREFIX_MAX - middle.len());
        // Unique over time and owners; a collision fails the create, and the next run has another time.
        let seed = format!("{uid}/{}/{}", self.now.as_nanosecond(), self.number);
        format!("{base}{middle}{}", pods::short_name(seed.as_bytes(), 5))
    }

    fn mark(&self, pod: &mut Pod, index: i32) {
        let text = index.to_string();
        let meta = &mut pod.metadata;
        let labels = meta.labels.get_or_insert_default();
        labels.insert(INDEX.to_owned(), text.clone());
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(INDEX.to_owned(), text);
        if self.spec.backoff_limit_per_index.is_some() {
            self.carry_failures(annotations);
        }
        let name = self.job.metadata.name.as_deref().unwrap_or_default();
        pod.spec.get_or_insert_default().hostname = Some(format!("{name}-{index}"));
    }

    /// The failures of an index go from pod to pod.
    fn carry_failures(&self, annotations: &mut BTreeMap<String, String>) {
        let (mut counted, mut ignored) = (0, 0);
        if let Some(failed) = self.replaces {
            (counted, ignored) = (failures(failed), number(failed, IGNORED));
            match judge(self.spec.pod_failure_policy.as_ref(), failed).counts() {
                true => counted = counted.saturating_add(1),
                false => ignored = ignored.saturating_add(1),
            }
        }
        annotations.insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.to_owned(), ignored.to_string());
        }
    }
}

/// Lets all containers know the index, but for those that have a variable of that name.
fn tell_index(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    let inits = spec.init_containers.iter_mut().flatten();
    for container in inits.chain(&mut spec.containers) {
        tell_container(container);
    }
}

fn tell_container(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|held| held.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.labels['{INDEX}']"),
    };
    variables.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    });
}
