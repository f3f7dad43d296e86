//! ClusterRole: what may be done anywhere, or a role that several namespaces share.

use jiff::Timestamp;
use serde_json::Value;

use super::{CLUSTER, GROUP, ROLE_COLUMNS, role_row, validate_aggregation, validate_rules};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy};

/// `clusterroles` of rbac.authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "ClusterRole",
    list_kind: "ClusterRoleList",
    resource: "clusterroles",
    singular: "clusterrole",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "clusterroles",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: ROLE_COLUMNS,
    strategy: &ClusterRole,
};

struct ClusterRole;

impl Strategy for ClusterRole {
    fn rules(&self) -> &Rules {
        &CLUSTER
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_rules(object, false, errors);
        validate_aggregation(object, errors);
    }

    fn row(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        role_row(object)
    }
}
