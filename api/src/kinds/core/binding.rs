//! Binding: a scheduler's decision, posted to `pods/binding`. Never stored.

use serde_json::Value;

use crate::kinds::descriptor::CREATE;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, ResourceDescriptor, Rules, Strategy};

/// `bindings` of the core group; older clients post here instead of to the pod's subresource.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "Binding",
    list_kind: "",
    resource: "bindings",
    singular: "binding",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "",
    subresources: &[],
    verbs: CREATE,
    columns: &[],
    strategy: &Binding,
};

struct Binding;

impl Strategy for Binding {
    fn rules(&self) -> &Rules {
        &Rules::NAMESPACED
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let target = object.at("target");
        let path = Path::new("target");
        if !matches!(target.text("kind"), "" | "Node") {
            errors.not_supported(
                &path.child("kind"),
                target.text("kind"),
                &["Node", "<empty>"],
            );
        }
        if target.is_empty_at("name") {
            errors.required(&path.child("name"), "");
        }
    }
}
