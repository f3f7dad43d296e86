//! The kinds of storage.k8s.io, and the rules that several of them share.

pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod storage_class;
pub mod volume_attachment;
pub mod volume_attributes_class;

use serde_json::{Map, Value};

use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

/// Longest name of a driver.
const DRIVER_NAME_BYTES_MAX: usize = 63;
/// Parameters of a class: how many, and how much all together.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

/// Checks the name of a driver of storage or devices. Upper case is let through.
pub(crate) fn validate_driver_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > DRIVER_NAME_BYTES_MAX {
        errors.too_long(path, DRIVER_NAME_BYTES_MAX);
    }
    errors.invalid_each(path, name, names::subdomain(&name.to_lowercase(), false));
}

/// Checks who makes the volumes of a class.
fn validate_provisioner(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let lower = name.to_lowercase();
    errors.invalid_each(path, &lower, names::qualified_name(&lower));
}

/// Checks the parameters of a class, whose meaning only its driver knows.
fn validate_parameters(parameters: &Value, may_be_empty: bool, errors: &mut Errors) {
    let path = Path::new("parameters");
    let count = parameters.as_object().map_or(0, Map::len);
    if count > PARAMETERS_MAX {
        errors.too_long(&path, PARAMETERS_MAX);
        return;
    }
    let mut bytes = 0;
    for (key, value) in parameters.as_object().into_iter().flatten() {
        if key.is_empty() {
            errors.invalid(&path, key.as_str(), "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > PARAMETERS_BYTES_MAX {
        errors.too_long(&path, PARAMETERS_BYTES_MAX);
    }
    if count == 0 && !may_be_empty {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

/// Refuses a change of a field, in the words of classes.
fn forbid_change(new: &Value, old: &Value, key: &str, errors: &mut Errors) {
    if !crate::kinds::value::same(new.at(key), old.at(key)) {
        let detail = format!("updates to {key} are forbidden.");
        errors.forbidden(&Path::new(key), detail);
    }
}
