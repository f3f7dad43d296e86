//! What objects take of a ResourceQuota: names of resources, how much an object uses, and whether a quota's scopes take it in.
//!
//! Pure; the API server charges by it before it stores an object, the controller counts by it. Facts (names, which pods
//! count, scopes) are upstream's `quota/v1` evaluators.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kinds::value::Get;
use crate::quantity::{Format, Quantity};

mod claim;
mod held;
mod pod;
#[cfg(test)]
mod tests;

pub use pod::missing as missing_in_pod;
pub(crate) use pod::total as pod_total;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Core kinds that are also counted under their plain names.
const PLAIN: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// The name under which objects of any kind are counted.
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() {
        format!("count/{resource}")
    } else {
        format!("count/{resource}.{group}")
    }
}

/// Names under which one more object of a kind counts one, whatever is in it.
pub fn counted(group: &str, resource: &str) -> Vec<String> {
    let mut names = vec![count_name(group, resource)];
    // Of pods, those that have ended do not count under the plain name.
    if group.is_empty() && PLAIN.contains(&resource) && resource != "pods" {
        names.push(resource.to_owned());
    }
    names
}

/// Everything that an object uses.
pub fn usage(group: &str, resource: &str, object: &Value) -> Amounts {
    let counts = counted(group, resource);
    let mut amounts: Amounts = counts.into_iter().map(|name| (name, one())).collect();
    match (group, resource) {
        ("", "pods") => amounts.extend(pod::usage(object)),
        ("", "services") => amounts.extend(service(object)),
        ("", "persistentvolumeclaims") => amounts.extend(claim::usage(object)),
        _ => {}
    }
    amounts
}

fn service(object: &Value) -> Amounts {
    let spec = object.at("spec");
    let ports = spec.list("ports");
    let given = ports
        .iter()
        .filter(|port| port.int("nodePort").unwrap_or(0) != 0);
    let node_ports = match spec.text("type") {
        "NodePort" => ports.len(),
        "LoadBalancer" if spec.at("allocateLoadBalancerNodePorts") != &Value::Bool(false) => {
            ports.len()
        }
        "LoadBalancer" => given.count(),
        _ => 0,
    };
    let count = i64::try_from(node_ports).unwrap_or(i64::MAX);
    let balancers = i64::from(spec.text("type") == "LoadBalancer");
    let amount = |number| Quantity::new(number, Format::DecimalSi);
    BTreeMap::from([
        ("services.nodeports".to_owned(), amount(count)),
        ("services.loadbalancers".to_owned(), amount(balancers)),
    ])
}

/// Whether the scopes of a quota's spec take an object in. Scopes speak of pods, and one of claims: a quota with any takes
/// nothing else.
pub fn takes_in(spec: &Value, group: &str, resource: &str, object: &Value) -> bool {
    let expressions = spec.at("scopeSelector").list("matchExpressions");
    let scopes = spec.list("scopes");
    if scopes.is_empty() && expressions.is_empty() {
        return true;
    }
    let in_scope: fn(&Value, &str, &str, &[&str]) -> bool = match (group, resource) {
        ("", "pods") => pod::in_scope,
        ("", "persistentvolumeclaims") => claim::in_scope,
        _ => return false,
    };
    let mut plain = scopes.iter().filter_map(Value::as_str);
    plain.all(|scope| in_scope(object, scope, "Exists", &[]))
        && expressions.iter().all(|expression| {
            let values = expression.list("values").iter().filter_map(Value::as_str);
            let values: Vec<&str> = values.collect();
            let (scope, operator) = (expression.text("scopeName"), expression.text("operator"));
            in_scope(object, scope, operator, &values)
        })
}

/// Amounts out of a map of an object, such as `status.used`; what cannot be read is left out.
pub fn amounts(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?)))
        .collect()
}

/// Amounts as they stand in an object.
pub fn to_json(amounts: &Amounts) -> Value {
    let entry = |(name, amount): (&String, &Quantity)| (name.clone(), amount.to_string().into());
    Value::Object(amounts.iter().map(entry).collect())
}

/// `cpu=1,pods=2`.
pub fn words(amounts: &Amounts) -> String {
    let words: Vec<String> = amounts
        .iter()
        .map(|(name, amount)| format!("{name}={amount}"))
        .collect();
    words.join(",")
}
