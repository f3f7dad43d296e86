//! Storage: what is in use is protected, claims without a class get the default one, and only a class that allows it lets
//! its claims grow.

use corten_api::meta;
use corten_api::quantity::Quantity;
use corten_api::status::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::registry::Registry;

/// Marks the class that claims without one get.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// The older way to name a class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// A controller takes the finalizer off again, once nobody uses the object.
pub(super) fn protect(review: &Review<'_>, object: &mut Value) {
    for (group, resource, finalizer) in [
        ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
        ("", "persistentvolumes", "kubernetes.io/pv-protection"),
        (
            "storage.k8s.io",
            "volumeattributesclasses",
            "kubernetes.io/vac-protection",
        ),
    ] {
        if review.is(group, resource) {
            meta::add_finalizer(object, finalizer);
        }
    }
}

/// Gives a new claim that names no class the default one; of several the newest, and of those the first by name.
pub(super) fn choose_class(registry: &Registry, review: &Review<'_>, claim: &mut Value) {
    let annotated = !claim["metadata"]["annotations"][CLASS_ANNOTATION].is_null();
    // An empty name is a choice too: no class at all.
    let chosen = !claim["spec"]["storageClassName"].is_null() || annotated;
    if !review.is("", "persistentvolumeclaims") || chosen {
        return;
    }
    let Some(cache) = registry.caches().named("storage.k8s.io", "storageclasses") else {
        return;
    };
    let classes = cache.snapshot();
    let defaults = classes.iter().map(|item| item.value()).filter(|class| {
        let annotations = &class["metadata"]["annotations"];
        DEFAULT.iter().any(|key| annotations[key] == "true")
    });
    let age = |class: &Value| {
        let created = class["metadata"]["creationTimestamp"].as_str();
        created.unwrap_or_default().to_owned()
    };
    // The snapshot is in order of names, and `reduce` keeps the earlier of two of the same age.
    let newest = defaults.reduce(|best, class| {
        if age(&class) > age(&best) {
            class
        } else {
            best
        }
    });
    if let Some(class) = newest
        && claim["spec"].is_object()
    {
        claim["spec"]["storageClassName"] = class["metadata"]["name"].clone();
    }
}

/// Refuses a larger request of a claim whose class does not say that volumes can be expanded.
pub(super) fn let_grow(
    registry: &Registry,
    review: &Review<'_>,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let (Some(new), Some(old)) = (new, old) else {
        return Ok(());
    };
    let asked = |claim: &Value| {
        Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]).ok()
    };
    let grows = matches!((asked(new), asked(old)), (Some(new), Some(old)) if new > old);
    if review.operation != Operation::Update || !review.is("", "persistentvolumeclaims") || !grows {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        let why = "Only bound persistent volume claims can be expanded";
        return Err(review.target.forbidden(why));
    }
    let class = old["spec"]["storageClassName"].as_str().unwrap_or_default();
    let cache = registry.caches().named("storage.k8s.io", "storageclasses");
    let allowed = cache
        .and_then(|cache| cache.snapshot().get("", class).cloned())
        .is_some_and(|class| class.value()["allowVolumeExpansion"] == true);
    if allowed {
        return Ok(());
    }
    Err(review.target.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
