//! ReplicaSet: a number of pods from one template.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::workload::{
    validate_counts, validate_pod_template, validate_selector, validate_selector_stays,
};
use crate::kinds::core::pod;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, object_at, set};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, table,
};

/// `replicasets` of apps/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    list_kind: "ReplicaSetList",
    resource: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "replicasets",
    subresources: &[Subresource::scale(), Subresource::status("ReplicaSet")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::integer("Desired", "Pods wanted."),
        Column::integer("Current", "Pods that exist."),
        Column::integer("Ready", "Pods that are ready."),
        Column::AGE,
        Column::text("Containers", "Names of the template's containers.").wide(),
        Column::text("Images", "Images of the template's containers.").wide(),
        Column::text("Selector", "Labels of its pods.").wide(),
    ],
    strategy: &ReplicaSet,
};

struct ReplicaSet;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for ReplicaSet {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        default_to(spec, "replicas", 1);
        if let Some(template) = object_at(spec, "template") {
            pod::default_template(template);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({"replicas": 0}));
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        errors.non_negative(&path.child("replicas"), spec.int("replicas"));
        errors.non_negative(&path.child("minReadySeconds"), spec.int("minReadySeconds"));
        // Upstream has this word here too.
        validate_selector(spec, "deployment", errors);
        if spec.is_empty_at("template") {
            errors.required(&path.child("template"), "");
        } else {
            validate_pod_template(spec, "ReplicaSet", errors);
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_selector_stays(new, old, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_status_counts(new.at("status"), errors);
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        let replicas = object.at("status").int("replicas").unwrap_or(0);
        fields.add("status.replicas", replicas.to_string());
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        pod::warnings(
            object.at("spec").at("template").at("spec"),
            &Path::new("spec.template.spec"),
        )
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let (spec, status) = (object.at("spec"), object.at("status"));
        let (containers, images) = table::containers_and_images(spec.at("template").at("spec"));
        vec![
            meta.text("name").into(),
            spec.int("replicas").unwrap_or(0).into(),
            status.int("replicas").unwrap_or(0).into(),
            status.int("readyReplicas").unwrap_or(0).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            containers.into(),
            images.into(),
            table::label_selector(spec.at("selector")).into(),
        ]
    }
}

/// Checks the counts of pods in the status of a ReplicaSet, or of a ReplicationController, which has the same.
pub(crate) fn validate_status_counts(status: &Value, errors: &mut Errors) {
    validate_counts(
        status,
        &["replicas", "observedGeneration"],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "readyReplicas",
        errors,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, with};

    fn replica_set() -> Value {
        json!({
            "metadata": {"name": "web-1", "namespace": "b"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "nginx"}]},
                },
            },
        })
    }

    #[test]
    fn defaults_and_checks() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&ReplicaSet, replica_set()), none);
        let mut object = replica_set();
        ReplicaSet.default(&mut object);
        assert_eq!(object["spec"]["replicas"], 1);
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"],
            "Always"
        );
        let errors = create(
            &ReplicaSet,
            with(replica_set(), "/spec/selector", json!({})),
        );
        assert_eq!(
            errors,
            ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]
        );
    }

    #[test]
    fn status_counts_agree() {
        let new = with(
            replica_set(),
            "/status",
            json!({"replicas": 1, "readyReplicas": 2}),
        );
        let errors = ReplicaSet.validate_status_update(&new, &replica_set());
        assert_eq!(
            errors[0].to_string(),
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
        );
    }

    #[test]
    fn row() {
        let object = with(
            replica_set(),
            "/status",
            json!({"replicas": 2, "readyReplicas": 1}),
        );
        let row = ReplicaSet.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::Array(row),
            json!(["web-1", 0, 2, 1, "<unknown>", "c", "nginx", "app=web"])
        );
    }
}
