//! ResourceClaimTemplate: claims that are made for each pod of its own.

use serde_json::Value;

use super::claim_spec::{default_spec, drop_disabled, refuse_admin_access, validate_spec};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::object_meta::validate_bare_template;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, object_at};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy};

/// `resourceclaimtemplates` of resource.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "resource.k8s.io",
    version: "v1",
    kind: "ResourceClaimTemplate",
    list_kind: "ResourceClaimTemplateList",
    resource: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "resourceclaimtemplates",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[Column::NAME, Column::AGE],
    strategy: &ResourceClaimTemplate,
};

struct ResourceClaimTemplate;

static RULES: Rules = Rules::NAMESPACED;

fn claim(object: &mut Value) -> Option<&mut Value> {
    object.pointer_mut("/spec/spec")
}

impl Strategy for ResourceClaimTemplate {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        claim(object).map(default_spec);
        if let Some(spec) = object_at(object, "spec") {
            object_at(spec, "metadata");
        }
    }

    fn init(&self, object: &mut Value) {
        claim(object).map(drop_disabled);
    }

    fn carry_over(&self, new: &mut Value, _old: &Value) {
        claim(new).map(drop_disabled);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("spec");
        let spec = object.at("spec");
        validate_bare_template(spec.at("metadata"), &path.child("metadata"), errors);
        validate_spec(spec.at("spec"), &path.child("spec"), errors);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        refuse_admin_access(object.at("spec").at("spec"), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        immutable(new.at("spec"), old.at("spec"), &Path::new("spec"), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn template() -> Value {
        let request = json!({"name": "gpu", "exactly": {"deviceClassName": "gpu"}});
        json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"metadata": {"labels": {"a": "b"}},
               "spec": {"devices": {"requests": [request]}}}})
    }

    #[test]
    fn templates_are_checked_and_stay() {
        let none: Vec<String> = vec![];
        let strategy = &ResourceClaimTemplate;
        assert_eq!(create(strategy, template()), none);
        assert_eq!(
            create(
                strategy,
                with(template(), "/spec/metadata/name", json!("a"))
            ),
            ["spec.metadata.name: Forbidden: cannot be set"]
        );
        let unnamed = with(
            template(),
            "/spec/spec/devices/requests/0/name",
            json!("gpu-2"),
        );
        let found = update(strategy, unnamed, template());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("field is immutable"), "{found:?}");
    }

    #[test]
    fn defaults_and_row() {
        let mut object = template();
        ResourceClaimTemplate.default(&mut object);
        let exactly = &object["spec"]["spec"]["devices"]["requests"][0]["exactly"];
        assert_eq!(
            *exactly,
            json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1})
        );
        let row = ResourceClaimTemplate.row(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(Value::Array(row), json!(["a", "<unknown>"]));
    }
}
