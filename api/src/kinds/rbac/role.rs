//! Role: what may be done in one namespace.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, NAMESPACED, ROLE_COLUMNS, role_row, validate_rules};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy};

/// `roles` of rbac.authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "Role",
    list_kind: "RoleList",
    resource: "roles",
    singular: "role",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "roles",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: ROLE_COLUMNS,
    strategy: &Role,
};

struct Role;

impl Strategy for Role {
    fn rules(&self) -> &Rules {
        &NAMESPACED
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_rules(object, true, errors);
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        role_row(object)
    }
}
