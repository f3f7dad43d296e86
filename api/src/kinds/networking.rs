//! The kinds of networking.k8s.io, and what they share.

pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod network_policy;
pub mod service_cidr;

use serde_json::Value;

use super::value::Get;
use super::{Errors, Path, names};

/// Group of all of them.
pub const GROUP: &str = "networking.k8s.io";

/// Checks a reference to an object by group, kind and name.
fn validate_typed_reference(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(group) = reference.opt_text("apiGroup") {
        let faults = names::subdomain(group, false);
        errors.invalid_each(&path.child("apiGroup"), group, faults);
    }
    for key in ["kind", "name"] {
        validate_segment(reference.text(key), &path.child(key), errors);
    }
}

/// Checks a text that must be there and fit between two slashes.
fn validate_segment(text: &str, path: &Path<'_>, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(path, "");
    } else {
        errors.invalid_each(path, text, names::path_segment(text, false));
    }
}
