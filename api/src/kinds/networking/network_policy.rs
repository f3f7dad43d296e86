//! NetworkPolicy: which traffic the pods of a namespace may have.

mod validate;

use jiff::Timestamp;
use serde_json::Value;

use self::validate::{DIRECTIONS, validate_spec};
use super::GROUP;
use crate::kinds::addresses::range_warnings;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, items_at, object_at, set};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, table};

/// `networkpolicies` of networking.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "NetworkPolicy",
    list_kind: "NetworkPolicyList",
    resource: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    categories: &[],
    namespaced: true,
    storage_prefix: "networkpolicies",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Pod-Selector", "Pods that it is for."),
        Column::AGE,
    ],
    strategy: &NetworkPolicy,
};

struct NetworkPolicy;

static RULES: Rules = Rules {
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for NetworkPolicy {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        // An absent selector selects every pod, which the API always says aloud.
        object_at(spec, "podSelector");
        if spec.list("policyTypes").is_empty() {
            let types: &[&str] = if spec.list("egress").is_empty() {
                &["Ingress"]
            } else {
                &["Ingress", "Egress"]
            };
            set(spec, "policyTypes", types);
        }
        for (direction, _) in DIRECTIONS {
            for rule in items_at(spec, direction) {
                for port in items_at(rule, "ports").filter(|port| !port.has("protocol")) {
                    set(port, "protocol", "TCP");
                }
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object.at("spec"), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        let path = Path::new("spec");
        for (direction, peers) in DIRECTIONS {
            let at = path.child(direction);
            for (i, rule) in object.at("spec").list(direction).iter().enumerate() {
                let at = at.index(i);
                let at = at.child(peers);
                for (j, peer) in rule.list(peers).iter().enumerate() {
                    let at = at.index(j);
                    warnings.extend(block_warnings(peer.at("ipBlock"), &at.child("ipBlock")));
                }
            }
        }
        warnings
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            table::label_selector(object.at("spec").at("podSelector")).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn block_warnings(block: &Value, path: &Path<'_>) -> Vec<String> {
    let mut warnings = range_warnings(block.text("cidr"), &path.child("cidr"));
    let at = path.child("except");
    for (i, range) in block.list("except").iter().enumerate() {
        warnings.extend(range_warnings(range.as_str().unwrap_or(""), &at.index(i)));
    }
    warnings
}

#[cfg(test)]
mod tests;
