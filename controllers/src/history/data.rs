//! What a revision records: a strategic merge patch that puts the owner's template back. `kubectl rollout undo` sends it as
//! it is, so its shape is upstream's. Pure.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

/// The lists of containers in a pod's spec.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The patch for a template. Keys are sorted, and containers have `resources` even if empty: so kubectl, which makes the
/// same patch of the live object to see whether there is anything to undo, gets the same bytes.
pub(crate) fn of(template: &PodTemplateSpec) -> Value {
    let mut template =
        serde_json::to_value(template).expect("templates have string keys and finite numbers only");
    for list in CONTAINERS {
        let containers = template["spec"]
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            container.entry("resources").or_insert_with(|| json!({}));
        }
    }
    template["$patch"] = json!("replace");
    let mut patch = json!({"spec": {"template": template}});
    patch.sort_all_objects();
    patch
}

/// The template that a revision puts back.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let template = revision.data.as_ref()?.0.pointer("/spec/template")?;
    serde_json::from_value(template.clone()).ok()
}

/// Whether a revision records this patch. Compared as templates: another writer may have left out what says nothing.
pub(crate) fn is_same(revision: &ControllerRevision, wanted: &Value) -> bool {
    let written = revision.data.as_ref().map(|data| &data.0);
    written == Some(wanted)
        || template_of(revision).is_some_and(|template| of(&template) == *wanted)
}

/// Whether two revisions record the same.
pub(crate) fn is_equal(a: &ControllerRevision, b: &ControllerRevision) -> bool {
    template_of(b).is_some_and(|template| is_same(a, &of(&template)))
}
