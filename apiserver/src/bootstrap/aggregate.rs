//! Aggregated ClusterRoles: the rules of a role with an `aggregationRule` are the union of the roles that its selectors
//! match.
//!
//! Every server does this; the result depends only on the roles, so that two doing it at once agree. Invariant: an aggregate
//! is written only when its rules change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::authz::policy::{Rule, rules_of};
use crate::chain::objects::{Change, FOLLOW_QUEUE, Objects, Resource};

const ROLES: Resource = Resource::rbac("clusterroles");
/// Changes come in bursts, a chart's roles for example.
const SETTLE: Duration = Duration::from_millis(50);
/// How often a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps aggregates up to date until shutdown.
pub fn start(objects: &Arc<dyn Objects>, shutdown: &Shutdown) {
    let (sender, receiver) = mpsc::channel(FOLLOW_QUEUE);
    let (source, stop) = (Arc::clone(objects), shutdown.clone());
    spawn("aggregate-follow", TaskKind::Background, async move {
        tokio::select! {
            biased;
            () = stop.wait() => {}
            () = source.follow(ROLES, sender) => {}
        }
    });
    spawn(
        "aggregate-roles",
        TaskKind::Background,
        run(Arc::clone(objects), receiver),
    );
}

async fn run(objects: Arc<dyn Objects>, mut changes: mpsc::Receiver<Change>) {
    let mut roles: BTreeMap<String, Value> = BTreeMap::new();
    let mut wait = None;
    loop {
        let change = match wait {
            None => changes.recv().await,
            Some(time) => match tokio::time::timeout(time, changes.recv()).await {
                Ok(change) => change,
                Err(_) => {
                    wait = write_changed(&*objects, &roles).await;
                    continue;
                }
            },
        };
        let Some(change) = change else { return };
        take(&mut roles, change);
        wait = Some(SETTLE);
    }
}

fn take(roles: &mut BTreeMap<String, Value>, change: Change) {
    let name = |role: &Value| {
        role["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    match change {
        Change::Reset(all) => *roles = all.into_iter().map(|role| (name(&role), role)).collect(),
        Change::Set(role) => drop(roles.insert(name(&role), role)),
        Change::Removed { name, .. } => drop(roles.remove(&name)),
    }
}

/// Returns when to try again, if something failed.
async fn write_changed(objects: &dyn Objects, roles: &BTreeMap<String, Value>) -> Option<Duration> {
    let mut again = None;
    for role in stale(roles) {
        if let Err(error) = objects.update(ROLES, "", role).await {
            tracing::debug!(%error, "aggregated role not written, will try again");
            again = Some(RETRY);
        }
    }
    again
}

/// The aggregates whose rules differ from what they should be, with the rules that they should have.
pub(super) fn stale(roles: &BTreeMap<String, Value>) -> Vec<Value> {
    let mut out = Vec::new();
    for (name, role) in roles {
        let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() else {
            continue;
        };
        let mut rules: Vec<Rule> = Vec::new();
        for (other, source) in roles {
            if other != name && selectors.iter().any(|selector| matches(selector, source)) {
                for rule in rules_of(source) {
                    if !rules.contains(&rule) {
                        rules.push(rule);
                    }
                }
            }
        }
        if rules != rules_of(role) {
            let mut updated = role.clone();
            updated["rules"] = rules.iter().map(Rule::to_value).collect();
            out.push(updated);
        }
    }
    out
}

/// A label selector; an empty one matches everything, as everywhere.
fn matches(selector: &Value, role: &Value) -> bool {
    let labels = &role["metadata"]["labels"];
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    equal
        .into_iter()
        .all(|(key, value)| labels[key.as_str()] == *value)
        && expressions.iter().all(|expression| {
            let value = &labels[expression["key"].as_str().unwrap_or_default()];
            let listed = expression["values"]
                .as_array()
                .is_some_and(|values| values.contains(value));
            match expression["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => !value.is_null(),
                Some("DoesNotExist") => value.is_null(),
                _ => false,
            }
        })
}
