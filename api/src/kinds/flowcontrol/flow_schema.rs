//! FlowSchema: which requests belong together, and which priority level they go through.

mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::validate::validate_spec;
use super::mandatory::{fixed_spec, schemas};
use super::{GROUP, validate_conditions};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{Generation, keep_client_metadata};
use crate::kinds::value::{Get, object_at, same, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};

/// `flowschemas` of flowcontrol.apiserver.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "FlowSchema",
    list_kind: "FlowSchemaList",
    resource: "flowschemas",
    singular: "flowschema",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "flowschemas",
    subresources: &[Subresource::status("FlowSchema")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("PriorityLevel", "Level that its requests go through."),
        Column::text("MatchingPrecedence", "Lower numbers are tried first."),
        Column::text("DistinguisherMethod", "What tells its flows apart."),
        Column::AGE,
        Column::text("MissingPL", "Whether the level does not exist."),
    ],
    strategy: &FlowSchema,
};

/// Where a schema stands when nothing is said.
const DEFAULT_PRECEDENCE: i64 = 1000;

struct FlowSchema;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::CLUSTER
};

impl Strategy for FlowSchema {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        if spec.int("matchingPrecedence").unwrap_or(0) == 0 {
            set(spec, "matchingPrecedence", DEFAULT_PRECEDENCE);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({}));
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        keep_client_metadata(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let name = object.at("metadata").text("name");
        let spec = object.at("spec");
        validate_spec(name, spec, errors);
        if let Some(fixed) = fixed_spec(schemas(), name)
            && !same(spec, fixed)
        {
            let detail = format!("spec of '{name}' must equal the fixed value");
            errors.invalid(&Path::new("spec"), spec, detail);
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_conditions(new.at("status"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let method = spec.at("distinguisherMethod").opt_text("type");
        let conditions = object.at("status").list("conditions");
        let dangling = conditions.iter().find(|c| c.text("type") == "Dangling");
        vec![
            meta.text("name").into(),
            spec.at("priorityLevelConfiguration").text("name").into(),
            spec.int("matchingPrecedence").unwrap_or(0).into(),
            method.unwrap_or("<none>").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            dangling.map_or("?", |c| c.text("status")).into(),
        ]
    }
}

#[cfg(test)]
mod tests;
