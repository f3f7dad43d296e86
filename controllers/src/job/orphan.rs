//! Pods with our finalizer that no Job will count: nobody manages them, or their Job is gone or over. The finalizer would
//! keep them for ever.

use std::sync::Arc;

use corten_client::client::Patch;
use corten_client::object::controller_of;
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{FINALIZER, Jobs, finished, is_external};

/// A pod that is left over.
pub(super) struct Seen {
    pod: Arc<Pod>,
    why: Why,
}

enum Why {
    /// Nobody manages it, and nobody would.
    Unmanaged,
    /// Its Job is over.
    Finished,
    /// There is no Job of that name.
    Gone(String),
    /// The Job of that name is this other one.
    Replaced(Arc<Job>),
}

/// Whether the pod is left over; it has the finalizer.
pub(super) fn seen(controller: &Jobs, pod: &Arc<Pod>) -> Option<Seen> {
    let why = match controller_of(&pod.metadata) {
        // Who adopts it puts the finalizer on it.
        None => controller
            .adopters(pod)
            .next()
            .is_none()
            .then_some(Why::Unmanaged)?,
        Some(owner) if owner.kind == "Job" && owner.api_version == "batch/v1" => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            match controller.jobs.get(namespace, &owner.name) {
                None => Why::Gone(owner.name.clone()),
                Some(job) if job.metadata.uid.as_deref() != Some(owner.uid.as_str()) => {
                    Why::Replaced(job)
                }
                Some(job) if finished(&job).is_some() && !is_external(&job) => Why::Finished,
                Some(_) => return None,
            }
        }
        Some(_) => return None,
    };
    Some(Seen {
        pod: Arc::clone(pod),
        why,
    })
}

/// What the cache of Jobs has not shown yet may be the pod's own Job: the server is asked before.
pub(super) fn plan(seen: &Seen) -> Plan {
    let meta = &seen.pod.metadata;
    let mut patch = json!({"metadata": {
        "uid": meta.uid,
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
    }});
    let mut plan = Plan::nothing();
    match &seen.why {
        Why::Unmanaged => patch["metadata"]["resourceVersion"] = json!(meta.resource_version),
        Why::Finished => {}
        Why::Gone(name) => {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            plan.push(Action::expect_gone::<Job>(namespace, name));
        }
        Why::Replaced(job) => plan.push(Action::expect_alive(&**job)),
    }
    plan.push(Action::patch(&*seen.pod, Patch::Strategic(patch)));
    plan
}
