//! Job: pods that are to end well, so and so often.
//!
//! Invariant: unless its author chose the selector, a Job's selector finds its own pods and no others, by its uid.

mod policies;
mod selector;
mod status;
pub(crate) mod validate;

use jiff::Timestamp;
use serde_json::Value;

pub use self::selector::{CONTROLLER_UID_LABEL, JOB_NAME_LABEL};
use crate::kinds::apps::workload::pod_name_warning;
use crate::kinds::core::pod;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, items_at, object_at, set};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, table,
};

/// `jobs` of batch/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "batch",
    version: "v1",
    kind: "Job",
    list_kind: "JobList",
    resource: "jobs",
    singular: "job",
    short_names: &[],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "jobs",
    subresources: &[Subresource::status("Job")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Status", "How far it has come."),
        Column::text("Completions", "Pods that ended well out of those wanted."),
        Column::text("Duration", "Time from its start to its end, or until now."),
        Column::AGE,
        Column::text("Containers", "Names of the template's containers.").wide(),
        Column::text("Images", "Images of the template's containers.").wide(),
        Column::text("Selector", "Labels of its pods.").wide(),
    ],
    strategy: &Job,
};

/// More indexes than this cannot be followed when many of them fail.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
/// Pods at once that are too many for so many indexes.
const PARALLELISM_SOFT_MAX: i64 = 10_000;

struct Job;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for Job {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        default_template(spec);
        if !spec.has("completions") && !spec.has("parallelism") {
            set(spec, "completions", 1);
        }
        default_to(spec, "parallelism", 1);
        // Where each index has tries of its own, the sum is not to end the Job.
        let tries = if spec.has("backoffLimitPerIndex") {
            i32::MAX
        } else {
            6
        };
        default_to(spec, "backoffLimit", tries);
        default_to(spec, "completionMode", "NonIndexed");
        default_to(spec, "suspend", false);
        let replacement = if spec.has("podFailurePolicy") {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        default_to(spec, "podReplacementPolicy", replacement);
        default_to(spec, "manualSelector", false);
        default_labels(object);
    }

    fn init(&self, object: &mut Value) {
        object_at(object, "status");
        selector::generate(object);
        default_labels(object);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate::job(object, true, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate::job(new, selector::has_prefixed_labels(old), errors);
        validate::change(new, old, errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status::validate(new, old, errors);
    }

    fn warnings_of_new(&self, object: &Value) -> Vec<String> {
        pod_name_warning(object).into_iter().collect()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        spec_warnings(object.at("spec"), &Path::new("spec"))
    }

    fn set_generated_name(&self, object: &mut Value, name: &str) {
        selector::rename(object, name);
    }

    /// As it was before there was a garbage collector.
    fn orphans_by_default(&self) -> bool {
        true
    }

    fn deletion_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        let succeeded = object.at("status").int("succeeded").unwrap_or(0);
        fields.add("status.successful", succeeded.to_string());
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let (containers, images) = table::containers_and_images(spec.at("template").at("spec"));
        vec![
            meta.text("name").into(),
            state(object).into(),
            completions(object).into(),
            time_taken(object.at("status"), now).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            containers.into(),
            images.into(),
            table::label_selector(spec.at("selector")).into(),
        ]
    }
}

/// What the template of a Job gets that its author left out, be it in a Job or in a CronJob.
pub(super) fn default_template(spec: &mut Value) {
    if let Some(template) = object_at(spec, "template") {
        pod::default_template(template);
    }
    let Some(policy) = spec.get_mut("podFailurePolicy") else {
        return;
    };
    for rule in items_at(policy, "rules") {
        for pattern in items_at(rule, "onPodConditions") {
            default_to(pattern, "status", "True");
        }
    }
}

/// What is worth telling about the spec of a Job.
pub(super) fn spec_warnings(spec: &Value, path: &Path<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let count = |key: &str| spec.int(key).unwrap_or(0);
    if spec.text("completionMode") == "Indexed"
        && count("completions") > COMPLETIONS_SOFT_MAX
        && count("parallelism") > PARALLELISM_SOFT_MAX
    {
        found.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            path.to_field_path()
        ));
    }
    let pod_spec = spec.at("template").at("spec");
    found.extend(pod::warnings(pod_spec, &path.child("template.spec")));
    found
}

/// A Job without labels has those of its template.
fn default_labels(object: &mut Value) {
    let labels = object.at("spec").at("template").at("metadata").at("labels");
    if labels.as_object().is_none_or(serde_json::Map::is_empty)
        || !object.at("metadata").is_empty_at("labels")
    {
        return;
    }
    let labels = labels.clone();
    if let Some(meta) = object_at(object, "metadata") {
        set(meta, "labels", labels);
    }
}

fn state(object: &Value) -> &'static str {
    let is = |r#type| status::is_true(object.at("status"), r#type);
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if object.at("metadata").has("deletionTimestamp") {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(object: &Value) -> String {
    let spec = object.at("spec");
    let succeeded = object.at("status").int("succeeded").unwrap_or(0);
    match (spec.int("completions"), spec.int("parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(at_once)) if at_once > 1 => format!("{succeeded}/1 of {at_once}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn time_taken(status: &Value, now: Timestamp) -> String {
    let start = duration::parse(status.at("startTime"));
    let end = duration::parse(status.at("completionTime")).unwrap_or(now);
    start.map_or_else(String::new, |start| {
        duration::human(end.as_second() - start.as_second())
    })
}

#[cfg(test)]
mod tests;
