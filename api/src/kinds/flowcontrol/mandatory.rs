//! The objects that flow control cannot be without: what is never held back, and what takes all that nothing else takes.
//!
//! Servers make them, and act as if they were there when they are not. Invariant: defaults change nothing in them.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::GROUP;

/// Name of the schema and of the level for requests that are never held back.
pub const EXEMPT: &str = "exempt";
/// Name of the schema and of the level for requests that nothing else matches.
pub const CATCH_ALL: &str = "catch-all";
/// Annotation that says whether servers may bring the spec back to what they know.
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// A FlowSchema that servers look after.
pub fn schema_object(name: &str, spec: Value) -> Value {
    object("FlowSchema", name, spec)
}

/// A PriorityLevelConfiguration that servers look after.
pub fn level_object(name: &str, spec: Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}},
        "spec": spec,
    })
}

/// The mandatory FlowSchemas, in the order in which they match.
pub fn schemas() -> &'static [Value; 2] {
    static SCHEMAS: LazyLock<[Value; 2]> = LazyLock::new(|| {
        let exempt = json!({
            "priorityLevelConfiguration": {"name": EXEMPT},
            "matchingPrecedence": 1,
            "rules": [everything(&["system:masters"])],
        });
        let catch_all = json!({
            "priorityLevelConfiguration": {"name": CATCH_ALL},
            "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [everything(&["system:unauthenticated", "system:authenticated"])],
        });
        [
            schema_object(EXEMPT, exempt),
            schema_object(CATCH_ALL, catch_all),
        ]
    });
    &SCHEMAS
}

/// The mandatory PriorityLevelConfigurations.
pub fn levels() -> &'static [Value; 2] {
    static LEVELS: LazyLock<[Value; 2]> = LazyLock::new(|| {
        let exempt = json!({
            "type": "Exempt",
            "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
        });
        let catch_all = json!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5,
                "limitResponse": {"type": "Reject"},
                "lendablePercent": 0,
            },
        });
        [
            level_object(EXEMPT, exempt),
            level_object(CATCH_ALL, catch_all),
        ]
    });
    &LEVELS
}

/// The fixed spec of an object by that name.
pub(super) fn fixed_spec(objects: &'static [Value], name: &str) -> Option<&'static Value> {
    let named = |object: &&Value| object["metadata"]["name"] == name;
    objects.iter().find(named).map(|object| &object["spec"])
}

fn everything(groups: &[&str]) -> Value {
    let subject = |group: &&str| json!({"kind": "Group", "group": {"name": group}});
    json!({
        "subjects": groups.iter().map(subject).collect::<Vec<_>>(),
        "resourceRules": [{
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
        }],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

#[cfg(test)]
mod tests {
    use super::super::{flow_schema, priority_level_configuration};
    use super::*;
    use crate::kinds::errors::testing::create;

    #[test]
    fn what_is_mandatory_is_good_and_whole() {
        let none: Vec<String> = vec![];
        let kinds = [
            (&flow_schema::DESCRIPTOR, schemas()),
            (&priority_level_configuration::DESCRIPTOR, levels()),
        ];
        for (descriptor, objects) in kinds {
            for object in objects {
                let mut defaulted = object.clone();
                descriptor.strategy.default(&mut defaulted);
                assert_eq!(defaulted["spec"], object["spec"]);
                assert_eq!(create(descriptor.strategy, object.clone()), none);
            }
        }
    }
}
