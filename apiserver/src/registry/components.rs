//! ComponentStatus: whether scheduler, controllers and the store's members answer, looked at when somebody asks.
//!
//! Scheduler and controllers may run on any host, and more than one of each: what tells of them is the lease that their
//! leader renews. A member of the store answers if it can serve a read that all acknowledged writes are in.

use std::sync::Arc;

use corten_api::meta::GroupResource;
use corten_api::status::Status;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{List, Registry, Target};
use crate::cache::{Item, Selection};
use crate::storage::Revision;

/// Name of the component, name of its lease.
const LED: [(&str, &str); 2] = [
    ("controller-manager", "kube-controller-manager"),
    ("scheduler", "kube-scheduler"),
];

impl Registry {
    /// All components that are selected. Whoever reads them reads them whole: there are few, and no revision.
    pub(super) async fn components(
        &self,
        target: &Target,
        selection: &Selection,
    ) -> Result<List, Status> {
        let mut items = self.all_components(target).await?;
        items.retain(|item| selection.matches(item));
        Ok(List {
            revision: Revision::ZERO,
            items,
            continue_token: None,
            remaining: None,
        })
    }

    /// One component.
    pub(super) async fn component(&self, target: &Target) -> Result<Arc<Item>, Status> {
        let items = self.all_components(target).await?;
        let found = items.into_iter().find(|item| *item.name == *target.name);
        // As upstream says it: the one, not the resource.
        let one = GroupResource::new("", target.descriptor.singular);
        found.ok_or_else(|| Status::not_found(&one, &target.name))
    }

    async fn all_components(&self, target: &Target) -> Result<Vec<Arc<Item>>, Status> {
        let now = Timestamp::now();
        let mut states = Vec::new();
        for (name, lease) in LED {
            states.push((name.to_owned(), self.led(lease, now)?));
        }
        let members = self.store.ailments().await.into_iter().enumerate();
        states.extend(members.map(|(i, ailment)| (format!("etcd-{i}"), ailment)));
        let item = |(name, ailment): (String, Option<String>)| {
            let object = object(&name, ailment);
            let item = Item::from_value(target.descriptor, &name, object, Revision::ZERO)?;
            Ok(Arc::new(item))
        };
        states.into_iter().map(item).collect()
    }

    /// Why nobody leads, if so.
    fn led(&self, lease: &str, now: Timestamp) -> Result<Option<String>, Status> {
        let target = Target::of("coordination.k8s.io", "leases", "kube-system", lease)?;
        let snapshot = self.cache(&target)?.snapshot();
        let found = snapshot.get(&target.namespace, &target.name);
        Ok(match found {
            None => Some(format!("nobody has taken the lease {lease} yet")),
            Some(item) => ailment(lease, &item.value()["spec"], now),
        })
    }
}

/// What a lease says against its holder.
fn ailment(lease: &str, spec: &Value, now: Timestamp) -> Option<String> {
    let renewed: Option<Timestamp> = spec["renewTime"].as_str().and_then(|it| it.parse().ok());
    let good_for = spec["leaseDurationSeconds"].as_i64().unwrap_or(0);
    let holder = spec["holderIdentity"].as_str().unwrap_or("");
    match renewed {
        _ if holder.is_empty() => Some(format!("nobody holds the lease {lease}")),
        Some(at) if now.duration_since(at) <= SignedDuration::from_secs(good_for) => None,
        Some(at) => Some(format!(
            "{holder} renewed the lease {lease} last at {at:.0}"
        )),
        None => Some(format!("{holder} never renewed the lease {lease}")),
    }
}

fn object(name: &str, ailment: Option<String>) -> Value {
    let healthy = if ailment.is_none() { "True" } else { "False" };
    json!({
        "apiVersion": "v1",
        "kind": "ComponentStatus",
        "metadata": {"name": name},
        "conditions": [{
            "type": "Healthy",
            "status": healthy,
            "message": ailment.unwrap_or_else(|| "ok".to_owned()),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_healthy_while_its_lease_is_good() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let said = |spec: Value| ailment("kube-scheduler", &spec, now);
        let spec = |renewed: &str, holder: &str| json!({"renewTime": renewed, "holderIdentity": holder, "leaseDurationSeconds": 15});
        assert_eq!(said(spec("2026-01-01T00:00:50.000000Z", "a")), None);
        let cases = [
            (
                spec("2026-01-01T00:00:40.000000Z", "a"),
                "a renewed the lease kube-scheduler last at 2026-01-01T00:00:40Z",
            ),
            (
                spec("2026-01-01T00:00:50.000000Z", ""),
                "nobody holds the lease kube-scheduler",
            ),
            (
                json!({"holderIdentity": "a"}),
                "a never renewed the lease kube-scheduler",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(said(spec).as_deref(), Some(expected));
        }
    }
}
