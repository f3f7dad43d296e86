//! ServiceAccount: an identity for processes in pods.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::descriptor::{ALL_VERBS, CREATE};
use crate::kinds::value::Get;
use crate::kinds::{Column, ResourceDescriptor, Rules, Strategy, Subresource, duration};

/// `serviceaccounts` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    list_kind: "ServiceAccountList",
    resource: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    namespaced: true,
    storage_prefix: "serviceaccounts",
    subresources: &[Subresource {
        name: "token",
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        verbs: CREATE,
    }],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Secrets", "Number of secrets its pods may use."),
        Column::AGE,
    ],
    strategy: &ServiceAccount,
};

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn rules(&self) -> &Rules {
        &Rules::NAMESPACED
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            object.list("secrets").len().into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}
