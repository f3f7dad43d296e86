//! LimitRange: bounds and defaults for what containers, pods and claims of a namespace may ask for.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, items_at, object_at};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, names};
use crate::quantity::{Format, Quantity};

/// `limitranges` of v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "LimitRange",
    list_kind: "LimitRangeList",
    resource: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    categories: &[],
    namespaced: true,
    storage_prefix: "limitranges",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[Column::NAME, Column::CREATED_AT],
    strategy: &LimitRange,
};

/// The amounts of an item.
const MAPS: [&str; 5] = [
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];

/// What limits may be about, besides names with a domain.
const TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];

struct LimitRange;

static RULES: Rules = Rules::NAMESPACED;

impl Strategy for LimitRange {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        for item in items_at(spec, "limits") {
            if item.text("type") == "Container" {
                // A limit is the highest allowed, a request is the limit, or the lowest allowed.
                inherit(item, "default", "max");
                inherit(item, "defaultRequest", "default");
                inherit(item, "defaultRequest", "min");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("spec.limits");
        let mut types = BTreeSet::new();
        for (i, item) in object.at("spec").list("limits").iter().enumerate() {
            let path = path.index(i);
            let kind = item.text("type");
            errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
            if !kind.contains('/') && !TYPES.contains(&kind) {
                let detail = "must be a standard limit type or fully qualified";
                errors.invalid(&path.child("type"), kind, detail);
            }
            if !types.insert(kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            validate_item(item, &path, errors);
        }
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            meta.text("creationTimestamp").into(),
        ]
    }
}

fn inherit(item: &mut Value, to: &str, from: &str) {
    let given = item.at(from).as_object().cloned().unwrap_or_default();
    if given.is_empty() {
        return;
    }
    if let Some(held) = object_at(item, to).and_then(Value::as_object_mut) {
        for (name, amount) in given {
            held.entry(name).or_insert(amount);
        }
    }
}

fn validate_item(item: &Value, path: &Path<'_>, errors: &mut Errors) {
    let kind = item.text("type");
    let mut names = BTreeSet::new();
    for map in MAPS {
        let at = path.child(map);
        let defaults = matches!(map, "default" | "defaultRequest");
        if kind == "Pod" && defaults {
            if !item.is_empty_at(map) {
                errors.forbidden(&at, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, _) in item.entries(map) {
            names.insert(name);
            let at = at.key(name);
            errors.invalid_each(&at, name, names::qualified_name(name));
            let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage")
                || name.starts_with("hugepages-");
            if !name.contains('/') && !standard {
                errors.invalid(
                    &at,
                    name,
                    "must be a standard resource type or fully qualified",
                );
            }
        }
    }
    let storage = |map: &str| item.at(map).has("storage");
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    for name in names {
        validate_order(item, name, path, errors);
    }
}

/// From the lowest to the highest: min, default request, default, max.
fn validate_order(item: &Value, name: &str, path: &Path<'_>, errors: &mut Errors) {
    let of = |map: &str| Quantity::from_json(item.at(map).at(name)).ok();
    let (min, max) = (of("min"), of("max"));
    let plain = item.text("type") != "Pod";
    let default = of("default").filter(|_| plain);
    let request = of("defaultRequest").filter(|_| plain);
    let mut order = |low: (Option<Quantity>, &str),
                     high: (Option<Quantity>, &str),
                     map: &str,
                     shown: Option<Quantity>| {
        if let (Some(low_amount), Some(high_amount), Some(shown)) = (low.0, high.0, shown)
            && low_amount > high_amount
        {
            let detail = format!(
                "{} {low_amount} is greater than {} {high_amount}",
                low.1, high.1
            );
            let at = path.child(map);
            errors.invalid(&at.key(name), shown.to_string(), detail);
        }
    };
    order((min, "min value"), (max, "max value"), "min", min);
    order(
        (min, "min value"),
        (request, "default request value"),
        "defaultRequest",
        request,
    );
    order(
        (request, "default request value"),
        (max, "max value"),
        "defaultRequest",
        request,
    );
    order(
        (request, "default request value"),
        (default, "default limit value"),
        "defaultRequest",
        request,
    );
    order(
        (min, "min value"),
        (default, "default value"),
        "default",
        min,
    );
    order(
        (default, "default value"),
        (max, "max value"),
        "default",
        max,
    );
    let Some(ratio) = of("maxLimitRequestRatio") else {
        return;
    };
    let at = path.child("maxLimitRequestRatio");
    let at = at.key(name);
    if ratio < Quantity::new(1, Format::DecimalSi) {
        errors.invalid(
            &at,
            ratio.to_string(),
            format!("ratio {ratio} is less than 1"),
        );
    }
    if let (Some(min), Some(max)) = (min, max) {
        let highest = max.as_f64() / min.as_f64();
        if ratio.as_f64() > highest {
            let detail = format!("ratio {ratio} is greater than max/min = {highest:.6}");
            errors.invalid(&at, ratio.to_string(), detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::create;

    fn range(item: Value) -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"limits": [item]}})
    }

    #[test]
    fn defaults_come_from_the_bounds() {
        let mut object = range(
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"memory": "5Mi"}}),
        );
        LimitRange.default(&mut object);
        let item = &object["spec"]["limits"][0];
        assert_eq!(item["default"], json!({"memory": "5Mi", "cpu": "2"}));
        assert_eq!(item["defaultRequest"], json!({"memory": "5Mi", "cpu": "2"}));
        let mut pod = range(json!({"type": "Pod", "max": {"cpu": "2"}}));
        LimitRange.default(&mut pod);
        assert_eq!(pod["spec"]["limits"][0].get("default"), None);
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        let good = json!({"type": "Container", "min": {"cpu": "50m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "4"}});
        assert_eq!(create(&LimitRange, range(good)), none);
        let cases = [
            (
                json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2"}}),
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "1"}}),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                json!({"type": "PersistentVolumeClaim"}),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
        ];
        for (item, expected) in cases {
            let found = create(&LimitRange, range(item));
            assert_eq!(
                found.first().map(String::as_str),
                Some(expected),
                "{found:?}"
            );
        }
    }
}
