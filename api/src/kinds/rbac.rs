//! The kinds of rbac.authorization.k8s.io, and what they share.

pub mod cluster_role;
pub mod cluster_role_binding;
pub mod role;
pub mod role_binding;

use jiff::Timestamp;
use serde_json::Value;

use super::duration;
use super::names;
use super::strategy::{NameRule, Rules};
use super::value::{Get, default_to, items_at, same};
use super::{Column, Errors, Path};
use crate::kinds::apps::workload::validate_label_selector;

/// Group of all four kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";

static NAMESPACED: Rules = Rules {
    name: NameRule::PathSegment,
    create_on_update: true,
    ..Rules::NAMESPACED
};
static CLUSTER: Rules = Rules {
    namespaced: false,
    ..NAMESPACED
};

const ROLE_COLUMNS: &[Column] = &[Column::NAME, Column::CREATED_AT];

const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Role", "Role that is granted."),
    Column::AGE,
    Column::text("Users", "Users it is granted to.").wide(),
    Column::text("Groups", "Groups it is granted to.").wide(),
    Column::text("ServiceAccounts", "Service accounts it is granted to.").wide(),
];

fn role_row(object: &Value) -> Vec<Value> {
    let meta = object.at("metadata");
    vec![
        meta.text("name").into(),
        meta.text("creationTimestamp").into(),
    ]
}

fn binding_row(object: &Value, now: Timestamp) -> Vec<Value> {
    let meta = object.at("metadata");
    let role = object.at("roleRef");
    let subjects = |kind: &str| -> String {
        let of_kind = object
            .list("subjects")
            .iter()
            .filter(|s| s.text("kind") == kind);
        let texts: Vec<String> = of_kind
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", s.text("namespace"), s.text("name")),
                _ => s.text("name").to_owned(),
            })
            .collect();
        texts.join(", ")
    };
    vec![
        meta.text("name").into(),
        format!("{}/{}", role.text("kind"), role.text("name")).into(),
        duration::age(meta.at("creationTimestamp"), now).into(),
        subjects("User").into(),
        subjects("Group").into(),
        subjects("ServiceAccount").into(),
    ]
}

fn default_binding(object: &mut Value) {
    if let Some(role) = object.get_mut("roleRef") {
        default_to(role, "apiGroup", GROUP);
    }
    for subject in items_at(object, "subjects") {
        match subject.text("kind") {
            "User" | "Group" => default_to(subject, "apiGroup", GROUP),
            _ => {}
        }
    }
}

fn validate_rules(object: &Value, namespaced: bool, errors: &mut Errors) {
    let path = Path::new("rules");
    for (i, rule) in object.list("rules").iter().enumerate() {
        validate_rule(rule, namespaced, &path.index(i), errors);
    }
}

fn validate_rule(rule: &Value, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    if rule.is_empty_at("verbs") {
        errors.required(
            &path.child("verbs"),
            "verbs must contain at least one value",
        );
    }
    if !rule.is_empty_at("nonResourceURLs") {
        let at = path.child("nonResourceURLs");
        if namespaced {
            errors.invalid(
                &at,
                rule.at("nonResourceURLs"),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        let resources = ["apiGroups", "resources", "resourceNames"];
        if resources.iter().any(|key| !rule.is_empty_at(key)) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&at, rule.at("nonResourceURLs"), detail);
        }
        return;
    }
    if rule.is_empty_at("apiGroups") {
        errors.required(
            &path.child("apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if rule.is_empty_at("resources") {
        errors.required(
            &path.child("resources"),
            "resource rules must supply at least one resource",
        );
    }
}

fn validate_aggregation(object: &Value, errors: &mut Errors) {
    let Some(aggregation) = object.opt("aggregationRule") else {
        return;
    };
    let path = Path::new("aggregationRule.clusterRoleSelectors");
    let selectors = aggregation.list("clusterRoleSelectors");
    if selectors.is_empty() {
        errors.required(
            &path,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        );
    }
    for (i, selector) in selectors.iter().enumerate() {
        let at = path.index(i);
        validate_label_selector(selector, &at, errors);
    }
}

fn validate_binding(object: &Value, roles: &[&str], namespaced: bool, errors: &mut Errors) {
    let role = object.at("roleRef");
    let path = Path::new("roleRef");
    if role.text("apiGroup") != GROUP {
        errors.not_supported(&path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
    }
    let kind = role.text("kind");
    if !roles.contains(&kind) {
        errors.not_supported(&path.child("kind"), kind, roles);
    }
    let name = role.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.invalid_each(&path.child("name"), name, names::path_segment(name, false));
    }
    let path = Path::new("subjects");
    for (i, subject) in object.list("subjects").iter().enumerate() {
        validate_subject(subject, namespaced, &path.index(i), errors);
    }
}

fn validate_subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = subject.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let group = subject.text("apiGroup");
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.invalid_each(&path.child("name"), name, names::subdomain(name, false));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            // A binding in a namespace means accounts of its own namespace when none is named.
            if !namespaced && subject.is_empty_at("namespace") {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        kind => errors.not_supported(
            &path.child("kind"),
            kind,
            &["ServiceAccount", "User", "Group"],
        ),
    }
}

fn validate_role_ref_stays(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(new.at("roleRef"), old.at("roleRef")) {
        errors.invalid(
            &Path::new("roleRef"),
            new.at("roleRef"),
            "cannot change roleRef",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn role(rules: Value) -> Value {
        json!({"metadata": {"name": "system:a", "namespace": "b"}, "rules": rules})
    }

    fn binding() -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "b"},
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [
                {"kind": "User", "name": "u"},
                {"kind": "Group", "name": "g"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
            ],
        })
    }

    #[test]
    fn rules_need_verbs_groups_and_resources() {
        let strategy = role::DESCRIPTOR.strategy;
        let none: Vec<String> = vec![];
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        assert_eq!(create(strategy, role(json!([rule]))), none);
        assert_eq!(
            create(strategy, role(json!([{}]))),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        assert_eq!(
            create(
                strategy,
                role(json!([{"verbs": ["get"], "nonResourceURLs": ["/x"]}]))
            ),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
            ]
        );
    }

    #[test]
    fn bindings_default_check_and_keep_their_role() {
        let strategy = role_binding::DESCRIPTOR.strategy;
        let none: Vec<String> = vec![];
        assert_eq!(create(strategy, binding()), none);
        let nowhere = || with(binding(), "/subjects/2/namespace", Value::Null);
        assert_eq!(create(strategy, nowhere()), none);
        let cluster = with(
            with(nowhere(), "/metadata/namespace", Value::Null),
            "/roleRef/kind",
            json!("ClusterRole"),
        );
        assert_eq!(
            create(cluster_role_binding::DESCRIPTOR.strategy, cluster),
            ["subjects[2].namespace: Required value"]
        );
        assert_eq!(
            create(strategy, with(binding(), "/roleRef/kind", json!("X"))),
            ["roleRef.kind: Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\""]
        );
        let errors = update(
            strategy,
            with(binding(), "/roleRef/name", json!("q")),
            binding(),
        );
        assert!(errors[0].ends_with("cannot change roleRef"), "{errors:?}");
    }

    #[test]
    fn rows() {
        let row = binding_row(&binding(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            ["a", "Role/r", "<unknown>", "u", "g", "n/s"].map(Value::from)
        );
        let object =
            json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z"}});
        assert_eq!(
            role_row(&object),
            ["a", "2024-01-01T00:00:00Z"].map(Value::from)
        );
    }
}
