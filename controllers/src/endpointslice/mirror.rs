//! Mirrors of Endpoints: owns the EndpointSlices of Endpoints that somebody wrote by hand, for Services without a selector, since
//! proxies and DNS read slices only. Watches Services, Endpoints and slices; writes slices.
//!
//! Facts: names, labels and what is left out are those of upstream's endpointslicemirroring controller.

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::object::controller_reference;
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint::{Group, family_of};
use super::{MANAGED_BY_LABEL, SERVICE_LABEL, free_name, managed_by, place};
use crate::services;

/// Us, under upstream's name.
pub const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// Index of mirrored slices by namespace and Service.
pub const BY_MIRRORED: &str = "mirrored";
/// Endpoints with this label have slices from elsewhere.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation are locks of an election.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the Endpoints themselves.
const OWN: &[&str] = &[
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// Addresses that are taken of a subset.
const MAX_ADDRESSES: usize = 1000;

/// The controller over its caches.
pub struct Mirrors {
    /// All Services.
    pub services: Cache<Service>,
    /// All Endpoints.
    pub endpoints: Cache<Endpoints>,
    /// All slices, indexed by [`BY_MIRRORED`].
    pub slices: Cache<EndpointSlice>,
}

/// The keys of [`BY_MIRRORED`].
pub fn mirrored(slice: &EndpointSlice) -> Vec<String> {
    let name = managed_by(slice, MANAGED_BY);
    name.map(|name| name.to_string()).into_iter().collect()
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The Endpoints, if they are to be mirrored.
    pub endpoints: Option<Arc<Endpoints>>,
    /// The slices that mirror them.
    pub slices: Vec<Arc<EndpointSlice>>,
}

impl Mirrors {
    /// Keys to wake for a changed Service.
    pub fn of_service(&self, change: &Change<Service>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for changed Endpoints.
    pub fn of_endpoints(&self, change: &Change<Endpoints>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed slice: someone may have tampered with it.
    pub fn of_slice(&self, change: &Change<EndpointSlice>) -> Vec<ObjectName> {
        let both = change.old().into_iter().chain([change.object()]);
        both.filter_map(|slice| managed_by(slice, MANAGED_BY))
            .collect()
    }
}

/// Whether nobody else makes slices of these.
fn is_mirrored(service: &Service, endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP_LABEL));
    let lock = meta
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(LEADER));
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    meta.deletion_timestamp.is_none()
        && skipped.is_none_or(|value| value != "true")
        && !lock
        && selector.is_none_or(std::collections::BTreeMap::is_empty)
}

impl Controller for Mirrors {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "endpointslice-mirroring-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let slices = self.slices.by_index(BY_MIRRORED, &key.to_string());
        let service = self.services.get_named(key);
        let endpoints = self.endpoints.get_named(key);
        let endpoints =
            endpoints.filter(|found| service.is_some_and(|service| is_mirrored(&service, found)));
        View { endpoints, slices }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let gone = |slice: &&Arc<EndpointSlice>| slice.metadata.deletion_timestamp.is_some();
        let live = view.slices.iter().filter(|slice| !gone(slice));
        let Some(endpoints) = &view.endpoints else {
            return Plan::of(live.map(|slice| Action::delete(&**slice)));
        };
        let subsets = endpoints.subsets.iter().flatten();
        let groups = subsets.flat_map(groups).collect();
        let placed = place::place(groups, live.map(|slice| (**slice).clone()).collect());
        let mut plan = Plan::nothing();
        for mut slice in placed.updates {
            let name = &slice.metadata.name;
            let before = view.slices.iter().find(|old| old.metadata.name == *name);
            dress(endpoints, &mut slice.metadata);
            if before.is_none_or(|before| **before != slice) {
                plan.push(Action::update(&slice));
            }
        }
        plan.actions
            .extend(placed.deletes.iter().map(Action::delete));
        let names = view
            .slices
            .iter()
            .filter_map(|slice| slice.metadata.name.clone());
        let mut taken: Vec<String> = names.collect();
        for mut slice in placed.creates {
            slice.metadata.name = Some(free_name(&endpoints.metadata, &mut taken));
            dress(endpoints, &mut slice.metadata);
            plan.push(Action::create(&slice));
        }
        plan
    }
}

/// The endpoints of a subset, by address family.
fn groups(subset: &EndpointSubset) -> Vec<Group> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    });
    let ports: Vec<EndpointPort> = ports.collect();
    let ready = subset
        .addresses
        .iter()
        .flatten()
        .map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten();
    let all = ready.chain(unready.map(|address| (address, false)));
    let mut groups: Vec<Group> = Vec::new();
    for (address, ready) in all.take(MAX_ADDRESSES) {
        let (family, endpoint) = (family_of(&address.ip), endpoint(address, ready));
        match groups.iter_mut().find(|group| group.family == family) {
            Some(group) => group.endpoints.push(endpoint),
            None => groups.push(Group {
                family: family.to_owned(),
                ports: ports.clone(),
                endpoints: vec![endpoint],
            }),
        }
    }
    groups
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

/// Labels, annotations and owner: those of the Endpoints, and ours over them.
fn dress(endpoints: &Endpoints, meta: &mut ObjectMeta) {
    let from = &endpoints.metadata;
    let mut labels = from.labels.clone().unwrap_or_default();
    labels.remove(services::HEADLESS_LABEL);
    labels.insert(
        SERVICE_LABEL.to_owned(),
        from.name.clone().unwrap_or_default(),
    );
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    let mut annotations = from.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !OWN.contains(&key.as_str()));
    meta.labels = Some(labels);
    meta.annotations = Some(annotations).filter(|all| !all.is_empty());
    meta.namespace.clone_from(&from.namespace);
    meta.owner_references = Some(vec![controller_reference(endpoints)]);
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use serde_json::{Value, json};

    use super::*;

    fn plan(service: Value, endpoints: Option<Value>, slices: Vec<EndpointSlice>) -> Plan {
        let endpoints =
            endpoints.map(|value| serde_json::from_value::<Endpoints>(value).expect("endpoints"));
        let service: Service = serde_json::from_value(service).expect("a service");
        let controller = Mirrors {
            services: Cache::fixed([service], CacheOptions::all()),
            endpoints: Cache::fixed(endpoints, CacheOptions::all()),
            slices: Cache::fixed(slices, CacheOptions::all().index(BY_MIRRORED, mirrored)),
        };
        let view = controller.view(&ObjectName::new("d", "db"));
        controller.plan(&view, Timestamp::UNIX_EPOCH)
    }

    fn service(spec: Value) -> Value {
        json!({"metadata": {"name": "db", "namespace": "d", "uid": "s1"}, "spec": spec})
    }

    fn endpoints(ips: &[&str]) -> Value {
        let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!({
            "metadata": {"name": "db", "namespace": "d", "uid": "e1", "labels": {"team": "a"},
                         "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x"}},
            "subsets": [{"addresses": addresses, "notReadyAddresses": [{"ip": "10.9.0.9"}], "ports": [{"port": 5432}]}],
        })
    }

    /// The slices that a plan writes.
    fn written(plan: &Plan) -> Vec<Value> {
        let object = |action: &Action| match action {
            Action::Create { object, .. } | Action::Update { object, .. } => Some(object.clone()),
            _ => None,
        };
        plan.actions.iter().filter_map(object).collect()
    }

    #[test]
    fn endpoints_without_a_selector_are_mirrored() {
        let first = plan(service(json!({})), Some(endpoints(&["10.9.0.1"])), vec![]);
        let mut slice = written(&first).remove(0);
        assert_eq!(slice["metadata"]["labels"][SERVICE_LABEL], "db");
        assert_eq!(slice["metadata"]["labels"][MANAGED_BY_LABEL], MANAGED_BY);
        assert_eq!(slice["metadata"]["labels"]["team"], "a");
        assert_eq!(slice["metadata"]["annotations"], json!({"note": "x"}));
        assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "e1");
        assert_eq!(slice["addressType"], "IPv4");
        assert_eq!(
            slice["ports"],
            json!([{"name": "", "port": 5432, "protocol": "TCP"}])
        );
        let both = json!([
            {"addresses": ["10.9.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.9.0.9"], "conditions": {"ready": false}},
        ]);
        assert_eq!(slice["endpoints"], both);
        // What is there is left alone, changed in place, and goes with its Endpoints.
        slice["metadata"]["uid"] = json!("x");
        let there: EndpointSlice = serde_json::from_value(slice).expect("a slice");
        let same = plan(
            service(json!({})),
            Some(endpoints(&["10.9.0.1"])),
            vec![there.clone()],
        );
        assert_eq!(same, Plan::nothing());
        let changed = plan(
            service(json!({})),
            Some(endpoints(&["10.9.0.2"])),
            vec![there.clone()],
        );
        assert_eq!(written(&changed)[0]["metadata"]["uid"], "x");
        let gone = plan(service(json!({})), None, vec![there.clone()]);
        assert_eq!(gone, Plan::of([Action::delete(&there)]));
        let selected = service(json!({"selector": {"app": "db"}}));
        let gone = plan(
            selected,
            Some(endpoints(&["10.9.0.1"])),
            vec![there.clone()],
        );
        assert_eq!(
            gone,
            Plan::of([Action::delete(&there)]),
            "the Service has a selector now"
        );
    }

    #[test]
    fn locks_and_what_wants_none_are_left_alone() {
        for (pointer, key, value) in [
            ("labels", SKIP_LABEL, "true"),
            ("annotations", LEADER, "{}"),
        ] {
            let mut endpoints = endpoints(&["10.9.0.1"]);
            endpoints["metadata"][pointer][key] = json!(value);
            let plan = plan(service(json!({})), Some(endpoints), vec![]);
            assert_eq!(plan, Plan::nothing(), "{key}");
        }
    }
}
