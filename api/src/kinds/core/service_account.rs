//! ServiceAccount: an identity for processes in pods.

use crate::kinds::descriptor::{ALL_VERBS, CREATE};
use crate::kinds::{Column, ResourceDescriptor, Rules, Strategy, Subresource};

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
    columns: &[Column::NAME, Column::AGE],
    strategy: &ServiceAccount,
};

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn rules(&self) -> &Rules {
        &Rules::NAMESPACED
    }
}
