//! Endpoints: owns the legacy core/v1 Endpoints of Services with a selector, for clients that do not read slices. Watches
//! Services, pods and Endpoints; writes one object per Service, of the Service's name.

mod subsets;

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::services::{self, HEADLESS_LABEL};

/// Marks what this controller made, and may remove with its Service.
pub const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
/// Us, under upstream's name.
pub const MANAGED_BY: &str = "endpoint-controller";
/// Tells clients that there are more endpoints than shown.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The controller over its caches.
pub struct EndpointsController {
    /// All Services.
    pub services: Cache<Service>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// All Endpoints.
    pub endpoints: Cache<Endpoints>,
}

/// What one plan depends on.
#[derive(Default)]
pub struct View {
    /// The Service, unless it is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The Endpoints of this name.
    pub endpoints: Option<Arc<Endpoints>>,
}

impl EndpointsController {
    /// Keys to wake for a changed Service.
    pub fn of_service(&self, change: &Change<Service>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed pod.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        services::of_pod(&self.services, change)
    }

    /// Keys to wake for changed Endpoints.
    pub fn of_endpoints(&self, change: &Change<Endpoints>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }
}

impl Controller for EndpointsController {
    type Key = ObjectName;
    type View = View;

    fn name(&self) -> &'static str {
        "endpoints-controller"
    }

    fn view(&self, key: &ObjectName) -> View {
        let endpoints = self.endpoints.get_named(key);
        match self.services.get_named(key) {
            Some(service) => {
                let pods = services::pods_of(&service, &self.pods);
                View {
                    service: Some(service),
                    pods,
                    endpoints,
                }
            }
            None => View {
                endpoints,
                ..View::default()
            },
        }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let Some(service) = &view.service else {
            let ours = view.endpoints.iter().filter(|endpoints| is_ours(endpoints));
            return Plan::of(ours.map(|endpoints| Action::delete(&**endpoints)));
        };
        if !services::selects_pods(service) {
            return Plan::nothing();
        }
        let found = subsets::of(service, &view.pods);
        let mut wanted = view
            .endpoints
            .as_ref()
            .map(|endpoints| (**endpoints).clone())
            .unwrap_or_default();
        dress(service, &mut wanted.metadata);
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        if found.truncated {
            annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
        } else {
            annotations.remove(OVER_CAPACITY);
        }
        wanted.metadata.annotations = wanted
            .metadata
            .annotations
            .filter(|annotations| !annotations.is_empty());
        let has = view
            .endpoints
            .as_ref()
            .and_then(|endpoints| endpoints.subsets.clone())
            .unwrap_or_default();
        if has != found.subsets {
            wanted.subsets = Some(found.subsets);
        }
        match &view.endpoints {
            None => Plan::of([Action::create(&wanted)]),
            Some(before) if **before != wanted => Plan::of([Action::update(&wanted)]),
            Some(_) => Plan::nothing(),
        }
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .is_some_and(|by| by == MANAGED_BY)
}

fn dress(service: &Service, meta: &mut ObjectMeta) {
    meta.name.clone_from(&service.metadata.name);
    meta.namespace.clone_from(&service.metadata.namespace);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if services::is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    meta.labels = Some(labels);
}

#[cfg(test)]
mod tests;
