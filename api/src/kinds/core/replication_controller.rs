//! ReplicationController: the elder of ReplicaSet, with a plain map as its selector.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::apps::replica_set::validate_status_counts;
use crate::kinds::apps::workload::{pod_name_warning, validate_pod_template};
use crate::kinds::core::pod;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, object_at, set};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, table,
};

/// `replicationcontrollers` of v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "ReplicationController",
    list_kind: "ReplicationControllerList",
    resource: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "controllers",
    subresources: &[
        Subresource::scale(),
        Subresource::status("ReplicationController"),
    ],
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
    strategy: &ReplicationController,
};

struct ReplicationController;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for ReplicationController {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let labels = object.at("spec").at("template").at("metadata").at("labels");
        let labels = labels.clone();
        if let Some(spec) = object_at(object, "spec") {
            default_to(spec, "replicas", 1);
            if let Some(template) = object_at(spec, "template") {
                pod::default_template(template);
            }
            if !labels.is_null() && spec.is_empty_at("selector") {
                set(spec, "selector", labels.clone());
            }
        }
        if let Some(metadata) = object_at(object, "metadata")
            && !labels.is_null()
            && metadata.is_empty_at("labels")
        {
            set(metadata, "labels", labels);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({"replicas": 0}));
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        errors.non_negative(&path.child("minReadySeconds"), spec.int("minReadySeconds"));
        if spec.is_empty_at("selector") {
            errors.required(&path.child("selector"), "");
        }
        errors.non_negative(&path.child("replicas"), spec.int("replicas"));
        if spec.is_empty_at("template") {
            errors.required(&path.child("template"), "");
            return;
        }
        let spec = json!({
            "selector": {"matchLabels": spec.at("selector")},
            "template": spec.at("template"),
        });
        validate_pod_template(&spec, "ReplicationController", errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_status_counts(new.at("status"), errors);
    }

    /// As it was before there was a garbage collector.
    fn orphans_by_default(&self) -> bool {
        true
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        let replicas = object.at("status").int("replicas").unwrap_or(0);
        fields.add("status.replicas", replicas.to_string());
    }

    fn warnings_of_new(&self, object: &Value) -> Vec<String> {
        pod_name_warning(object).into_iter().collect()
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
        let selector = json!({"matchLabels": spec.at("selector")});
        vec![
            meta.text("name").into(),
            spec.int("replicas").unwrap_or(0).into(),
            status.int("replicas").unwrap_or(0).into(),
            status.int("readyReplicas").unwrap_or(0).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            containers.into(),
            images.into(),
            table::label_selector(&selector).into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, with};

    fn controller() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "b"},
            "spec": {
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
                },
            },
        })
    }

    #[test]
    fn labels_and_selector_come_from_the_template() {
        let mut object = controller();
        ReplicationController.default(&mut object);
        assert_eq!(object["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(object["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(object["spec"]["replicas"], 1);
        let mut own = with(controller(), "/spec/selector", json!({"x": "y"}));
        ReplicationController.default(&mut own);
        assert_eq!(own["spec"]["selector"], json!({"x": "y"}));
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&ReplicationController, controller()), none);
        let cases = [
            (
                "/spec/selector",
                json!({"app": "other"}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ),
            (
                "/spec/replicas",
                json!(-1),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "/spec/template/metadata",
                json!({}),
                "spec.selector: Required value",
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(5),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is \
                 not Supported",
            ),
        ];
        for (pointer, value, expected) in cases {
            assert_eq!(
                create(&ReplicationController, with(controller(), pointer, value)),
                [expected],
                "{pointer}"
            );
        }
    }

    #[test]
    fn names_that_are_no_labels_are_warned_of() {
        let none: Vec<String> = vec![];
        assert_eq!(ReplicationController.warnings_of_new(&controller()), none);
        let dotted = with(controller(), "/metadata/name", json!("a.b"));
        let warnings = ReplicationController.warnings_of_new(&dotted);
        assert!(
            warnings[0].starts_with("metadata.name: this is used in Pod names and hostnames,"),
            "{warnings:?}"
        );
    }

    #[test]
    fn row() {
        let mut object = with(
            controller(),
            "/status",
            json!({"replicas": 2, "readyReplicas": 1}),
        );
        ReplicationController.default(&mut object);
        let row = ReplicationController.row(&object, Timestamp::UNIX_EPOCH);
        let expected = json!(["web", 1, 2, 1, "<unknown>", "c", "nginx:1", "app=web"]);
        assert_eq!(Value::Array(row), expected);
    }
}
