//! The kinds of admissionregistration.k8s.io: who is asked before an object is stored.
//!
//! None of them is in the registry yet: an API server that stores them and asks nobody would promise a protection that is
//! not there. Their lines belong there together with the admission that obeys them.

pub mod mutating_webhook_configuration;
pub mod validating_admission_policy;
pub mod validating_admission_policy_binding;
pub mod validating_webhook_configuration;

mod match_conditions;
mod match_resources;
mod rules;
mod webhook;
mod webhook_client;

/// Group of all of them.
pub const GROUP: &str = "admissionregistration.k8s.io";
/// What kubectl lists them under.
const CATEGORIES: &[&str] = &["api-extensions"];

/// What becomes of a request when the answer fails to come.
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
/// Whether rules speak of the resource as it came, or of its other versions too.
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
