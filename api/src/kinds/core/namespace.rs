//! Namespace: a scope for names, and the unit of deletion for everything in it.
//!
//! Invariant: `spec.finalizers` changes only through the `finalize` subresource.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kinds::descriptor::{GET_PATCH_UPDATE, NO_COLLECTION_VERBS};
use crate::kinds::object_meta::{self, validate_finalizer};
use crate::kinds::strategy::{NameRule, keep_but_metadata, keep_system_metadata};
use crate::kinds::value::{Get, keep, object_at, set};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};

/// `namespaces` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "Namespace",
    list_kind: "NamespaceList",
    resource: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    namespaced: false,
    storage_prefix: "namespaces",
    subresources: &[
        Subresource::own("finalize", "Namespace", &["update"]),
        Subresource::own("status", "Namespace", GET_PATCH_UPDATE),
    ],
    verbs: NO_COLLECTION_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Status", "Active, or Terminating while it is emptied."),
        Column::AGE,
    ],
    strategy: &Namespace,
};

/// The label that lets selectors name a namespace.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that stands for the namespace controller's work.
pub const FINALIZER: &str = "kubernetes";

/// Marks a namespace that is being deleted: the phase tells everybody that nothing new may be made in it.
pub fn begin_termination(namespace: &mut Value) {
    if let Some(status) = object_at(namespace, "status") {
        set(status, "phase", "Terminating");
    }
}

/// Whether the namespace controller is done, so that the object itself may go.
pub fn is_finalized(namespace: &Value) -> bool {
    namespace.at("spec").is_empty_at("finalizers")
}

struct Namespace;

static RULES: Rules = Rules {
    name: NameRule::Label,
    status: true,
    ..Rules::CLUSTER
};

impl Strategy for Namespace {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let name = object.at("metadata").text("name").to_owned();
        // A generated name is not known yet; `init` runs again once it is.
        if !name.is_empty()
            && let Some(labels) =
                object_at(object, "metadata").and_then(|meta| object_at(meta, "labels"))
        {
            set(labels, NAME_LABEL, name);
        }
    }

    fn init(&self, object: &mut Value) {
        self.default(object);
        if let Some(spec) = object_at(object, "spec") {
            let mut finalizers = spec.list("finalizers").to_vec();
            if !finalizers.iter().any(|f| f.as_str() == Some(FINALIZER)) {
                finalizers.push(FINALIZER.into());
            }
            set(spec, "finalizers", finalizers);
        }
        set(object, "status", json!({"phase": "Active"}));
    }

    fn carry_over(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("spec.finalizers");
        for finalizer in object.at("spec").list("finalizers") {
            validate_finalizer(finalizer.as_str().unwrap_or(""), &path, errors);
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let phase = new.at("status").text("phase");
        let deleting = new.at("metadata").has("deletionTimestamp");
        let path = Path::new("status.Phase");
        if !deleting && phase != "Active" {
            errors.invalid(
                &path,
                phase,
                "may only be 'Active' if `deletionTimestamp` is empty",
            );
        }
        if deleting && phase != "Terminating" {
            errors.invalid(
                &path,
                phase,
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            );
        }
    }

    fn prepare_for_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value) {
        keep_but_metadata(new, old, &["spec"]);
        keep_system_metadata(new, old);
    }

    fn validate_subresource_update(
        &self,
        _subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Errors::new();
        object_meta::validate_update(new, old, &mut errors);
        let path = Path::new("spec.finalizers");
        for (i, finalizer) in new.at("spec").list("finalizers").iter().enumerate() {
            validate_finalizer(
                finalizer.as_str().unwrap_or(""),
                &path.index(i),
                &mut errors,
            );
        }
        errors.finish()
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        fields.add("status.phase", object.at("status").text("phase"));
        // Kept for clients from before fields were qualified.
        fields.add("name", object.at("metadata").text("name"));
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            object.at("status").text("phase").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, update};

    #[test]
    fn new_namespaces_are_active_and_named_by_label() {
        let mut object = json!({"metadata": {"name": "a"}, "status": {"phase": "Nonsense"}});
        Namespace.default(&mut object);
        Namespace.prepare_for_create(&mut object);
        assert_eq!(
            object,
            json!({
                "metadata": {"name": "a", "labels": {NAME_LABEL: "a"}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            })
        );
        let none: Vec<String> = vec![];
        assert_eq!(create(&Namespace, object), none);
        let errors = create(&Namespace, json!({"metadata": {"name": "a.b"}}));
        assert!(
            errors[0].starts_with("metadata.name: Invalid value: \"a.b\""),
            "{errors:?}"
        );
    }

    #[test]
    fn finalizers_change_only_through_finalize() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
        let mut new = json!({"metadata": {"name": "a"}, "spec": {"finalizers": []}});
        let none: Vec<String> = vec![];
        assert_eq!(update(&Namespace, new.clone(), old.clone()), none);
        let mut finalized = new.clone();
        Namespace.prepare_for_update(&mut new, &old);
        assert!(!is_finalized(&new));
        Namespace.prepare_for_subresource_update("finalize", &mut finalized, &old);
        assert!(is_finalized(&finalized));
    }

    #[test]
    fn phase_goes_with_deletion() {
        let old = json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}});
        let mut new = old.clone();
        begin_termination(&mut new);
        let errors: Vec<String> = Namespace
            .validate_status_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
            ]
        );
    }
}
