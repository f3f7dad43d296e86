//! EndpointSlice: owns the EndpointSlices of Services with a selector. Watches Services, pods and slices; writes slices,
//! as few as possible: an endpoint stays in the slice where it is, and new ones fill slices that change anyway.
//!
//! ```text
//!  pods ── endpoints, grouped by address family and ports ── place into the slices there are ── updates, creates, deletes
//! ```

mod endpoint;
pub mod mirror;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::object::controller_reference;
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::services::{self, HEADLESS_LABEL};
use crate::{pods, truncated};

/// Names the Service of a slice.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Names who looks after a slice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Us, under upstream's name: clients look for it.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
/// Index of slices by namespace and Service.
pub const BY_SERVICE: &str = "service";

/// The controller over its caches.
pub struct EndpointSlices {
    /// All Services.
    pub services: Cache<Service>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// All nodes, for their zones.
    pub nodes: Cache<Node>,
    /// All slices, indexed by [`BY_SERVICE`].
    pub slices: Cache<EndpointSlice>,
}

/// The keys of [`BY_SERVICE`]: of our slices only.
pub fn service_of(slice: &EndpointSlice) -> Vec<String> {
    owner(slice)
        .map(|name| name.to_string())
        .into_iter()
        .collect()
}

fn owner(slice: &EndpointSlice) -> Option<ObjectName> {
    managed_by(slice, MANAGED_BY)
}

/// Namespace and Service of a slice that this manager looks after.
fn managed_by(slice: &EndpointSlice, manager: &str) -> Option<ObjectName> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == manager);
    let service = labels.get(SERVICE_LABEL).filter(|_| ours)?;
    Some(ObjectName::new(
        slice.metadata.namespace.clone().unwrap_or_default(),
        service.clone(),
    ))
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The Service, unless it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// Zones of nodes.
    pub zones: BTreeMap<String, String>,
    /// Its slices.
    pub slices: Vec<Arc<EndpointSlice>>,
}

impl EndpointSlices {
    /// Keys to wake for a changed Service.
    pub fn of_service(&self, change: &Change<Service>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed pod.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        services::of_pod(&self.services, change)
    }

    /// Keys to wake for a changed slice: someone may have tampered with it.
    pub fn of_slice(&self, change: &Change<EndpointSlice>) -> Vec<ObjectName> {
        change
            .old()
            .map(|slice| &**slice)
            .into_iter()
            .chain([&**change.object()])
            .filter_map(owner)
            .collect()
    }
}

impl Controller for EndpointSlices {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let Some(service) = self.services.get_named(key) else {
            return View::default();
        };
        let pods = services::pods_of(&service, &self.pods);
        let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
        let mut zones = BTreeMap::new();
        for name in pods
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
        {
            let node = self.nodes.get("", &name);
            let zone = node.and_then(|node| {
                node.metadata
                    .labels
                    .as_ref()?
                    .get("topology.kubernetes.io/zone")
                    .cloned()
            });
            zones.extend(zone.map(|zone| (name, zone)));
        }
        View {
            service: Some(service),
            pods,
            zones,
            slices,
        }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        // Slices of a Service that is gone are the garbage collector's: they name it as their owner.
        let Some(service) = view
            .service
            .as_ref()
            .filter(|service| service.metadata.deletion_timestamp.is_none())
        else {
            return Plan::nothing();
        };
        let external =
            service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        let live = view
            .slices
            .iter()
            .filter(|slice| slice.metadata.deletion_timestamp.is_none());
        if external {
            return Plan::of(live.map(|slice| Action::delete(&**slice)));
        }
        if !services::selects_pods(service) {
            return Plan::nothing(); // someone else's, or the user's own slices
        }
        let groups = endpoint::groups(service, &view.pods, &view.zones);
        let placed = place::place(groups, live.map(|slice| (**slice).clone()).collect());
        let mut plan = Plan::nothing();
        for mut slice in placed.updates {
            let before = view
                .slices
                .iter()
                .find(|old| old.metadata.name == slice.metadata.name);
            dress(service, &mut slice.metadata);
            if before.is_none_or(|before| **before != slice) {
                plan.push(Action::update(&slice));
            }
        }
        plan.actions
            .extend(placed.deletes.iter().map(Action::delete));
        let mut taken: Vec<String> = view
            .slices
            .iter()
            .filter_map(|slice| slice.metadata.name.clone())
            .collect();
        for mut slice in placed.creates {
            slice.metadata.name = Some(free_name(&service.metadata, &mut taken));
            dress(service, &mut slice.metadata);
            plan.push(Action::create(&slice));
        }
        plan
    }
}

/// A name out of the owner's that none of its slices has. The same state gives the same name, so that a repeated create fails
/// instead of making a second slice.
fn free_name(meta: &ObjectMeta, taken: &mut Vec<String>) -> String {
    let (base, uid) = (
        meta.name.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
    );
    let mut index = 0_u32;
    loop {
        let name = format!(
            "{}-{}",
            truncated(base, 57),
            pods::short_name(format!("{uid}/{index}").as_bytes(), 5)
        );
        if !taken.contains(&name) {
            taken.push(name.clone());
            return name;
        }
        index += 1;
    }
}

/// Labels and owner: the Service's own labels, and ours over them.
fn dress(service: &Service, meta: &mut ObjectMeta) {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if services::is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(
        SERVICE_LABEL.to_owned(),
        service.metadata.name.clone().unwrap_or_default(),
    );
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    meta.labels = Some(labels);
    meta.namespace.clone_from(&service.metadata.namespace);
    let owner = controller_reference(service);
    let owners = meta.owner_references.get_or_insert_default();
    if !owners.contains(&owner) {
        owners.retain(|other| other.uid != owner.uid && other.controller != Some(true));
        owners.push(owner);
    }
}

#[cfg(test)]
mod tests;
