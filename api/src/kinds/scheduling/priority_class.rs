//! PriorityClass: a name for how important a pod is.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration};

/// `priorityclasses` of scheduling.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "scheduling.k8s.io",
    version: "v1",
    kind: "PriorityClass",
    list_kind: "PriorityClassList",
    resource: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    categories: &[],
    namespaced: false,
    storage_prefix: "priorityclasses",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::integer("Value", "Priority of its pods; higher is more important."),
        Column::boolean("Global-Default", "Whether pods without a class get it."),
        Column::AGE,
        Column::text("PreemptionPolicy", "Whether its pods may displace others."),
    ],
    strategy: &PriorityClass,
};

/// The highest priority that users may give.
pub const USER_PRIORITY_MAX: i64 = 1_000_000_000;
/// The classes that exist in every cluster, with their values. They may exceed the users' maximum.
pub const SYSTEM_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-node-critical",
        2 * USER_PRIORITY_MAX + 1000,
        "Pods without which a node does not work.",
    ),
    (
        "system-cluster-critical",
        2 * USER_PRIORITY_MAX,
        "Pods without which the cluster does not work.",
    ),
];

/// The built-in classes as objects, to be made at the first start.
pub fn system_classes() -> Vec<Value> {
    let class = |(name, value, description): &(&str, i64, &str)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    SYSTEM_CLASSES.iter().map(class).collect()
}

struct PriorityClass;

static RULES: Rules = Rules {
    generation: Generation::Content,
    ..Rules::CLUSTER
};

impl Strategy for PriorityClass {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        default_to(object, "preemptionPolicy", "PreemptLowerPriority");
        default_to(object, "value", 0);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        let name = object.at("metadata").text("name");
        let value = object.int("value").unwrap_or(0);
        if name.starts_with("system-") {
            let known = SYSTEM_CLASSES
                .iter()
                .any(|(n, v, _)| *n == name && *v == value && !object.flag("globalDefault"));
            if !known {
                let detail = "priority class names with 'system-' prefix are reserved for system use only. error: \
                              only system classes of the server may use it";
                errors.forbidden(&Path::new("metadata.name"), detail);
            }
        } else if value > USER_PRIORITY_MAX {
            let detail =
                format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
            errors.forbidden(&Path::new("value"), detail);
        }
        let policy = object.text("preemptionPolicy");
        errors.one_of(
            &Path::new("preemptionPolicy"),
            policy,
            &["PreemptLowerPriority", "Never"],
        );
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if new.int("value").unwrap_or(0) != old.int("value").unwrap_or(0) {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        if new.text("preemptionPolicy") != old.text("preemptionPolicy") {
            errors.invalid(
                &Path::new("preemptionPolicy"),
                new.at("preemptionPolicy"),
                "field is immutable",
            );
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let policy = match object.text("preemptionPolicy") {
            "" => "PreemptLowerPriority",
            policy => policy,
        };
        vec![
            meta.text("name").into(),
            object.int("value").unwrap_or(0).into(),
            object.flag("globalDefault").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            policy.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, update};

    fn class(name: &str, value: i64) -> Value {
        json!({"metadata": {"name": name}, "value": value})
    }

    #[test]
    fn values_are_bounded_and_system_names_reserved() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&PriorityClass, class("a", 1)), none);
        assert_eq!(
            create(&PriorityClass, class("a", USER_PRIORITY_MAX + 1)),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
        assert_eq!(create(&PriorityClass, class("system-mine", 1)).len(), 1);
        for built_in in system_classes() {
            assert_eq!(create(&PriorityClass, built_in), none);
        }
    }

    #[test]
    fn values_stay() {
        assert_eq!(
            update(&PriorityClass, class("a", 2), class("a", 1)),
            ["value: Forbidden: may not be changed in an update."]
        );
    }

    #[test]
    fn row() {
        let row = PriorityClass.row(&class("a", 7), Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            [
                json!("a"),
                json!(7),
                json!(false),
                json!("<unknown>"),
                json!("PreemptLowerPriority")
            ]
        );
    }
}
