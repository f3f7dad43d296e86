//! The status of a budget out of its pods. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_client::events::EventKind;
use corten_client::runner::{Action, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::expected::{self, Scale};
use crate::pods;

/// How long an eviction that was let through counts as under way. Upstream's number.
const DISRUPTED_SECONDS: i64 = 120;

pub(super) fn of(
    budget: &PodDisruptionBudget,
    covered: &[(Arc<Pod>, Scale)],
    now: Timestamp,
    plan: &mut Plan,
) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    let (expected, desired) = match expected::of(budget, covered) {
        Ok(numbers) => numbers,
        Err(why) => {
            // What is not known is not allowed.
            plan.push(Action::event(
                budget,
                EventKind::Warning,
                "CalculateExpectedPodCountFailed",
                why.clone(),
            ));
            let conditions = condition(&old, ("False", "SyncFailed", why), generation, now);
            return PodDisruptionBudgetStatus {
                disruptions_allowed: 0,
                observed_generation: generation,
                conditions: Some(conditions),
                ..old
            };
        }
    };
    let disrupted = disrupted(budget, &old, covered, now, plan);
    let healthy = covered.iter().filter(|(pod, _)| {
        let leaving = disrupted.contains_key(pod.metadata.name.as_deref().unwrap_or_default());
        pod.metadata.deletion_timestamp.is_none() && !leaving && pods::is_ready(pod)
    });
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected > 0 {
        (healthy - desired).max(0)
    } else {
        0
    };
    let verdict = if allowed > 0 {
        ("True", "SufficientPods", String::new())
    } else {
        ("False", "InsufficientPods", String::new())
    };
    PodDisruptionBudgetStatus {
        conditions: Some(condition(&old, verdict, generation, now)),
        current_healthy: healthy,
        desired_healthy: desired,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: generation,
    }
}

/// Evictions that are under way: noted, not old, and the pod is still there untouched.
fn disrupted(
    budget: &PodDisruptionBudget,
    old: &PodDisruptionBudgetStatus,
    covered: &[(Arc<Pod>, Scale)],
    now: Timestamp,
    plan: &mut Plan,
) -> BTreeMap<String, Time> {
    let mut kept = BTreeMap::new();
    for (name, since) in old.disrupted_pods.iter().flatten() {
        let found = covered
            .iter()
            .find(|(pod, _)| pod.metadata.name.as_ref() == Some(name));
        let Some((pod, _)) = found.filter(|(pod, _)| pod.metadata.deletion_timestamp.is_none())
        else {
            continue;
        };
        let left = since.0.as_second() + DISRUPTED_SECONDS - now.as_second();
        if left <= 0 {
            let budget = budget.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Pod was expected by PDB {budget} to be deleted but it wasn't");
            plan.push(Action::event(
                &**pod,
                EventKind::Warning,
                "NotDeleted",
                message,
            ));
            continue;
        }
        plan.requeue(Duration::from_secs(left.unsigned_abs()));
        kept.insert(name.clone(), since.clone());
    }
    kept
}

fn condition(
    old: &PodDisruptionBudgetStatus,
    (status, reason, message): (&str, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    const KIND: &str = "DisruptionAllowed";
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let before = conditions
        .iter()
        .find(|c| c.type_ == KIND && c.status == status);
    let new = Condition {
        type_: KIND.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |c| c.last_transition_time.clone()),
    };
    match conditions.iter_mut().find(|c| c.type_ == KIND) {
        Some(held) => *held = new,
        None => conditions.push(new),
    }
    conditions
}
