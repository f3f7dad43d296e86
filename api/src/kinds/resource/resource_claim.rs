//! ResourceClaim: somebody asks for devices, and the scheduler notes which ones it got and who uses them.
//!
//! Invariant: what is asked for never changes, and what was given stays until it is given back whole.

mod status;

use jiff::Timestamp;
use serde_json::Value;

use self::status::{drop_stale, validate_status};
use super::claim_spec::{default_spec, drop_disabled, refuse_admin_access, validate_spec};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{immutable, keep_client_metadata};
use crate::kinds::value::{Get, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};

/// `resourceclaims` of resource.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "resource.k8s.io",
    version: "v1",
    kind: "ResourceClaim",
    list_kind: "ResourceClaimList",
    resource: "resourceclaims",
    singular: "resourceclaim",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "resourceclaims",
    subresources: &[Subresource::status("ResourceClaim")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text(
            "State",
            "Whether it has devices, and whether they are in use.",
        ),
        Column::AGE,
    ],
    strategy: &ResourceClaim,
};

struct ResourceClaim;

static RULES: Rules = Rules {
    status: true,
    ..Rules::NAMESPACED
};

impl Strategy for ResourceClaim {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        object.get_mut("spec").map(default_spec);
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", serde_json::json!({}));
        object.get_mut("spec").map(drop_disabled);
    }

    fn carry_over(&self, new: &mut Value, _old: &Value) {
        new.get_mut("spec").map(drop_disabled);
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        keep_client_metadata(new, old);
        drop_stale(new, old);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        refuse_admin_access(object.at("spec"), errors);
        validate_spec(object.at("spec"), &Path::new("spec"), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        immutable(new.at("spec"), old.at("spec"), &Path::new("spec"), errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_status(new, old, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            state(object).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn state(object: &Value) -> String {
    let deleted = object.at("metadata").has("deletionTimestamp");
    let status = object.at("status");
    let mut words = Vec::new();
    if deleted {
        words.push("deleted");
    }
    if status.has("allocation") {
        words.push("allocated");
        if !status.is_empty_at("reservedFor") {
            words.push("reserved");
        }
    } else if !deleted {
        words.push("pending");
    }
    words.join(",")
}

#[cfg(test)]
mod tests;
