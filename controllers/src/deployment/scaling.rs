//! Resizing in the middle of a rollout: every set grows or shrinks in proportion, so that the risk stays where it was.

use corten_client::runner::Plan;
use k8s_openapi::api::apps::v1::Deployment;

use super::sets::{DESIRED, MAX, Set, Sets, annotation, max_surge, replicas, resize, strategy};

/// Whether `replicas` was changed since the sets were sized last.
pub(super) fn is_scaling(deployment: &Deployment, sets: &Sets) -> bool {
    let wanted = replicas(deployment).to_string();
    sets.all()
        .filter(|set| set.size > 0)
        .any(|set| annotation(&set.object, DESIRED).is_some_and(|noted| noted != wanted))
}

pub(super) fn scale(deployment: &Deployment, sets: &mut Sets, plan: &mut Plan) {
    let wanted = replicas(deployment);
    let active = sets.all().filter(|set| set.size > 0).count();
    if active <= 1 {
        // The only active set, or the newest when there is none.
        let only = sets
            .old
            .iter_mut()
            .chain(&mut sets.new)
            .rfind(|set| set.size > 0);
        match only {
            Some(set) => resize(deployment, set, wanted, plan),
            None => {
                if let Some(set) = sets.new.as_mut().or(sets.old.last_mut()) {
                    resize(deployment, set, wanted, plan);
                }
            }
        }
        return;
    }
    if sets.is_saturated(deployment) {
        for set in sets.old.iter_mut().filter(|set| set.size > 0) {
            resize(deployment, set, 0, plan);
        }
        return;
    }
    if strategy(deployment) == "RollingUpdate" {
        in_proportion(deployment, sets, plan);
    }
}

fn in_proportion(deployment: &Deployment, sets: &mut Sets, plan: &mut Plan) {
    let wanted = replicas(deployment);
    let allowed = if wanted > 0 {
        wanted + max_surge(deployment)
    } else {
        0
    };
    let total = sets.total();
    let to_add = allowed - total;
    let mut active: Vec<&mut Set> = sets
        .old
        .iter_mut()
        .chain(&mut sets.new)
        .filter(|set| set.size > 0)
        .collect();
    // The largest first; of equals, growing takes the newest and shrinking the oldest.
    if to_add > 0 {
        active.reverse();
    }
    active.sort_by_key(|set| std::cmp::Reverse(set.size));
    let mut left = to_add;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for set in &active {
        let share = if to_add == 0 {
            0
        } else {
            share(deployment, set, to_add, left)
        };
        left -= share;
        sizes.push(set.size + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + left).max(0); // what rounding left over
    }
    for (set, size) in active.into_iter().zip(sizes) {
        resize(deployment, set, size, plan);
    }
}

/// A set's part of `to_add`, never more than what is `left`.
fn share(deployment: &Deployment, set: &Set, to_add: i32, left: i32) -> i32 {
    if left == 0 {
        return 0;
    }
    if replicas(deployment) == 0 {
        return -set.size;
    }
    let noted = annotation(&set.object, MAX)
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|max| *max > 0);
    let counted = || {
        deployment
            .status
            .as_ref()
            .and_then(|status| status.replicas)
            .map(i64::from)
    };
    let before = noted.or_else(counted).filter(|max| *max > 0);
    let size = i64::from(set.size);
    let after_total = i64::from(replicas(deployment) + max_surge(deployment));
    let Some(before) = before else { return 0 };
    // Rounded to the nearest, as upstream does.
    let new_size = (2 * size * after_total + before) / (2 * before);
    let share = i32::try_from(new_size - size).unwrap_or(0);
    if to_add > 0 {
        share.clamp(0, left)
    } else {
        share.clamp(left, 0).max(-set.size)
    }
}
