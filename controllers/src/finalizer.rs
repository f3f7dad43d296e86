//! One finalizer put on an object or taken off, whatever else holds it.

use corten_client::client::Patch;
use corten_client::object::Object;
use corten_client::runner::Action;
use serde_json::json;

/// Whether the object has this finalizer.
pub(crate) fn is_on<K: Object>(object: &K, finalizer: &str) -> bool {
    let held = object.metadata().finalizers.iter().flatten();
    held.into_iter().any(|name| name == finalizer)
}

/// Puts it on.
pub(crate) fn put_on<K: Object>(object: &K, finalizer: &str) -> Action {
    patch(object, "finalizers", finalizer)
}

/// Takes it off.
pub(crate) fn take_off<K: Object>(object: &K, finalizer: &str) -> Action {
    patch(object, "$deleteFromPrimitiveList/finalizers", finalizer)
}

fn patch<K: Object>(object: &K, key: &str, finalizer: &str) -> Action {
    Action::patch(
        object,
        Patch::Strategic(json!({"metadata": {key: [finalizer]}})),
    )
}
