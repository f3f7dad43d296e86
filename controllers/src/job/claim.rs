//! Which pods are the Job's: adopts what matches and nobody manages, releases what does not match any more.

use std::sync::Arc;

use corten_client::client::Patch;
use corten_client::object::controller_reference;
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{FINALIZER, has_finalizer, matches, pod};

/// A pod of the Job.
#[derive(Clone, Debug)]
pub(super) struct Mine {
    pub(super) pod: Arc<Pod>,
    /// Whether it has our finalizer, so that it is not counted yet.
    pub(super) tracked: bool,
    /// Its completion index, if it has one that can be read.
    pub(super) index: Option<i32>,
}

impl Mine {
    fn new(pod: &Arc<Pod>, tracked: bool) -> Self {
        Self {
            pod: Arc::clone(pod),
            tracked,
            index: pod::index(pod),
        }
    }

    pub(super) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

pub(super) fn claim(
    job: &Job,
    owned: &[Arc<Pod>],
    orphans: &[Arc<Pod>],
    plan: &mut Plan,
) -> Vec<Mine> {
    let alive = job.metadata.deletion_timestamp.is_none();
    let mut mine = Vec::with_capacity(owned.len());
    for pod in owned {
        if matches(job, pod) {
            mine.push(Mine::new(pod, has_finalizer(pod)));
        } else if alive {
            plan.push(release(job, pod));
        }
    }
    if !alive || orphans.is_empty() {
        return mine;
    }
    // The cache may not know yet that the Job is gone or going: its pods would go with it.
    plan.push(Action::expect_alive(job));
    for pod in orphans {
        plan.push(adopt(job, pod));
        mine.push(Mine::new(pod, true));
    }
    mine
}

fn adopt(job: &Job, pod: &Pod) -> Action {
    let patch = json!({"metadata": {
        "uid": pod.metadata.uid,
        "ownerReferences": [controller_reference(job)],
        "finalizers": [FINALIZER],
    }});
    Action::patch(pod, Patch::Strategic(patch))
}

fn release(job: &Job, pod: &Pod) -> Action {
    let mut patch = json!({"metadata": {
        "uid": pod.metadata.uid,
        "ownerReferences": [{"$patch": "delete", "uid": job.metadata.uid}],
    }});
    if has_finalizer(pod) {
        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([FINALIZER]);
    }
    Action::patch(pod, Patch::Strategic(patch))
}
