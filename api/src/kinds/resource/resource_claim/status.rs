//! What the scheduler and drivers note of a claim: the devices it got, who uses them, and how the devices are.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kinds::conditions::validate_conditions;
use crate::kinds::core::pod::validate_node_selector;
use crate::kinds::resource::checks::{
    OPAQUE_BYTES_MAX, bounded, configuration, label, pool_name, raw_object, unique,
};
use crate::kinds::resource::claim_spec::{CONFIGS_MAX, REQUESTS_MAX, RequestNames};
use crate::kinds::storage::validate_driver_name;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, items_at, object_at, remove};
use crate::kinds::{Errors, Path};

const USERS_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
const ADDRESSES_MAX: usize = 16;
/// Bounds of the texts that describe an interface.
const INTERFACE_TEXTS: [(&str, usize); 2] = [("interfaceName", 256), ("hardwareAddress", 128)];

/// A device: driver, pool and name.
fn id(device: &Value) -> String {
    let keys = ["driver", "pool", "device"];
    keys.map(|key| device.text(key)).join("/")
}

fn results(status: &Value) -> &[Value] {
    status.at("allocation").at("devices").list("results")
}

/// Drops what belongs to features that are off, and what is said of devices that the claim has no longer.
pub(super) fn drop_stale(new: &mut Value, old: &Value) {
    let given: BTreeSet<String> = results(new.at("status")).iter().map(id).collect();
    let before: BTreeSet<String> = results(old.at("status")).iter().map(id).collect();
    let Some(status) = object_at(new, "status") else {
        return;
    };
    if let Some(devices) = status.pointer_mut("/allocation/devices") {
        for result in items_at(devices, "results") {
            for key in [
                "shareID",
                "consumedCapacity",
                "bindingConditions",
                "bindingFailureConditions",
            ] {
                remove(result, key);
            }
        }
    }
    if let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) {
        for device in devices.iter_mut() {
            remove(device, "shareID");
        }
        devices.retain(|device| {
            let id = id(device);
            given.contains(&id) || !before.contains(&id)
        });
    }
    if status.is_empty_at("devices") {
        remove(status, "devices");
    }
}

/// Checks an update of the status.
pub(super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let (status, before) = (new.at("status"), old.at("status"));
    users(status, &path.child("reservedFor"), errors);
    devices(status, &path.child("devices"), errors);
    let at = path.child("reservedFor");
    let reserved = status.list("reservedFor");
    if !reserved.is_empty() && !status.has("allocation") {
        let detail = "may not be specified when `allocated` is not set";
        errors.forbidden(&at, detail);
    } else if new.at("metadata").has("deletionTimestamp")
        && !reserved
            .iter()
            .all(|user| before.list("reservedFor").contains(user))
    {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(&at, detail);
    }
    let at = path.child("allocation");
    match (status.opt("allocation"), before.opt("allocation")) {
        (Some(after), Some(before)) => immutable(after, before, &at, errors),
        (Some(allocation), None) => {
            let known = RequestNames::of(new.at("spec"));
            validate_allocation(allocation, &known, &at, errors);
        }
        (None, _) => {}
    }
}

fn users(status: &Value, path: &Path<'_>, errors: &mut Errors) {
    let users = bounded(status.list("reservedFor"), USERS_MAX, path, errors);
    for (i, user) in users.iter().enumerate() {
        let at = path.index(i);
        for key in ["resource", "name", "uid"] {
            if user.is_empty_at(key) {
                errors.required(&at.child(key), "");
            }
        }
    }
    unique(users.iter().map(|user| user.text("uid")), path, errors);
}

fn devices(status: &Value, path: &Path<'_>, errors: &mut Errors) {
    let given: BTreeSet<String> = results(status).iter().map(id).collect();
    let devices = status.list("devices");
    for (i, device) in devices.iter().enumerate() {
        let at = path.index(i);
        names(device, &at, errors);
        let id = id(device);
        if !given.contains(&id) {
            errors.invalid(&at, id, "must be an allocated device in the claim");
        }
        let conditions = device.list("conditions");
        let conditions_path = at.child("conditions");
        if conditions.len() > CONDITIONS_MAX {
            errors.too_many(&conditions_path, conditions.len(), CONDITIONS_MAX);
        }
        validate_conditions(conditions, &conditions_path, errors);
        if let Some(data) = device.opt("data") {
            raw_object(data, OPAQUE_BYTES_MAX, &at.child("data"), errors);
        }
        network(device.at("networkData"), &at.child("networkData"), errors);
    }
    let ids: Vec<String> = devices.iter().map(id).collect();
    unique(ids.iter().map(String::as_str), path, errors);
}

fn names(device: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_driver_name(device.text("driver"), &path.child("driver"), errors);
    pool_name(device.text("pool"), &path.child("pool"), errors);
    label(device.text("device"), &path.child("device"), errors);
}

fn network(data: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (key, max) in INTERFACE_TEXTS {
        if data.text(key).len() > max {
            errors.too_long(&path.child(key), max);
        }
    }
    let at = path.child("ips");
    let addresses = bounded(data.list("ips"), ADDRESSES_MAX, &at, errors);
    let texts = || addresses.iter().map(|a| a.as_str().unwrap_or(""));
    for (i, address) in texts().enumerate() {
        let detail = match address.parse::<ipnet::IpNet>() {
            Err(_) => "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
                .to_owned(),
            Ok(parsed) if parsed.to_string() != address => {
                format!("must be in canonical form (\"{parsed}\")")
            }
            Ok(_) => continue,
        };
        errors.invalid(&at.index(i), address, detail);
    }
    unique(texts(), &at, errors);
}

fn validate_allocation(
    allocation: &Value,
    known: &RequestNames<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let devices = allocation.at("devices");
    let devices_path = path.child("devices");
    let at = devices_path.child("results");
    let results = bounded(devices.list("results"), REQUESTS_MAX, &at, errors);
    for (i, result) in results.iter().enumerate() {
        let at = at.index(i);
        known.check(result.text("request"), &at.child("request"), errors);
        names(result, &at, errors);
    }
    let at = devices_path.child("config");
    // From the class and from the claim.
    let configs = bounded(devices.list("config"), 2 * CONFIGS_MAX, &at, errors);
    for (i, config) in configs.iter().enumerate() {
        let at = at.index(i);
        let sources = ["FromClaim", "FromClass"];
        errors.one_of(&at.child("source"), config.text("source"), &sources);
        known.check_all(config.list("requests"), &at.child("requests"), errors);
        configuration(config, false, &at, errors);
    }
    if let Some(selector) = allocation.opt("nodeSelector") {
        validate_node_selector(selector, &path.child("nodeSelector"), errors);
    }
}
