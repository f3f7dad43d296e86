//! NamespaceLifecycle: nothing is created in a namespace that does not exist or is going away, and system namespaces stay.
//!
//! Invariant: "does not exist" is only said after asking the store; the cache may be a moment behind the namespace's creator.

use corten_api::meta;
use corten_api::status::Status;

use super::Review;
use crate::registry::{Registry, Target};
use crate::storage::Revision;

/// Deleting these would take the cluster's own objects with them.
const KEPT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses objects for namespaces that cannot take them.
pub(super) async fn require_active(registry: &Registry, target: &Target) -> Result<(), Status> {
    if target.namespace.is_empty() {
        return Ok(());
    }
    let namespace = Target::of("", "namespaces", "", &target.namespace)?;
    let cached = {
        registry.caches().wait_for(Revision::ZERO).await?;
        let cache = registry.caches().of(namespace.descriptor);
        cache.and_then(|cache| cache.snapshot().get("", &target.namespace).cloned())
    };
    let item = match cached {
        Some(item) => item,
        None => registry.item(&namespace, None).await?,
    };
    let object = item.value();
    let terminating = meta::is_deleting(&object) || object["status"]["phase"] == "Terminating";
    if !terminating {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {} because it is being terminated",
        target.namespace
    );
    Err(target.forbidden(&why).cause(
        "NamespaceTerminating",
        "metadata.namespace",
        format!("namespace {} is being terminated", target.namespace),
    ))
}

/// Refuses to delete what the cluster stands on.
pub(super) fn keep_system_namespaces(review: &Review<'_>) -> Result<(), Status> {
    if review.is("", "namespaces") && KEPT.contains(&review.target.name.as_str()) {
        return Err(review.target.forbidden("this namespace may not be deleted"));
    }
    Ok(())
}
