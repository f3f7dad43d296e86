//! ResourceQuota: how much of what a namespace may hold.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, names,
};
use crate::quantity::Quantity;

/// `resourcequotas` of v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "ResourceQuota",
    list_kind: "ResourceQuotaList",
    resource: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    categories: &[],
    namespaced: true,
    storage_prefix: "resourcequotas",
    subresources: &[Subresource::status("ResourceQuota")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Request", "What is used of what may be asked for."),
        Column::text("Limit", "What is used of what limits may sum up to."),
        Column::AGE,
    ],
    strategy: &ResourceQuota,
};

/// Names without a slash or a dot that quotas know.
const KNOWN: [&str; 23] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "bindings",
    "endpoints",
    "events",
    "limitranges",
];
/// Of these there are only whole ones.
const WHOLE: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const CONFLICTS: [(&str, &str); 2] = [
    ("BestEffort", "NotBestEffort"),
    ("Terminating", "NotTerminating"),
];

struct ResourceQuota;

static RULES: Rules = Rules {
    status: true,
    ..Rules::NAMESPACED
};

impl Strategy for ResourceQuota {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({}));
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        validate_amounts(spec, "hard", &path, errors);
        validate_scopes(spec, &path, errors);
        validate_selector(spec, &path, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let sorted = |object: &Value| {
            let mut scopes = object.at("spec").list("scopes").to_vec();
            scopes.sort_by_key(|scope| scope.as_str().unwrap_or_default().to_owned());
            Value::Array(scopes)
        };
        immutable(
            &sorted(new),
            &sorted(old),
            &Path::new("spec.scopes"),
            errors,
        );
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let path = Path::new("status");
        for which in ["hard", "used"] {
            validate_amounts(new.at("status"), which, &path, errors);
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let status = object.at("status");
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        let mut hard: Vec<_> = status.entries("hard").collect();
        hard.sort_by(|a, b| a.0.cmp(b.0));
        for (name, hard) in hard {
            let used = status.at("used").opt_text(name).unwrap_or("0");
            let text = format!("{name}: {used}/{}", hard.as_str().unwrap_or_default());
            let column = if name.starts_with("limits.") {
                &mut limits
            } else {
                &mut requests
            };
            column.push(text);
        }
        vec![
            meta.text("name").into(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn validate_amounts(holder: &Value, which: &str, path: &Path<'_>, errors: &mut Errors) {
    for (name, value) in holder.entries(which) {
        let at = path.child(which);
        let at = at.key(name);
        errors.invalid_each(&at, name, names::qualified_name(name));
        if !name.contains('/') && !known(name) {
            errors.invalid(
                &at,
                name,
                "must be a standard resource type or fully qualified",
            );
        }
        let Ok(amount) = Quantity::from_json(value) else {
            continue;
        };
        if amount.is_negative() {
            errors.invalid(&at, value, "must be greater than or equal to 0");
        } else if (WHOLE.contains(&name) || name.starts_with("count/")) && !amount.is_integer() {
            errors.invalid(&at, value, "must be an integer");
        }
    }
}

fn known(name: &str) -> bool {
    KNOWN.contains(&name)
        || ["hugepages-", "requests.hugepages-", "requests."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn validate_scopes(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let scopes: Vec<&str> = spec
        .list("scopes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let at = path.child("scopes");
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(&at, spec.at("scopes"), "unsupported scope");
        }
        let speaks_of =
            |name: &str| *scope != "BestEffort" || name == "pods" || name == "count/pods";
        if spec.entries("hard").any(|(name, _)| !speaks_of(name)) {
            errors.invalid(
                &at,
                spec.at("scopes"),
                "unsupported scope applied to resource",
            );
        }
    }
    for (one, other) in CONFLICTS {
        if scopes.contains(&one) && scopes.contains(&other) {
            errors.invalid(&at, spec.at("scopes"), "conflicting scopes");
        }
    }
}

fn validate_selector(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("scopeSelector");
    let at = at.child("matchExpressions");
    let expressions = spec.at("scopeSelector").list("matchExpressions");
    for (i, expression) in expressions.iter().enumerate() {
        let item = at.index(i);
        let scope = expression.text("scopeName");
        if !SCOPES.contains(&scope) {
            errors.invalid(&item.child("scopeName"), scope, "unsupported scope");
        }
        let values = expression.list("values");
        let operator = expression.text("operator");
        if !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && operator != "Exists" {
            let detail = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                          ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                          ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&item.child("operator"), operator, detail);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&item.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&item.child("values"), expression.at("values"), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(
                &item.child("operator"),
                operator,
                "not a valid selector operator",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, update};

    fn quota(spec: Value) -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        let good = json!({"hard": {"pods": "5", "cpu": "1500m", "count/jobs.batch": "1", "requests.example.com/x": "3"}});
        assert_eq!(create(&ResourceQuota, quota(good)), none);
        let cases = [
            (
                json!({"hard": {"pods": "-1"}}),
                "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"hard": {"pods": "500m"}}),
                "spec.hard[pods]: Invalid value: \"500m\": must be an integer",
            ),
            (
                json!({"hard": {"nonsense": "1"}}),
                "spec.hard[nonsense]: Invalid value: \"nonsense\": must be a standard resource type or fully qualified",
            ),
            (
                json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(create(&ResourceQuota, quota(spec)), [expected]);
        }
        let scoped = |scopes: Value| quota(json!({"hard": {"pods": "1"}, "scopes": scopes}));
        let changed = update(
            &ResourceQuota,
            scoped(json!(["Terminating"])),
            scoped(json!(["NotTerminating"])),
        );
        assert_eq!(changed.len(), 1, "{changed:?}");
    }

    #[test]
    fn row() {
        let mut object = quota(json!({}));
        object["status"] = json!({"hard": {"pods": "5", "cpu": "2", "limits.cpu": "4"}, "used": {"pods": "1", "limits.cpu": "3"}});
        let row = ResourceQuota.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::Array(row),
            json!(["a", "cpu: 0/2, pods: 1/5", "limits.cpu: 3/4", "<unknown>"])
        );
    }
}
