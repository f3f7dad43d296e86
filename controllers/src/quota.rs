//! ResourceQuota: counts what a namespace uses. Watches quotas, Pods, Services and the metadata of everything else that is
//! counted; writes `resourcequotas/status`.
//!
//! The API server charges a quota before it lets something in; what goes, or came to nothing after it was charged, is taken off
//! here. Pure but for the caches. Invariant: a plan writes all of `hard` and `used`, under the quota's revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::kinds::ResourceDescriptor;
use corten_api::quantity::{Format, Quantity};
use corten_api::quota::{self, Amounts};
use corten_client::cache::{Cache, Change};
use corten_client::object::Cached;
use corten_client::runner::{Action, Controller, Plan};
use corten_client::{ObjectName, PartialObject};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use serde::Serialize;
use serde_json::{Value, json};

use crate::garbage::Graph;
use crate::pods;

/// Charges for what was never stored are found by then; upstream's takes five minutes.
const RECOUNT: Duration = Duration::from_secs(60);

/// The controller over its caches.
pub struct Quotas {
    /// All quotas.
    pub quotas: Cache<ResourceQuota>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// All Services.
    pub services: Cache<Service>,
    /// The metadata of all kinds.
    pub graph: Graph,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The quota, unless it is gone.
    pub quota: Option<Arc<ResourceQuota>>,
    /// Objects that are looked into: group, plural name, object.
    pub objects: Vec<(&'static str, &'static str, Value)>,
    /// How many there are of those that are only counted, by their names in quotas.
    pub counts: BTreeMap<String, i64>,
}

fn value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

impl Quotas {
    /// Keys to wake for a changed quota: not for its status, which changes with every charge, unless it lacks something.
    pub fn of_quota(&self, change: &Change<ResourceQuota>) -> Vec<ObjectName> {
        let quota = change.object();
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        let status = quota.status.as_ref();
        let known = status.and_then(|status| status.hard.as_ref());
        let counted = status
            .and_then(|status| status.used.as_ref())
            .map(BTreeMap::len);
        if hard == known && counted == hard.map(BTreeMap::len) && counted.is_some() {
            return Vec::new();
        }
        vec![ObjectName::of(&**quota)]
    }

    /// Keys to wake for a changed pod: all quotas of its namespace when it goes or ends.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        let ended = pods::is_finished(change.object())
            && change.old().is_some_and(|old| !pods::is_finished(old));
        if ended || change.is_removed() {
            self.in_namespace_of(&**change.object())
        } else {
            Vec::new()
        }
    }

    /// Keys to wake for a changed Service: an update may free ports.
    pub fn of_service(&self, change: &Change<Service>) -> Vec<ObjectName> {
        if change.old().is_some() || change.is_removed() {
            self.in_namespace_of(&**change.object())
        } else {
            Vec::new()
        }
    }

    /// Keys to wake for a change of an object that is only counted.
    pub fn of_counted(&self, change: &Change<PartialObject>) -> Vec<ObjectName> {
        if change.is_removed() {
            self.in_namespace_of(&**change.object())
        } else {
            Vec::new()
        }
    }

    fn in_namespace_of<T: Cached>(&self, object: &T) -> Vec<ObjectName> {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let quotas = self.quotas.list_namespace(namespace);
        quotas
            .iter()
            .map(|quota| ObjectName::of(&**quota))
            .collect()
    }

    /// Of kinds that the quota counts and nobody looks into.
    fn counts(&self, namespace: &str, hard: &Amounts) -> BTreeMap<String, i64> {
        let mut counts = BTreeMap::new();
        for (
            ResourceDescriptor {
                group, resource, ..
            },
            cache,
        ) in self.graph.kinds.iter()
        {
            if group.is_empty() && matches!(*resource, "pods" | "services") {
                continue;
            }
            let names = quota::counted(group, resource).into_iter();
            let names: Vec<String> = names.filter(|name| hard.contains_key(name)).collect();
            if names.is_empty() {
                continue;
            }
            let count = i64::try_from(cache.list_namespace(namespace).len()).unwrap_or(i64::MAX);
            counts.extend(names.into_iter().map(|name| (name, count)));
        }
        counts
    }
}

impl Controller for Quotas {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(quota) = self.quotas.get_named(key) else {
            return View::default();
        };
        let hard = hard_of(&quota);
        let pods = self.pods.list_namespace(&key.namespace);
        let services = self.services.list_namespace(&key.namespace);
        let pods = pods.iter().map(|pod| ("", "pods", value(&**pod)));
        let services = services
            .iter()
            .map(|service| ("", "services", value(&**service)));
        View {
            objects: pods.chain(services).collect(),
            counts: self.counts(&key.namespace, &hard),
            quota: Some(quota),
        }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let Some(quota) = &view.quota else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        plan.requeue(RECOUNT);
        let spec = value(&quota.spec);
        let hard = hard_of(quota);
        let status = json!({"hard": quota::to_json(&hard), "used": quota::to_json(&used(&spec, &hard, view))});
        let before = value(&quota.status);
        let same = |which: &str| quota::amounts(&status[which]) == quota::amounts(&before[which]);
        let complete = before["used"].as_object().is_some() || hard.is_empty();
        if !(same("hard") && same("used") && complete) {
            let mut changed = (**quota).clone();
            changed.status = serde_json::from_value(status).ok();
            plan.push(Action::update_status(&changed));
        }
        plan
    }
}

fn hard_of(quota: &ResourceQuota) -> Amounts {
    quota::amounts(&value(&quota.spec)["hard"])
}

fn used(spec: &Value, hard: &Amounts, view: &View) -> Amounts {
    let mut used: Amounts = hard
        .iter()
        .map(|(name, amount)| (name.clone(), Quantity::new(0, amount.format())))
        .collect();
    for (group, resource, object) in &view.objects {
        if !quota::takes_in(spec, group, resource, object) {
            continue;
        }
        for (name, amount) in quota::usage(group, resource, object) {
            if let Some(sum) = used.get_mut(&name) {
                *sum = sum.plus(amount);
            }
        }
    }
    for (name, count) in &view.counts {
        // Scopes speak of pods only.
        if quota::takes_in(spec, "", "", &Value::Null)
            && let Some(sum) = used.get_mut(name)
        {
            *sum = Quantity::new(*count, Format::DecimalSi);
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        quota: Value,
        objects: Vec<(&'static str, &'static str, Value)>,
        counts: &[(&str, i64)],
    ) -> Plan {
        let controller = Quotas {
            quotas: Cache::fixed([], corten_client::cache::CacheOptions::all()),
            pods: Cache::fixed([], corten_client::cache::CacheOptions::all()),
            services: Cache::fixed([], corten_client::cache::CacheOptions::all()),
            graph: Graph {
                kinds: Arc::new(Vec::new()),
            },
        };
        let view = View {
            quota: Some(Arc::new(serde_json::from_value(quota).expect("quota"))),
            objects,
            counts: counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
        };
        controller.plan(&view, Timestamp::UNIX_EPOCH)
    }

    fn quota(status: Value) -> Value {
        json!({
            "metadata": {"name": "q", "namespace": "d"},
            "spec": {"hard": {"pods": "5", "cpu": "2", "secrets": "3", "count/jobs.batch": "1"}},
            "status": status,
        })
    }

    fn pod(cpu: &str, phase: &str) -> (&'static str, &'static str, Value) {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        (
            "",
            "pods",
            json!({"spec": {"containers": [container]}, "status": {"phase": phase}}),
        )
    }

    #[test]
    fn what_is_there_is_counted_and_written_once() {
        let objects = || {
            vec![
                pod("500m", "Running"),
                pod("1", "Pending"),
                pod("1", "Failed"),
            ]
        };
        let counts = [("secrets", 2)];
        let first = plan(quota(json!({})), objects(), &counts);
        let [Action::Update { object, .. }] = &first.actions[..] else {
            panic!("{first:?}")
        };
        let hard = json!({"pods": "5", "cpu": "2", "secrets": "3", "count/jobs.batch": "1"});
        let used = json!({"pods": "2", "cpu": "1500m", "secrets": "2", "count/jobs.batch": "0"});
        assert_eq!(object["status"], json!({"hard": hard, "used": used}));
        let settled = plan(
            quota(json!({"hard": hard, "used": used})),
            objects(),
            &counts,
        );
        assert!(settled.actions.is_empty(), "{settled:?}");
        assert_eq!(settled.requeue_after, Some(RECOUNT));
    }

    #[test]
    fn scopes_leave_everything_but_their_pods_out() {
        let mut scoped = quota(json!({}));
        scoped["spec"]["scopes"] = json!(["BestEffort"]);
        let best_effort = ("", "pods", json!({"spec": {"containers": [{"name": "c"}]}}));
        let plan = plan(
            scoped,
            vec![pod("1", "Running"), best_effort],
            &[("secrets", 2)],
        );
        let [Action::Update { object, .. }] = &plan.actions[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(object["status"]["used"]["pods"], "1");
        assert_eq!(object["status"]["used"]["secrets"], "0");
    }
}
