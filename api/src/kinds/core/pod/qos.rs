//! The quality-of-service class of a pod, from its requests and limits.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kinds::value::Get;
use crate::quantity::Quantity;

/// The only resources that count.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &Value) -> &'static str {
    if spec.has("resources") {
        return class_of([spec.at("resources")].into_iter());
    }
    let containers = spec
        .list("containers")
        .iter()
        .chain(spec.list("initContainers"));
    class_of(containers.map(|container| container.at("resources")))
}

fn class_of<'a>(all: impl Iterator<Item = &'a Value>) -> &'static str {
    let mut requests: BTreeMap<&str, Quantity> = BTreeMap::new();
    let mut limits: BTreeMap<&str, Quantity> = BTreeMap::new();
    let mut all_limited = true;
    for resources in all {
        for (name, amount) in amounts(resources, "requests") {
            add(&mut requests, name, amount);
        }
        let mut found = 0;
        for (name, amount) in amounts(resources, "limits") {
            found += 1;
            add(&mut limits, name, amount);
        }
        all_limited &= found == COUNTED.len();
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    if all_limited && requests.len() == limits.len() && requests == limits {
        return "Guaranteed";
    }
    "Burstable"
}

/// The counted amounts above zero.
fn amounts<'a>(
    resources: &'a Value,
    key: &str,
) -> impl Iterator<Item = (&'static str, Quantity)> + use<'a> {
    let map = resources.at(key);
    COUNTED.into_iter().filter_map(move |name| {
        let amount = Quantity::from_json(map.opt(name)?).ok()?;
        (amount > Quantity::ZERO).then_some((name, amount))
    })
}

fn add(sums: &mut BTreeMap<&'static str, Quantity>, name: &'static str, amount: Quantity) {
    let sum = sums.entry(name).or_insert(Quantity::ZERO);
    *sum = sum.plus(amount);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let cases = [
            (json!([{}]), "BestEffort"),
            (
                json!([{"resources": {"requests": {"example.com/x": "1"}}}]),
                "BestEffort",
            ),
            (
                json!([{"resources": {"requests": {"cpu": "1"}}}]),
                "Burstable",
            ),
            (
                json!([{"resources": {"requests": both, "limits": both}}]),
                "Guaranteed",
            ),
            (
                json!([{"resources": {"requests": both, "limits": both}}, {}]),
                "Burstable",
            ),
            (
                json!([{"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": both}}]),
                "Burstable",
            ),
            (
                json!([{"resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": both}}]),
                "Guaranteed",
            ),
        ];
        for (containers, expected) in cases {
            assert_eq!(
                class(&json!({"containers": containers})),
                expected,
                "{containers}"
            );
        }
    }
}
