//! The caches that the controllers share: each kind is watched once per process.

use std::sync::Arc;

use corten_base::shutdown::Shutdown;
use corten_client::Client;
use corten_client::Target;
use corten_client::cache::{Cache, CacheOptions, MetaCache};
use corten_client::client::ListOptions;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::endpointslice::{self, mirror, service_of};
use crate::garbage::{self, Graph};
use crate::node::lifecycle::LEASE_NAMESPACE;
use crate::node::{self, node_of};
use crate::{pods, protection, rootca, serviceaccount};

/// All of them; clones share the copies.
#[derive(Clone)]
pub(super) struct Caches {
    pub(super) pods: Cache<Pod>,
    pub(super) nodes: Cache<Node>,
    pub(super) leases: Cache<Lease>,
    pub(super) services: Cache<Service>,
    pub(super) endpoints: Cache<Endpoints>,
    pub(super) slices: Cache<EndpointSlice>,
    pub(super) namespaces: Cache<Namespace>,
    pub(super) accounts: Cache<ServiceAccount>,
    pub(super) root_maps: Cache<ConfigMap>,
    pub(super) replica_sets: Cache<ReplicaSet>,
    pub(super) replication_controllers: Cache<ReplicationController>,
    pub(super) deployments: Cache<Deployment>,
    pub(super) stateful_sets: Cache<StatefulSet>,
    pub(super) daemon_sets: Cache<DaemonSet>,
    pub(super) revisions: Cache<ControllerRevision>,
    pub(super) claims: Cache<PersistentVolumeClaim>,
    pub(super) volumes: Cache<PersistentVolume>,
    pub(super) attribute_classes: Cache<VolumeAttributesClass>,
    pub(super) budgets: Cache<PodDisruptionBudget>,
    pub(super) quotas: Cache<ResourceQuota>,
    pub(super) requests: Cache<CertificateSigningRequest>,
    pub(super) jobs: Cache<Job>,
    pub(super) cron_jobs: Cache<CronJob>,
    pub(super) ranges: Cache<ServiceCIDR>,
    pub(super) addresses: Cache<IPAddress>,
    /// The metadata of every kind that is collected.
    pub(super) graph: Graph,
}

fn named(name: &str) -> ListOptions {
    ListOptions::default().fields(&format!("metadata.name={name}"))
}

impl Caches {
    pub(super) fn start(client: &Client, shutdown: &Shutdown) -> Self {
        let pods = CacheOptions::all()
            .index(pods::BY_CONTROLLER, pods::controller_uid)
            .index(node::BY_NODE, node_of)
            .index(protection::BY_CLAIM, protection::claims_of);
        let sets = CacheOptions::all().index(pods::BY_CONTROLLER, pods::controller_uid);
        let revisions = CacheOptions::all().index(pods::BY_CONTROLLER, pods::controller_uid);
        let slices = CacheOptions::all()
            .index(endpointslice::BY_SERVICE, service_of)
            .index(mirror::BY_MIRRORED, mirror::mirrored);
        let jobs = CacheOptions::all().index(pods::BY_CONTROLLER, pods::controller_uid);
        let leases = CacheOptions::all().select(ListOptions::namespace(LEASE_NAMESPACE));
        let metadata = |kind: &'static corten_api::kinds::ResourceDescriptor| {
            let options = CacheOptions::all()
                .index(garbage::BY_OWNER, garbage::owners_of)
                .strip(garbage::strip);
            let target = Target::resource(kind.group, kind.version, kind.resource);
            (
                kind,
                MetaCache::start_for(client, &target, options, shutdown),
            )
        };
        Self {
            pods: Cache::start(client, pods, shutdown),
            nodes: Cache::start(client, CacheOptions::all(), shutdown),
            leases: Cache::start(client, leases, shutdown),
            services: Cache::start(client, CacheOptions::all(), shutdown),
            endpoints: Cache::start(client, CacheOptions::all(), shutdown),
            slices: Cache::start(client, slices, shutdown),
            namespaces: Cache::start(client, CacheOptions::all(), shutdown),
            accounts: Cache::start(
                client,
                CacheOptions::all().select(named(serviceaccount::NAME)),
                shutdown,
            ),
            root_maps: Cache::start(
                client,
                CacheOptions::all().select(named(rootca::NAME)),
                shutdown,
            ),
            replica_sets: Cache::start(client, sets, shutdown),
            replication_controllers: Cache::start(client, CacheOptions::all(), shutdown),
            deployments: Cache::start(client, CacheOptions::all(), shutdown),
            stateful_sets: Cache::start(client, CacheOptions::all(), shutdown),
            daemon_sets: Cache::start(client, CacheOptions::all(), shutdown),
            revisions: Cache::start(client, revisions, shutdown),
            claims: Cache::start(client, CacheOptions::all(), shutdown),
            volumes: Cache::start(client, CacheOptions::all(), shutdown),
            attribute_classes: Cache::start(client, CacheOptions::all(), shutdown),
            budgets: Cache::start(client, CacheOptions::all(), shutdown),
            quotas: Cache::start(client, CacheOptions::all(), shutdown),
            requests: Cache::start(client, CacheOptions::all(), shutdown),
            jobs: Cache::start(client, jobs, shutdown),
            cron_jobs: Cache::start(client, CacheOptions::all(), shutdown),
            ranges: Cache::start(client, CacheOptions::all(), shutdown),
            addresses: Cache::start(client, CacheOptions::all(), shutdown),
            graph: Graph {
                kinds: Arc::new(Graph::collected().map(metadata).collect()),
            },
        }
    }

    /// Names what has not arrived yet.
    pub(super) fn check(&self) -> Result<(), String> {
        let typed = [
            ("pods", self.pods.is_synced()),
            ("nodes", self.nodes.is_synced()),
            ("leases", self.leases.is_synced()),
            ("services", self.services.is_synced()),
            ("endpoints", self.endpoints.is_synced()),
            ("endpointslices", self.slices.is_synced()),
            ("namespaces", self.namespaces.is_synced()),
            ("serviceaccounts", self.accounts.is_synced()),
            ("configmaps", self.root_maps.is_synced()),
            ("replicasets", self.replica_sets.is_synced()),
            (
                "replicationcontrollers",
                self.replication_controllers.is_synced(),
            ),
            ("deployments", self.deployments.is_synced()),
            ("statefulsets", self.stateful_sets.is_synced()),
            ("daemonsets", self.daemon_sets.is_synced()),
            ("controllerrevisions", self.revisions.is_synced()),
            ("persistentvolumeclaims", self.claims.is_synced()),
            ("poddisruptionbudgets", self.budgets.is_synced()),
            ("resourcequotas", self.quotas.is_synced()),
            ("certificatesigningrequests", self.requests.is_synced()),
            ("jobs", self.jobs.is_synced()),
            ("persistentvolumes", self.volumes.is_synced()),
            (
                "volumeattributesclasses",
                self.attribute_classes.is_synced(),
            ),
            ("cronjobs", self.cron_jobs.is_synced()),
            ("servicecidrs", self.ranges.is_synced()),
            ("ipaddresses", self.addresses.is_synced()),
        ];
        let metadata = self
            .graph
            .kinds
            .iter()
            .map(|(kind, cache)| (kind.resource, cache.is_synced()));
        let mut missing: Vec<&str> = typed
            .into_iter()
            .chain(metadata)
            .filter(|(_, synced)| !synced)
            .map(|(name, _)| name)
            .collect();
        missing.dedup();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("not synced yet: {}", missing.join(", ")))
        }
    }
}
