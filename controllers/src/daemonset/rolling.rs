//! The rolling update: which old pods go, and with surge which nodes get a new pod beside the old one. Pure; it runs only
//! when every node has what it is to have.

use std::sync::Arc;

use corten_client::runner::Plan;
use k8s_openapi::api::apps::v1::{DaemonSet, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::Pod;

use super::manage::{Work, carry_out};
use super::{Verdict, World};
use crate::amount::scaled;

/// The settings of a set that rolls. `None` for one that waits for its pods to be deleted.
fn settings(set: &DaemonSet) -> Option<RollingUpdateDaemonSet> {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    let kind = strategy.and_then(|strategy| strategy.type_.as_deref());
    if kind.is_some_and(|kind| kind != "RollingUpdate") {
        return None;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.clone());
    Some(rolling.unwrap_or_default())
}

fn surge(settings: &RollingUpdateDaemonSet, total: i32) -> i32 {
    let surge = settings.max_surge.as_ref();
    surge.map_or(0, |surge| scaled(surge, total, true))
}

/// Whether a node may have two pods for a while.
pub(super) fn allows_surge(set: &DaemonSet) -> bool {
    settings(set).is_some_and(|settings| surge(&settings, 1) > 0)
}

/// Surge and unavailable.
fn limits(settings: &RollingUpdateDaemonSet, total: i32) -> (usize, usize) {
    let surge = surge(settings, total);
    let unavailable = settings.max_unavailable.as_ref();
    let mut unavailable = unavailable.map_or(1, |some| scaled(some, total, true));
    if surge == 0 && unavailable == 0 {
        // Then nothing would ever move.
        unavailable = 1;
    }
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    (count(surge), count(unavailable))
}

/// Plans the next step.
pub(super) fn roll(world: &World<'_>, plan: &mut Plan) {
    let Some(settings) = settings(world.set) else {
        return;
    };
    let desired = world.wanted().count();
    let total = i32::try_from(desired).unwrap_or(i32::MAX);
    let (surge, unavailable) = limits(&settings, total);
    let work = if surge == 0 {
        replace(world, unavailable)
    } else {
        beside(world, surge, desired)
    };
    carry_out(world, &work, plan);
}

/// The pods of a node that stay: at most one of the current template and one of an earlier one.
struct Pair<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
}

/// `None` if a node has more than that: it is for `manage` to tidy.
fn pair<'a>(world: &'a World<'_>, node: &str) -> Option<Pair<'a>> {
    let mut pair = Pair {
        new: None,
        old: None,
    };
    for pod in world.pods_on(node).iter().copied() {
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let slot = if world.is_updated(pod) {
            &mut pair.new
        } else {
            &mut pair.old
        };
        if slot.replace(pod).is_some() {
            return None;
        }
    }
    Some(pair)
}

/// All nodes that have pods or are to have one.
fn nodes<'a>(world: &'a World<'_>) -> impl Iterator<Item = &'a str> {
    let with_pods = world.by_node.keys().map(String::as_str);
    let without = world
        .wanted()
        .filter(|node| !world.by_node.contains_key(*node));
    with_pods.chain(without)
}

/// Deletes old pods; `manage` makes the new ones when they are gone. Old pods that do not serve go at once, others as far
/// as nodes without a pod that serves are allowed.
fn replace<'a>(world: &'a World<'_>, allowed: usize) -> Work<'a> {
    let mut unavailable = 0;
    let mut useless = Vec::new();
    let mut candidates = Vec::new();
    for node in nodes(world) {
        match pair(world, node) {
            Some(Pair {
                new: Some(new),
                old: None,
            }) => unavailable += usize::from(!world.is_available(new)),
            Some(Pair {
                new: None,
                old: Some(old),
            }) if world.is_available(old) => candidates.push(old),
            Some(Pair {
                new: None,
                old: Some(old),
            }) => {
                useless.push(old);
                unavailable += 1;
            }
            // None, two, or too many: `manage` has something to do here.
            _ => unavailable += 1,
        }
    }
    candidates.truncate(allowed.saturating_sub(unavailable));
    useless.extend(candidates);
    Work {
        create: Vec::new(),
        delete: useless,
    }
}

/// Makes new pods beside old ones, and deletes the old ones whose successors serve.
fn beside<'a>(world: &'a World<'_>, surge: usize, desired: usize) -> Work<'a> {
    let mut work = Work::default();
    let (mut surging, mut available) = (0_usize, 0_usize);
    let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
    for node in nodes(world) {
        let Some(pair) = pair(world, node) else {
            surging += 1;
            continue;
        };
        let serves = pair.old.or(pair.new).map(|pod| world.is_available(pod));
        available += usize::from(serves == Some(true));
        match (pair.old, pair.new) {
            (None, _) => {} // nothing old: `manage` looks after it
            (Some(old), Some(new)) => {
                if world.is_available(new) {
                    work.delete.push(old);
                } else {
                    surging += 1;
                }
            }
            (Some(old), None) => {
                let Some(verdict) = world.verdicts.get(node) else {
                    continue; // the node is gone, and its pods with it
                };
                match (*verdict == Verdict::Runs, serves == Some(true)) {
                    (true, true) => candidates.push(node),
                    (true, false) => work.create.push(node),
                    (false, true) => misplaced.push(old),
                    (false, false) => work.delete.push(old),
                }
            }
        }
    }
    // Who surges expects no gap: a pod that serves where none belongs stays until the others suffice.
    misplaced.truncate(available.saturating_sub(desired));
    work.delete.extend(misplaced);
    candidates.truncate(surge.saturating_sub(surging));
    work.create.extend(candidates);
    work
}
