//! ServiceCIDR: says when a range may give addresses, and keeps one that is deleted until no Service needs it. Watches
//! ServiceCIDRs and IPAddresses; writes the finalizer and the condition Ready of ServiceCIDRs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::runner::{Action, Controller, Plan};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::json;

use crate::finalizer;

/// Upstream's name of it, which people see when a range will not go.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// So long the API servers may take to hear that a range is going; until then they may still give addresses of it.
const GRACE: SignedDuration = SignedDuration::from_secs(10);
/// Who makes the addresses of Services.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

/// The controller over its caches.
pub struct ServiceCidrs {
    /// All ranges.
    pub ranges: Cache<ServiceCIDR>,
    /// All addresses.
    pub addresses: Cache<IPAddress>,
}

/// What one plan depends on.
pub struct View {
    range: Arc<ServiceCIDR>,
    /// Whether Services have addresses that would be of no range without it. Only looked at when it is going.
    needed: bool,
}

impl ServiceCidrs {
    /// Keys to wake for a changed range: those that are going may hang on any other.
    pub fn of_range(&self, change: &Change<ServiceCIDR>) -> Vec<ObjectName> {
        let mut keys = vec![ObjectName::of(&**change.object())];
        keys.extend(self.going());
        keys
    }

    /// Keys to wake for an address that has gone: one less for the ranges that wait for that.
    pub fn of_address(&self, change: &Change<IPAddress>) -> Vec<ObjectName> {
        if change.is_removed() {
            self.going()
        } else {
            Vec::new()
        }
    }

    fn going(&self) -> Vec<ObjectName> {
        let ranges = self.ranges.list();
        let going = ranges
            .iter()
            .filter(|range| range.metadata.deletion_timestamp.is_some());
        going.map(|range| ObjectName::of(&**range)).collect()
    }

    fn is_needed(&self, range: &ServiceCIDR) -> bool {
        let others: Vec<IpNet> = {
            let all = self.ranges.list();
            let others = all
                .iter()
                .filter(|other| other.metadata.uid != range.metadata.uid);
            others.flat_map(|other| nets(other)).collect()
        };
        let own = nets(range);
        if own
            .iter()
            .all(|net| others.iter().any(|other| other.contains(net)))
        {
            return false;
        }
        let within = |nets: &[IpNet], ip: &IpAddr| nets.iter().any(|net| net.contains(ip));
        let mut needed = false;
        self.addresses.for_each(|address| {
            let labels = address.metadata.labels.as_ref();
            let service = labels.and_then(|labels| labels.get(MANAGED_BY.0));
            let name = address.metadata.name.as_deref().unwrap_or_default();
            needed |= service.is_some_and(|by| by == MANAGED_BY.1)
                && name
                    .parse()
                    .is_ok_and(|ip| within(&own, &ip) && !within(&others, &ip));
        });
        needed
    }
}

fn nets(range: &ServiceCIDR) -> Vec<IpNet> {
    let texts = range.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    let nets = texts.into_iter().flatten();
    nets.filter_map(|text| text.parse().ok()).collect()
}

/// Brings the condition Ready to this, unless it is so.
fn ready(plan: &mut Plan, range: &ServiceCIDR, now: Timestamp, wanted: [&str; 3]) {
    let status = range.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.cloned().unwrap_or_default();
    let [status, reason, message] = wanted;
    let held = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    if held.is_some_and(|held| {
        held.status == status
            && held.reason == reason
            && (held.message == message || status == "True")
    }) {
        return;
    }
    conditions.retain(|condition| condition.type_ != "Ready");
    let mut conditions = json!(conditions);
    if let Some(list) = conditions.as_array_mut() {
        list.push(json!({
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": corten_api::meta::format_time(now),
        }));
    }
    plan.push(Action::merge_status(
        range,
        json!({"status": {"conditions": conditions}}),
    ));
}

impl Controller for ServiceCidrs {
    type Key = ObjectName;
    type View = Option<View>;

    fn name(&self) -> &'static str {
        "service-cidr-controller"
    }

    fn view(&self, key: &ObjectName) -> Option<View> {
        let range = self.ranges.get_named(key)?;
        let needed = range.metadata.deletion_timestamp.is_some() && self.is_needed(&range);
        Some(View { range, needed })
    }

    fn plan(&self, view: &Option<View>, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(View { range, needed }) = view else {
            return plan;
        };
        let guarded = finalizer::is_on(&**range, FINALIZER);
        let Some(going) = &range.metadata.deletion_timestamp else {
            if !guarded {
                plan.push(finalizer::put_on(&**range, FINALIZER));
            }
            let words = ["True", "", "Kubernetes Service CIDR is ready"];
            ready(&mut plan, range, now, words);
            return plan;
        };
        if *needed {
            let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            ready(&mut plan, range, now, ["False", "Terminating", why]);
            return plan;
        }
        match Duration::try_from(GRACE - now.duration_since(going.0)) {
            Ok(left) if !left.is_zero() => plan.requeue(left),
            _ if guarded => plan.push(finalizer::take_off(&**range, FINALIZER)),
            _ => {}
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use corten_client::client::Patch;
    use serde_json::Value;

    use super::*;

    fn range(name: &str, cidr: &str, going: Option<&str>) -> ServiceCIDR {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "deletionTimestamp": going, "finalizers": [FINALIZER]},
            "spec": {"cidrs": [cidr]},
        }))
        .expect("range")
    }

    fn address(ip: &str, by: &str) -> IPAddress {
        let (key, _) = MANAGED_BY;
        serde_json::from_value(json!({"metadata": {"name": ip, "labels": {key: by}}}))
            .expect("address")
    }

    /// What is planned for the first range: patches, and seconds to wait.
    fn planned(ranges: Vec<ServiceCIDR>, addresses: Vec<IPAddress>) -> (Vec<Value>, Option<u64>) {
        let key = ObjectName::of(&ranges[0]);
        let controller = ServiceCidrs {
            ranges: Cache::fixed(ranges, CacheOptions::all()),
            addresses: Cache::fixed(addresses, CacheOptions::all()),
        };
        let now = "2026-01-01T00:00:20Z".parse().expect("time");
        let plan = controller.plan(&controller.view(&key), now);
        let patches = plan.actions.iter().map(|action| match action {
            Action::Patch {
                patch: Patch::Merge(patch) | Patch::Strategic(patch),
                ..
            } => patch.clone(),
            other => panic!("{other:?}"),
        });
        let wait = plan.requeue_after.map(|left| left.as_secs());
        (patches.collect(), wait)
    }

    #[test]
    fn a_new_range_is_guarded_and_ready() {
        let mut new = range("a", "10.1.0.0/24", None);
        new.metadata.finalizers = None;
        let (patches, wait) = planned(vec![new], Vec::new());
        assert_eq!(patches[0], json!({"metadata": {"finalizers": [FINALIZER]}}));
        assert_eq!(patches[1]["status"]["conditions"][0]["status"], "True");
        assert_eq!((patches.len(), wait), (2, None));
    }

    #[test]
    fn a_range_goes_once_nothing_needs_it() {
        let long_ago = Some("2026-01-01T00:00:00Z");
        let just_now = Some("2026-01-01T00:00:15Z");
        let ours = || address("10.1.0.9", MANAGED_BY.1);
        let small = |going| range("a", "10.1.0.0/24", going);
        let large = || range("b", "10.1.0.0/16", None);
        let release = "$deleteFromPrimitiveList/finalizers";
        let free = json!({"metadata": {release: [FINALIZER]}});
        assert_eq!(planned(vec![small(long_ago)], vec![]).0, vec![free.clone()]);
        assert_eq!(planned(vec![small(just_now)], vec![]), (vec![], Some(5)));
        let (patches, _) = planned(vec![small(long_ago)], vec![ours()]);
        assert_eq!(
            patches[0]["status"]["conditions"][0]["reason"],
            "Terminating"
        );
        let strangers = vec![address("10.1.0.9", "me"), address("10.2.0.9", MANAGED_BY.1)];
        assert_eq!(
            planned(vec![small(long_ago)], strangers).0,
            vec![free.clone()]
        );
        let (patches, _) = planned(vec![small(long_ago), large()], vec![ours()]);
        assert_eq!(patches, vec![free]);
    }
}
