//! How many pods there ought to be: the sizes of what manages them, each counted once. Pure but for cache reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::cache::Cache;
use corten_client::object::controller_of;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::amount::scaled;

/// The size of what manages a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Nothing manages it.
    Unmanaged,
    /// This, by uid, at this size.
    Of {
        /// The uid of the manager.
        uid: String,
        /// Its `spec.replicas`.
        replicas: i32,
    },
    /// Something whose size is not known here.
    Unknown {
        /// The kind of the manager.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Follows the managers of a pod up to the topmost that has a size.
pub(super) fn scale_of(
    pod: &Pod,
    sets: &Cache<ReplicaSet>,
    deployments: &Cache<Deployment>,
    stateful_sets: &Cache<StatefulSet>,
) -> Scale {
    let Some(owner) = controller_of(&pod.metadata) else {
        return Scale::Unmanaged;
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let unknown = || Scale::Unknown {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
    };
    if owner.kind == "StatefulSet" {
        let set = stateful_sets.get(namespace, &owner.name);
        let set = set.filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid));
        return set.map_or_else(unknown, |set| Scale::Of {
            uid: owner.uid.clone(),
            replicas: set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
        });
    }
    if owner.kind != "ReplicaSet" {
        return unknown();
    }
    let Some(set) = sets
        .get(namespace, &owner.name)
        .filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid))
    else {
        return unknown();
    };
    let above = controller_of(&set.metadata).filter(|above| above.kind == "Deployment");
    let deployment = above.and_then(|above| {
        deployments
            .get(namespace, &above.name)
            .filter(|deployment| deployment.metadata.uid.as_ref() == Some(&above.uid))
    });
    match deployment {
        Some(deployment) => Scale::Of {
            uid: deployment.metadata.uid.clone().unwrap_or_default(),
            replicas: deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1),
        },
        None => Scale::Of {
            uid: owner.uid.clone(),
            replicas: set
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1),
        },
    }
}

/// Pods that are expected and pods that must stay healthy; or why that cannot be said.
pub(super) fn of(
    budget: &PodDisruptionBudget,
    pods: &[(Arc<Pod>, Scale)],
) -> Result<(i32, i32), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    if let Some(unavailable) = spec.max_unavailable {
        let expected = by_scale(pods)?;
        return Ok((
            expected,
            (expected - scaled(&unavailable, expected, true)).max(0),
        ));
    }
    match spec.min_available {
        Some(IntOrString::Int(number)) => {
            Ok((i32::try_from(pods.len()).unwrap_or(i32::MAX), number))
        }
        Some(percent) => {
            let expected = by_scale(pods)?;
            Ok((expected, scaled(&percent, expected, true)))
        }
        // Neither is given: the API takes it for one that must be available.
        None => Ok((i32::try_from(pods.len()).unwrap_or(i32::MAX), 1)),
    }
}

fn by_scale(pods: &[(Arc<Pod>, Scale)]) -> Result<i32, String> {
    let mut sizes: BTreeMap<&str, i32> = BTreeMap::new();
    for (pod, scale) in pods {
        match scale {
            Scale::Unmanaged => {} // nobody replaces it, so nobody expects it
            Scale::Of { uid, replicas } => {
                sizes.insert(uid, *replicas);
            }
            Scale::Unknown { kind, name } => {
                let pod = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(format!(
                    "found no size of {kind} {name:?}, which manages pod {pod:?}"
                ));
            }
        }
    }
    Ok(sizes.values().sum())
}
