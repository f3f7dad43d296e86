//! The objects that a cluster cannot be without: system namespaces and system priority classes.
//!
//! RBAC's default objects are not here, they belong to authorization. Invariant: what exists is left alone, so that several
//! servers may do this at once and people may change what they get.

use corten_api::status::{Reason, Status};
use serde_json::{Value, json};

use super::{Context, Registry, Target};

/// Namespaces that exist in every cluster.
pub(super) const SYSTEM_NAMESPACES: [&str; 4] =
    ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing.
pub async fn create_system_objects(registry: &Registry) -> Result<(), Status> {
    for name in SYSTEM_NAMESPACES {
        ensure(
            registry,
            "",
            "namespaces",
            json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            }),
        )
        .await?;
    }
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "For pods without which the cluster does not work; they may run on any node.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "For pods without which their node does not work.",
        ),
    ] {
        ensure(
            registry,
            "scheduling.k8s.io",
            "priorityclasses",
            json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                "metadata": {"name": name}, "value": value, "description": description,
            }),
        )
        .await?;
    }
    Ok(())
}

async fn ensure(
    registry: &Registry,
    group: &str,
    resource: &str,
    object: Value,
) -> Result<(), Status> {
    let name = corten_api::meta::name(&object).to_owned();
    let target = Target::of(group, resource, "", &name)?;
    if registry.cache(&target)?.snapshot().get("", &name).is_some() {
        return Ok(());
    }
    match registry.create(&Context::internal(), &target, object).await {
        Err(status) if !status.is(&Reason::AlreadyExists) => Err(status),
        _ => Ok(()),
    }
}
