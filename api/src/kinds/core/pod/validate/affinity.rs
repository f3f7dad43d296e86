//! Affinity to nodes and to other pods.

use serde_json::Value;

use super::scheduling::topology_key;
use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks all three kinds of affinity.
pub(super) fn affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(node) = affinity.opt("nodeAffinity") {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if let Some(pods) = affinity.opt(kind) {
            pod_affinity(pods, &path.child(kind), errors);
        }
    }
}

fn node_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(required) = affinity.opt(REQUIRED) {
        node_selector(required, &path.child(REQUIRED), errors);
    }
    let at = path.child(PREFERRED);
    for (i, preferred) in affinity.list(PREFERRED).iter().enumerate() {
        let at = at.index(i);
        weight(preferred, &at, errors);
        node_term(preferred.at("preference"), &at.child("preference"), errors);
    }
}

/// Checks a selector of nodes, which has terms.
pub(crate) fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("nodeSelectorTerms");
    let terms = selector.list("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&at, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, &at.index(i), errors);
    }
}

fn weight(preferred: &Value, path: &Path<'_>, errors: &mut Errors) {
    let weight = preferred.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("matchExpressions");
    for (i, requirement) in term.list("matchExpressions").iter().enumerate() {
        expression(requirement, &at.index(i), errors);
    }
    let at = path.child("matchFields");
    for (i, requirement) in term.list("matchFields").iter().enumerate() {
        field(requirement, &at.index(i), errors);
    }
}

fn expression(requirement: &Value, path: &Path<'_>, errors: &mut Errors) {
    let values = requirement.list("values");
    let at = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if values.is_empty() {
                errors.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                errors.forbidden(
                    &at,
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
        }
        "Gt" | "Lt" => {
            if values.len() != 1 {
                errors.required(
                    &at,
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                );
            }
        }
        operator => errors.invalid(
            &path.child("operator"),
            operator,
            "not a valid selector operator",
        ),
    }
    let key = requirement.text("key");
    errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        errors.invalid_each(&at.index(i), value, names::label_value(value));
    }
}

fn field(requirement: &Value, path: &Path<'_>, errors: &mut Errors) {
    let values = requirement.list("values");
    let at = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&at, detail);
            }
        }
        operator => errors.invalid(
            &path.child("operator"),
            operator,
            "not a valid selector operator",
        ),
    }
    let key = requirement.text("key");
    if key != "metadata.name" {
        errors.invalid(&path.child("key"), key, "not a valid field selector key");
        return;
    }
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        errors.invalid_each(&at.index(i), value, names::subdomain(value, false));
    }
}

fn pod_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child(REQUIRED);
    for (i, term) in affinity.list(REQUIRED).iter().enumerate() {
        pod_term(term, &at.index(i), errors);
    }
    let at = path.child(PREFERRED);
    for (i, preferred) in affinity.list(PREFERRED).iter().enumerate() {
        let at = at.index(i);
        weight(preferred, &at, errors);
        pod_term(
            preferred.at("podAffinityTerm"),
            &at.child("podAffinityTerm"),
            errors,
        );
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_label_selector(
        term.at("labelSelector"),
        &path.child("labelSelector"),
        errors,
    );
    validate_label_selector(
        term.at("namespaceSelector"),
        &path.child("namespaceSelector"),
        errors,
    );
    let at = path.child("namespaces");
    for (i, namespace) in term.list("namespaces").iter().enumerate() {
        let namespace = namespace.as_str().unwrap_or("");
        errors.invalid_each(&at.index(i), namespace, names::label(namespace, false));
    }
    topology_key(term.text("topologyKey"), &path.child("topologyKey"), errors);
    for key in ["matchLabelKeys", "mismatchLabelKeys"] {
        let at = path.child(key);
        if !term.is_empty_at(key) && !term.has("labelSelector") {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
        }
        for (i, label) in term.list(key).iter().enumerate() {
            let label = label.as_str().unwrap_or("");
            errors.invalid_each(&at.index(i), label, names::qualified_name(label));
        }
    }
}
