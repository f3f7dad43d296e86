//! MutatingWebhookConfiguration: webhooks that may change what is about to be stored.

use jiff::Timestamp;
use serde_json::Value;

use super::webhook::{COLUMNS, RULES, default_webhooks, row, validate_webhooks};
use super::{CATEGORIES, GROUP};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy};

/// `mutatingwebhookconfigurations` of admissionregistration.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "MutatingWebhookConfiguration",
    list_kind: "MutatingWebhookConfigurationList",
    resource: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    short_names: &[],
    categories: CATEGORIES,
    namespaced: false,
    storage_prefix: "mutatingwebhookconfigurations",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: COLUMNS,
    strategy: &MutatingWebhookConfiguration,
};

struct MutatingWebhookConfiguration;

impl Strategy for MutatingWebhookConfiguration {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        default_webhooks(object, true);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate_webhooks(object, None, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_webhooks(new, Some(old), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        row(object, now)
    }
}
