//! What a claim of storage uses of a quota, and whether the one scope that speaks of claims takes it in.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Amounts, one};
use crate::kinds::core::persistent_volume::class;
use crate::kinds::value::Get;
use crate::quantity::{Format, Quantity};

/// The storage asked for, in all and by class, and one claim of the class.
pub(super) fn usage(claim: &Value) -> Amounts {
    let mut amounts = Amounts::new();
    let class = class(claim);
    let name = |what: &str| format!("{class}.storageclass.storage.k8s.io/{what}");
    if !class.is_empty() {
        amounts.insert(name("persistentvolumeclaims"), one());
    }
    if let Some(storage) = storage(claim) {
        amounts.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            amounts.insert(name("requests.storage"), storage);
        }
    }
    amounts
}

/// What is asked for, or what was allocated already when that is more: a growing that failed is asked for less again.
fn storage(claim: &Value) -> Option<Quantity> {
    let of = |amounts: &Value| Quantity::from_json(amounts.at("storage")).ok();
    let requested = of(claim.at("spec").at("resources").at("requests"))?;
    let allocated = of(claim.at("status").at("allocatedResources")).unwrap_or(requested);
    let storage = requested.max(allocated);
    // A part of a byte counts as one.
    let whole = Quantity::new(storage.value(), Format::DecimalSi);
    Some(match storage.is_integer() {
        true => storage,
        false => whole,
    })
}

/// Whether a claim is in a scope.
pub(super) fn in_scope(claim: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    if scope != "VolumeAttributesClass" {
        return false;
    }
    let (spec, status) = (claim.at("spec"), claim.at("status"));
    // While the attributes change, the claim is of the old class and of the new one.
    let classes: BTreeSet<&str> = [
        spec.text("volumeAttributesClassName"),
        status.text("currentVolumeAttributesClassName"),
        status
            .at("modifyVolumeStatus")
            .text("targetVolumeAttributesClassName"),
    ]
    .into_iter()
    .filter(|class| !class.is_empty())
    .collect();
    match operator {
        "In" => classes.iter().any(|class| values.contains(class)),
        "NotIn" => classes.is_empty() || classes.iter().any(|class| !values.contains(class)),
        "DoesNotExist" => classes.is_empty(),
        _ => !classes.is_empty(),
    }
}
