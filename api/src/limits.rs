//! What LimitRanges do to pods and claims: defaults for containers that say nothing, and bounds.
//!
//! Pure. Facts (words, which amounts are compared) are upstream's LimitRanger.

use serde_json::{Value, json};

use crate::kinds::value::{Get, items_at, object_at};
use crate::quantity::Quantity;
use crate::quota::{Amounts, amounts, pod_total};

/// Tells people what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills a pod's containers in, from the defaults of a LimitRange.
pub fn fill_in(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for item in range.at("spec").list("limits") {
        if item.text("type") == "Container" {
            requests.extend(amounts(item.at("defaultRequest")));
            limits.extend(amounts(item.at("default")));
        }
    }
    let mut told = Vec::new();
    let Some(spec) = object_at(pod, "spec") else {
        return;
    };
    for (list, what) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        for container in items_at(spec, list) {
            let name = container.text("name").to_owned();
            for (which, word, defaults) in [
                ("requests", "request", &requests),
                ("limits", "limit", &limits),
            ] {
                let set = fill(container, which, defaults);
                if !set.is_empty() {
                    told.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if told.is_empty() {
        return;
    }
    if let Some(annotations) =
        object_at(pod, "metadata").and_then(|metadata| object_at(metadata, "annotations"))
    {
        annotations[ANNOTATION] = json!(format!("LimitRanger plugin set: {}", told.join("; ")));
    }
}

/// The names that were missing.
fn fill(container: &mut Value, which: &str, defaults: &Amounts) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let held = object_at(container, "resources").and_then(|resources| object_at(resources, which));
    let Some(held) = held.and_then(Value::as_object_mut) else {
        return Vec::new();
    };
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if !held.contains_key(name) {
            held.insert(name.clone(), amount.to_string().into());
            set.push(name.clone());
        }
    }
    set
}

/// What of a pod or a claim is out of the bounds of a LimitRange.
pub fn faults(range: &Value, resource: &str, object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let spec = object.at("spec");
    for item in range.at("spec").list("limits") {
        match (resource, item.text("type")) {
            ("pods", "Container") => {
                let containers = spec.list("containers").iter();
                for container in containers.chain(spec.list("initContainers")) {
                    let resources = container.at("resources");
                    let of = |which: &str| amounts(resources.at(which));
                    check(item, &of("requests"), &of("limits"), &mut faults);
                }
            }
            ("pods", "Pod") => {
                let of = |which: &str| pod_total(spec, which);
                check(item, &of("requests"), &of("limits"), &mut faults);
            }
            ("persistentvolumeclaims", "PersistentVolumeClaim") => {
                check_claim(
                    item,
                    &amounts(spec.at("resources").at("requests")),
                    &mut faults,
                );
            }
            _ => {}
        }
    }
    faults
}

fn check(item: &Value, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
    let kind = item.text("type");
    for (name, bound) in amounts(item.at("min")) {
        let told = format!("minimum {name} usage per {kind} is {bound}");
        let (request, limit) = (requests.get(&name), limits.get(&name));
        faults.extend(match (request, limit) {
            (None, _) => Some(format!("{told}.  No request is specified")),
            (Some(request), _) if *request < bound => {
                Some(format!("{told}, but request is {request}"))
            }
            (_, Some(limit)) if *limit < bound => Some(format!("{told}, but limit is {limit}")),
            _ => None,
        });
    }
    for (name, bound) in amounts(item.at("max")) {
        let told = format!("maximum {name} usage per {kind} is {bound}");
        let (request, limit) = (requests.get(&name), limits.get(&name));
        faults.extend(match (request, limit) {
            (_, None) => Some(format!("{told}.  No limit is specified")),
            (_, Some(limit)) if *limit > bound => Some(format!("{told}, but limit is {limit}")),
            (Some(request), _) if *request > bound => {
                Some(format!("{told}, but request is {request}"))
            }
            _ => None,
        });
    }
    for (name, bound) in amounts(item.at("maxLimitRequestRatio")) {
        let told = format!("{name} max limit to request ratio per {kind} is {bound}");
        let some = |amounts: &Amounts| {
            amounts
                .get(&name)
                .copied()
                .filter(|amount| !amount.is_zero())
        };
        faults.extend(match (some(requests), some(limits)) {
            (None, _) => Some(format!(
                "{told}, but no request is specified or request is 0"
            )),
            (_, None) => Some(format!("{told}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = limit.as_f64() / request.as_f64();
                (ratio > bound.as_f64())
                    .then(|| format!("{told}, but provided ratio is {ratio:.6}"))
            }
        });
    }
}

/// Claims have requests only.
fn check_claim(item: &Value, requests: &Amounts, faults: &mut Vec<String>) {
    let kind = item.text("type");
    let beyond = |which: &str, word: &str, exceeds: &dyn Fn(Quantity, Quantity) -> bool| {
        let mut faults = Vec::new();
        for (name, bound) in amounts(item.at(which)) {
            let told = format!("{word} {name} usage per {kind} is {bound}");
            match requests.get(&name) {
                None => faults.push(format!("{told}.  No request is specified")),
                Some(request) if exceeds(*request, bound) => {
                    faults.push(format!("{told}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
        faults
    };
    faults.extend(beyond("min", "minimum", &|request, bound| request < bound));
    faults.extend(beyond("max", "maximum", &|request, bound| request > bound));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(requests: Value, limits: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "c", "resources": {"requests": requests, "limits": limits}}],
            "initContainers": [{"name": "i"}],
        }})
    }

    fn range(items: Value) -> Value {
        json!({"metadata": {"name": "r"}, "spec": {"limits": items}})
    }

    #[test]
    fn silent_containers_get_the_defaults() {
        let range = range(
            json!([{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]),
        );
        let mut object = pod(json!({"cpu": "50m"}), json!({"memory": "2Gi"}));
        fill_in(&range, &mut object);
        let spec = &object["spec"];
        assert_eq!(
            spec["containers"][0]["resources"],
            json!({"requests": {"cpu": "50m"}, "limits": {"memory": "2Gi", "cpu": "1"}})
        );
        assert_eq!(
            spec["initContainers"][0]["resources"],
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "1Gi"}})
        );
        assert_eq!(
            object["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu limit for container c; cpu request for init container i; cpu, memory limit for init container i"
        );
    }

    #[test]
    fn bounds_are_told() {
        let mut object = pod(json!({"cpu": "10m"}), json!({"cpu": "4"}));
        object["spec"]["initContainers"] = json!([]);
        let of = |item: Value| faults(&range(json!([item])), "pods", &object);
        assert_eq!(
            of(json!({"type": "Container", "min": {"cpu": "50m"}})),
            ["minimum cpu usage per Container is 50m, but request is 10m"]
        );
        assert_eq!(
            of(json!({"type": "Pod", "max": {"cpu": "2", "memory": "1Gi"}})),
            [
                "maximum cpu usage per Pod is 2, but limit is 4",
                "maximum memory usage per Pod is 1Gi.  No limit is specified"
            ]
        );
        assert_eq!(
            of(json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "3"}})),
            ["cpu max limit to request ratio per Container is 3, but provided ratio is 400.000000"]
        );
        let claim = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
        let bounds = range(
            json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]),
        );
        assert_eq!(
            faults(&bounds, "persistentvolumeclaims", &claim),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
    }
}
