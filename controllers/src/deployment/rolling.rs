//! RollingUpdate: the new set grows into the surge, old sets shrink by what may be unavailable. Unhealthy old pods go first,
//! since they serve nobody.

use corten_client::runner::Plan;
use k8s_openapi::api::apps::v1::Deployment;

use super::sets::{Sets, max_surge, max_unavailable, replicas, resize};

pub(super) fn roll(deployment: &Deployment, sets: &mut Sets, plan: &mut Plan) {
    let wanted = replicas(deployment);
    let room = |sets: &Sets| (wanted + max_surge(deployment) - sets.total()).max(0);
    let first_size = room(sets).min(wanted);
    sets.ensure_new(deployment, first_size, plan);
    let room = room(sets);
    let Some(new) = &mut sets.new else { return };
    if new.size != wanted {
        let size = if new.size > wanted {
            wanted
        } else {
            (new.size + room).min(wanted)
        };
        let grew = size > new.size;
        resize(deployment, new, size, plan);
        if grew {
            return; // old sets shrink as the new one becomes available
        }
    }
    shrink_old(deployment, sets, plan);
}

fn shrink_old(deployment: &Deployment, sets: &mut Sets, plan: &mut Plan) {
    let old_total: i32 = sets.old.iter().map(|set| set.size).sum();
    if old_total == 0 {
        return;
    }
    let minimum = replicas(deployment) - max_unavailable(deployment);
    let new_unavailable = sets
        .new
        .as_ref()
        .map_or(0, |set| (set.size - set.available()).max(0));
    let mut removable = sets.total() - minimum - new_unavailable;
    if removable <= 0 {
        return;
    }
    for set in &mut sets.old {
        let unhealthy = (set.size - set.available()).max(0).min(removable);
        if unhealthy > 0 {
            resize(deployment, set, set.size - unhealthy, plan);
            removable -= unhealthy;
        }
    }
    let mut spare = sets.available() - minimum;
    for set in &mut sets.old {
        if spare <= 0 {
            return;
        }
        let remove = set.size.min(spare);
        if remove > 0 {
            resize(deployment, set, set.size - remove, plan);
            spare -= remove;
        }
    }
}
