//! ClusterRoleBinding: grants a role everywhere.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    BINDING_COLUMNS, CLUSTER, GROUP, binding_row, default_binding, validate_binding,
    validate_role_ref_stays,
};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy};

/// `clusterrolebindings` of rbac.authorization.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "ClusterRoleBinding",
    list_kind: "ClusterRoleBindingList",
    resource: "clusterrolebindings",
    singular: "clusterrolebinding",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "clusterrolebindings",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: BINDING_COLUMNS,
    strategy: &ClusterRoleBinding,
};

struct ClusterRoleBinding;

impl Strategy for ClusterRoleBinding {
    fn rules(&self) -> &Rules {
        &CLUSTER
    }

    fn default(&self, object: &mut Value) {
        default_binding(object);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate_binding(object, &["ClusterRole"], false, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_role_ref_stays(new, old, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        binding_row(object, now)
    }
}
