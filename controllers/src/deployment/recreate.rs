//! Recreate: everything old goes, to the last pod, before anything new comes.

use corten_client::runner::Plan;
use k8s_openapi::api::apps::v1::Deployment;

use super::sets::{Sets, replicas, resize};

pub(super) fn roll(
    deployment: &Deployment,
    sets: &mut Sets,
    with_pods: &[String],
    plan: &mut Plan,
) {
    let old_pods = sets.old.iter().any(|set| {
        set.size > 0
            || set
                .object
                .metadata
                .uid
                .as_ref()
                .is_some_and(|uid| with_pods.contains(uid))
    });
    for set in sets.old.iter_mut().filter(|set| set.size > 0) {
        resize(deployment, set, 0, plan);
    }
    if old_pods {
        return;
    }
    let wanted = replicas(deployment);
    sets.ensure_new(deployment, wanted, plan);
    if let Some(new) = &mut sets.new {
        resize(deployment, new, wanted, plan);
    }
}
