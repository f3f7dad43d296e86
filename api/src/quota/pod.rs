//! What a pod uses of a quota, and which scopes it is in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Amounts, one};
use crate::kinds::value::Get;
use crate::quantity::Quantity;

/// What a pod that has not ended uses; nothing of one that has.
pub(super) fn usage(pod: &Value) -> Amounts {
    if matches!(pod.at("status").text("phase"), "Succeeded" | "Failed") {
        return Amounts::new();
    }
    let mut amounts = Amounts::from([("pods".to_owned(), one())]);
    let spec = super::held::spec(pod);
    for (name, amount) in total(&spec, "requests") {
        let native = is_native(&name);
        if native {
            amounts.insert(name.clone(), amount);
        }
        // What is not Kubernetes' own can be asked for but not limited apart.
        amounts.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in total(&spec, "limits") {
        if is_native(&name) && !name.starts_with("hugepages-") {
            amounts.insert(format!("limits.{name}"), amount);
        }
    }
    amounts
}

fn is_native(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// Requests or limits of the whole pod: of all containers together, or of the hungriest moment of its start, and its overhead.
pub(crate) fn total(spec: &Value, which: &str) -> Amounts {
    let of = |container: &Value| super::amounts(container.at("resources").at(which));
    let mut running = Amounts::new();
    for container in spec.list("containers") {
        add(&mut running, &of(container));
    }
    let (mut sidecars, mut highest) = (Amounts::new(), Amounts::new());
    for container in spec.list("initContainers") {
        let own = of(container);
        if container.text("restartPolicy") == "Always" {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            raise(&mut highest, &sidecars);
        } else {
            let mut moment = sidecars.clone();
            add(&mut moment, &own);
            raise(&mut highest, &moment);
        }
    }
    raise(&mut running, &highest);
    // What is said of the pod as a whole counts instead.
    for (name, amount) in super::amounts(spec.at("resources").at(which)) {
        running.insert(name, amount);
    }
    let overhead = super::amounts(spec.at("overhead"));
    if which == "requests" {
        add(&mut running, &overhead);
    } else {
        for (name, amount) in overhead {
            if let Some(limit) = running.get_mut(&name) {
                *limit = limit.plus(amount);
            }
        }
    }
    running
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |held| held.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

pub(super) fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let higher = to.get(name).map_or(*amount, |held| (*held).max(*amount));
        to.insert(name.clone(), higher);
    }
}

/// Of these names, those that some container does not say, with the containers; quotas of them need every container to.
pub fn missing<'a>(pod: &Value, names: impl Iterator<Item = &'a String>) -> String {
    let spec = pod.at("spec");
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let containers = || {
        let init = spec.list("initContainers").iter();
        spec.list("containers").iter().chain(init)
    };
    for name in names {
        let (which, plain) = match name.split_once('.') {
            Some((which @ ("requests" | "limits"), plain)) => (which, plain),
            None => ("requests", name.as_str()),
            Some(_) => continue,
        };
        if !matches!(plain, "cpu" | "memory") || spec.at("resources").at(which).has(plain) {
            continue;
        }
        let without =
            containers().filter(|container| !container.at("resources").at(which).has(plain));
        for container in without {
            missing
                .entry(name)
                .or_default()
                .insert(container.text("name"));
        }
    }
    let term = |(name, containers): (&&str, &BTreeSet<&str>)| {
        let containers: Vec<&str> = containers.iter().copied().collect();
        format!("{name} for: {}", containers.join(","))
    };
    missing.iter().map(term).collect::<Vec<_>>().join("; ")
}

/// Whether a pod is in a scope.
pub(super) fn in_scope(pod: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    let spec = pod.at("spec");
    match scope {
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "Terminating" => spec.has("activeDeadlineSeconds"),
        "NotTerminating" => !spec.has("activeDeadlineSeconds"),
        "PriorityClass" => {
            let class = spec.text("priorityClassName");
            match operator {
                "In" => values.contains(&class),
                "NotIn" => !values.contains(&class),
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => reaches_other_namespaces(spec),
        _ => false,
    }
}

/// Nothing asked for and nothing limited, of cpu and memory.
fn is_best_effort(spec: &Value) -> bool {
    let plain = |holder: &Value| {
        ["requests", "limits"].iter().all(|which| {
            let amounts = super::amounts(holder.at("resources").at(which));
            let says = |name: &str| {
                amounts
                    .get(name)
                    .is_some_and(|amount: &Quantity| !amount.is_zero())
            };
            !says("cpu") && !says("memory")
        })
    };
    let containers = spec.list("containers").iter();
    plain(spec) && containers.chain(spec.list("initContainers")).all(plain)
}

fn reaches_other_namespaces(spec: &Value) -> bool {
    let affinity = spec.at("affinity");
    let reaches = |term: &Value| {
        !term.list("namespaces").is_empty() || !term.at("namespaceSelector").is_null()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let kind = affinity.at(kind);
        let required = kind
            .list("requiredDuringSchedulingIgnoredDuringExecution")
            .iter();
        let preferred = kind
            .list("preferredDuringSchedulingIgnoredDuringExecution")
            .iter();
        required.into_iter().any(reaches)
            || preferred
                .into_iter()
                .any(|weighted| reaches(weighted.at("podAffinityTerm")))
    })
}
