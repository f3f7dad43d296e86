//! HorizontalPodAutoscaler: how many replicas a workload shall have, by what its pods use. This is autoscaling/v2,
//! the form that is stored; `v1` shows the same objects in the words of the older version.
//!
//! Invariant: no stored object carries the annotations in which the older version keeps what it has no fields for.

pub mod v1;

mod convert;
mod row;
mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::validate::{Options, validate_spec};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, default_to, object_at, set};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource};

/// `horizontalpodautoscalers` of autoscaling/v2.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    list_kind: "HorizontalPodAutoscalerList",
    resource: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "horizontalpodautoscalers",
    subresources: &[Subresource::status("HorizontalPodAutoscaler")],
    verbs: ALL_VERBS,
    columns: COLUMNS,
    strategy: &HorizontalPodAutoscaler,
};

/// The columns of both versions.
const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Reference", "What is scaled."),
    Column::text("Targets", "Each metric as it is and as it shall be."),
    Column::text("MinPods", "Fewest replicas."),
    Column::text("MaxPods", "Most replicas."),
    Column::text("Replicas", "Replicas at last count."),
    Column::AGE,
];

/// Utilization of the CPU that is aimed at when nothing else is said, in percent.
const DEFAULT_CPU_PERCENT: i64 = 80;

struct HorizontalPodAutoscaler;

/// The rules of both versions.
static RULES: Rules = Rules {
    status: true,
    ..Rules::NAMESPACED
};

impl Strategy for HorizontalPodAutoscaler {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        // Here every fact has a field, so a stale copy in an annotation could only mislead.
        convert::drop_annotations(object);
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        default_to(spec, "minReplicas", 1);
        if spec.list("metrics").is_empty() {
            set(
                spec,
                "metrics",
                vec![cpu_utilization(DEFAULT_CPU_PERCENT.into())],
            );
        }
        if spec.has("behavior")
            && let Some(behavior) = object_at(spec, "behavior")
        {
            default_rules(behavior, "scaleUp", default_up());
            default_rules(behavior, "scaleDown", default_down());
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({"desiredReplicas": 0}));
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object.at("spec"), Options::of(object, None), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec(new.at("spec"), Options::of(new, Some(old)), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let status = new.at("status");
        let path = Path::new("status");
        for key in ["currentReplicas", "desiredReplicas"] {
            errors.non_negative(&path.child(key), status.int(key));
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        row::row(object, now)
    }
}

/// The metric that aims at a utilization of the CPU.
fn cpu_utilization(percent: Value) -> Value {
    json!({
        "type": "Resource",
        "resource": {
            "name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent},
        },
    })
}

/// Up: at once, and by four pods or to twice as many every 15 seconds, whichever is more.
fn default_up() -> Value {
    json!({
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    })
}

/// Down: as far as the metrics say; how long to wait before is the controller's own default.
fn default_down() -> Value {
    json!({
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    })
}

/// Fills the rules of one direction. Policies are taken as a whole or not at all.
fn default_rules(behavior: &mut Value, direction: &str, defaults: Value) {
    let Some(rules) = object_at(behavior, direction) else {
        return;
    };
    let Value::Object(defaults) = defaults else {
        return;
    };
    for (key, value) in defaults {
        default_to(rules, &key, value);
    }
}

#[cfg(test)]
mod tests;
