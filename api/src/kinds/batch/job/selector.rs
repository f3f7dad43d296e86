//! The labels by which a Job finds its pods.
//!
//! Unless the Job says `manualSelector`, the server makes them: the name is for people, the uid tells apart. They stand
//! there twice, since there was a time before labels had prefixes.

use serde_json::{Map, Value};

use crate::kinds::apps::workload::{validate_label_selector, validate_selector_matches};
use crate::kinds::value::{Get, object_at, set};
use crate::kinds::{Errors, Path};
use crate::selector::LabelSelector;

/// The label with the Job's uid.
pub const CONTROLLER_UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
/// The label with the Job's name.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

const LEGACY_UID: &str = "controller-uid";
const LEGACY_NAME: &str = "job-name";

/// Adds the selector and the labels that it finds. Labels of the author stay, for validation to refuse.
pub(super) fn generate(job: &mut Value) {
    if job.at("spec").flag("manualSelector") {
        return;
    }
    let meta = job.at("metadata");
    let (name, uid) = (meta.text("name").to_owned(), meta.text("uid").to_owned());
    let Some(spec) = object_at(job, "spec") else {
        return;
    };
    if let Some(labels) = template_labels(spec) {
        add(labels, LEGACY_NAME, &name);
        add(labels, JOB_NAME_LABEL, &name);
        add(labels, LEGACY_UID, &uid);
        add(labels, CONTROLLER_UID_LABEL, &uid);
    }
    if let Some(selector) = object_at(spec, "selector")
        && let Some(labels) = object_at(selector, "matchLabels")
    {
        add(labels, CONTROLLER_UID_LABEL, &uid);
    }
}

/// Gives a Job a name that was found after its labels were made.
pub(super) fn rename(job: &mut Value, name: &str) {
    let manual = job.at("spec").flag("manualSelector");
    let before = job.at("metadata").text("name").to_owned();
    let Some(meta) = object_at(job, "metadata") else {
        return;
    };
    set(meta, "name", name);
    if manual {
        return;
    }
    let relabel = |labels: &mut Value| {
        for key in [LEGACY_NAME, JOB_NAME_LABEL] {
            if labels.opt_text(key) == Some(before.as_str()) {
                set(labels, key, name);
            }
        }
    };
    // The Job's own labels are those of its template when it has none.
    if let Some(labels) = meta.get_mut("labels") {
        relabel(labels);
    }
    if let Some(spec) = object_at(job, "spec")
        && let Some(labels) = template_labels(spec)
    {
        relabel(labels);
    }
}

/// Whether the template has the labels with a prefix, as all but the oldest Jobs have.
pub(super) fn has_prefixed_labels(job: &Value) -> bool {
    let labels = job.at("spec").at("template").at("metadata").at("labels");
    labels.has(CONTROLLER_UID_LABEL) && labels.has(JOB_NAME_LABEL)
}

/// Checks that what the server made is still there. `prefixed` asks for the labels with a prefix too.
pub(super) fn validate_generated(job: &Value, prefixed: bool, errors: &mut Errors) {
    let spec = job.at("spec");
    if spec.flag("manualSelector") || !spec.has("selector") {
        return;
    }
    let meta = job.at("metadata");
    let (name, uid) = (meta.text("name"), meta.text("uid"));
    if uid.is_empty() {
        errors.required(&Path::new("metadata.uid"), "");
    }
    let mut expected = vec![(LEGACY_UID, uid), (LEGACY_NAME, name)];
    if prefixed {
        expected.extend([(CONTROLLER_UID_LABEL, uid), (JOB_NAME_LABEL, name)]);
    }
    let labels = spec.at("template").at("metadata").at("labels");
    let path = Path::new("spec.template.metadata.labels");
    for (key, value) in &expected {
        let detail = format!("must be '{value}'");
        match labels.opt_text(key) {
            None => errors.required(&path.key(key), &detail),
            Some(found) if found != *value => errors.invalid(&path.key(key), labels, detail),
            Some(_) => {}
        }
    }
    let text = |(key, value): (&str, &str)| (key.to_owned(), Value::from(value));
    let expected: Map<String, Value> = expected.into_iter().map(text).collect();
    let selector = spec.at("selector");
    if LabelSelector::from_json(selector).is_ok_and(|selector| !selector.matches(&expected)) {
        let detail = "`selector` not auto-generated";
        errors.invalid(&Path::new("spec.selector"), selector, detail);
    }
}

/// Checks that there is a selector and that it finds the template's pods, whoever made it.
pub(super) fn validate(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec.selector");
    match spec.opt("selector") {
        None => errors.required(&path, ""),
        Some(selector) => validate_label_selector(selector, &path, errors),
    }
    validate_selector_matches(spec, errors);
}

fn template_labels(spec: &mut Value) -> Option<&mut Value> {
    let template = object_at(spec, "template")?;
    object_at(object_at(template, "metadata")?, "labels")
}

fn add(labels: &mut Value, key: &str, value: &str) {
    if !labels.has(key) {
        set(labels, key, value);
    }
}
