//! One pod on every node that is to have one, none elsewhere: what is missing is created, what failed, ended, is too many
//! or out of place is deleted. Pure.

use std::sync::Arc;
use std::time::Duration;

use corten_client::events::EventKind;
use corten_client::runner::{Action, Plan};
use k8s_openapi::api::core::v1::Pod;

use super::{Verdict, World, pod, rolling};
use crate::pods;

/// At most so many pods are made, and so many removed, in one run; the rest follows in the next. Upstream's burst.
const BURST: usize = 250;

/// What is to be done.
#[derive(Default)]
pub(super) struct Work<'a> {
    /// Nodes that get a pod.
    pub(super) create: Vec<&'a str>,
    /// Pods that go.
    pub(super) delete: Vec<&'a Arc<Pod>>,
}

/// Plans it; whether there was anything to create or delete.
pub(super) fn manage(world: &World<'_>, plan: &mut Plan) -> bool {
    let mut work = Work::default();
    plan.begin_group();
    for (node, verdict) in &world.verdicts {
        look_at(world, node, *verdict, &mut work, plan);
    }
    // A pod for a node that is gone is never bound, and so never collected by whoever looks after nodes.
    for (_, pods) in world
        .by_node
        .iter()
        .filter(|(node, _)| !world.verdicts.contains_key(node.as_str()))
    {
        let pods = pods.iter().copied();
        let present = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
        work.delete.extend(present.filter(|pod| !is_bound(pod)));
    }
    let any = !work.create.is_empty() || !work.delete.is_empty();
    carry_out(world, &work, plan);
    any
}

fn is_bound(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty())
}

/// Bound pods first, then by age: the first of a node is the one that counts.
pub(super) fn by_rank<'a>(pods: &[&'a Arc<Pod>]) -> Vec<&'a Arc<Pod>> {
    let mut ranked = pods.to_vec();
    ranked.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!is_bound(pod), created, pod.metadata.name.clone())
    });
    ranked
}

fn look_at<'a>(
    world: &'a World<'_>,
    node: &'a str,
    verdict: Verdict,
    work: &mut Work<'a>,
    plan: &mut Plan,
) {
    let pods = world.pods_on(node);
    let present = pods
        .iter()
        .copied()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    if verdict == Verdict::Goes {
        work.delete.extend(present);
        return;
    }
    let runs = verdict == Verdict::Runs;
    if pods.is_empty() {
        if runs {
            work.create.push(node);
        }
        return;
    }
    let mut running = Vec::new();
    let mut waiting = false;
    for pod in present {
        if is_kept(world, node, pod, plan) {
            running.push(pod);
        } else if wait_for(world, pod).is_zero() {
            work.delete.push(pod);
        } else {
            waiting = true;
        }
    }
    let running = by_rank(&running);
    if !rolling::allows_surge(world.set) {
        work.delete.extend(running.into_iter().skip(1));
    } else if running.is_empty() {
        // Beside one that is on its way out; but not past the back-off of one that failed.
        if runs && !waiting {
            work.create.push(node);
        }
    } else {
        surplus(world, &running, work);
    }
}

fn wait_for(world: &World<'_>, pod: &Pod) -> Duration {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    world.waits.get(uid).copied().unwrap_or_default()
}

/// Whether a pod goes on. Says what is about to happen to one that does not, or when to look again.
fn is_kept(world: &World<'_>, node: &str, pod: &Pod, plan: &mut Plan) -> bool {
    let (kind, reason, word, end) = match pods::phase(pod) {
        "Failed" => (EventKind::Warning, "FailedDaemonPod", "failed", "kill"),
        "Succeeded" => (
            EventKind::Normal,
            "SucceededDaemonPod",
            "succeeded",
            "delete",
        ),
        _ => return true,
    };
    let wait = wait_for(world, pod);
    if !wait.is_zero() {
        plan.requeue(wait);
        return false;
    }
    let message = format!(
        "Found {word} daemon pod {}/{} on node {node}, will try to {end} it",
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    plan.push(Action::event(world.set, kind, reason, message));
    false
}

/// With surge there may be two pods on a node, one old and one new: the old one until the new one is available or the old
/// one is not ready.
fn surplus<'a>(world: &World<'_>, running: &[&'a Arc<Pod>], work: &mut Work<'a>) {
    let is_new = |pod: &&&Arc<Pod>| pod::hash(pod) == world.hash;
    let new = running.iter().find(is_new).copied();
    let old = running.iter().find(|pod| !is_new(pod)).copied();
    if running.len() < 2 {
        return;
    }
    let kept = [new, old];
    let is_first = |pod: &Arc<Pod>| {
        let mut kept = kept.iter().flatten();
        kept.any(|first| Arc::ptr_eq(first, pod))
    };
    let others = running.iter().copied().filter(|pod| !is_first(pod));
    work.delete.extend(others);
    if let (Some(new), Some(old)) = (new, old)
        && (!pods::is_ready(old) || world.is_available(new))
    {
        work.delete.push(old);
    }
}

/// Plans the creates as one group and the deletes as another: neither waits for the other.
pub(super) fn carry_out(world: &World<'_>, work: &Work<'_>, plan: &mut Plan) {
    let set = world.set;
    let base = set.metadata.name.as_deref().unwrap_or_default();
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let mut created = Vec::new();
    plan.begin_group();
    for node in work.create.iter().take(BURST) {
        // Unique over time, owners and nodes; a collision fails the create, and the next run has another time.
        let seed = format!("{uid}/{}/{node}", world.now.as_nanosecond());
        let name = format!(
            "{}-{}",
            crate::truncated(base, 57),
            pods::short_name(seed.as_bytes(), 5)
        );
        plan.push(Action::create(&pod::new_pod(
            set,
            world.hash,
            node,
            name.clone(),
        )));
        created.push(name);
    }
    let mut tell = |reason, message| {
        plan.push(Action::event(set, EventKind::Normal, reason, message));
    };
    for name in created {
        tell("SuccessfulCreate", format!("Created pod: {name}"));
    }
    plan.begin_group();
    let doomed = || work.delete.iter().take(BURST);
    plan.actions
        .extend(doomed().map(|pod| Action::delete(&***pod)));
    for pod in doomed() {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Deleted pod: {name}");
        plan.push(Action::event(
            set,
            EventKind::Normal,
            "SuccessfulDelete",
            message,
        ));
    }
}
