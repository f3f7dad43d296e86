//! Starts every controller over the shared caches. One function per controller says what it watches.

use std::sync::Arc;

use corten_base::admin::Loops;
use corten_base::pki::Authority;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::Client;
use corten_client::ObjectName;
use corten_client::cache::Cache;
use corten_client::events::Recorder;
use corten_client::leader::Leadership;
use corten_client::queue::{RetryPolicy, WorkQueue};
use corten_client::runner::{Controller, Metrics, Runner};
use tokio::task::JoinHandle;

use super::caches::Caches;
use crate::certificates::approver::{self, Approver};
use crate::certificates::cleaner::Cleaner;
use crate::config::Checked;
use crate::cronjob::CronJobs;
use crate::daemonset::{DaemonSets, FailedPods};
use crate::deployment::Deployments;
use crate::disruption::Disruptions;
use crate::endpoints::EndpointsController;
use crate::endpointslice::EndpointSlices;
use crate::endpointslice::mirror::Mirrors;
use crate::garbage::Garbage;
use crate::job::{self, Failures, Jobs};
use crate::jobttl::JobTtl;
use crate::namespace::{self, Namespaces};
use crate::node::eviction::{Seen, TaintEviction};
use crate::node::ipam::NodeIpam;
use crate::node::lifecycle::{Heartbeats, NodeLifecycle};
use crate::node::podgc::PodGarbage;
use crate::protection;
use crate::quota::Quotas;
use crate::replicaset::{ReplicaSets, Replicated};
use crate::rootca::{RootCa, RootCertificates};
use crate::serviceaccount::ServiceAccounts;
use crate::servicecidr::ServiceCidrs;
use crate::signing::{self, Signing};
use crate::statefulset::StatefulSets;
use crate::worker;

/// Namespaces that are emptied at the same time.
const NAMESPACE_WORKERS: usize = 8;
/// Objects that are judged at the same time.
const GARBAGE_WORKERS: usize = 16;
/// Signing requests that are judged at the same time.
const APPROVAL_WORKERS: usize = 2;

/// What every controller is given.
pub(super) struct Starter<'a> {
    pub(super) client: &'a Client,
    pub(super) caches: &'a Caches,
    pub(super) leadership: Leadership,
    pub(super) metrics: &'a Metrics,
    /// Where the controllers say how they do.
    pub(super) loops: Loops,
    pub(super) host: String,
    pub(super) shutdown: &'a Shutdown,
}

impl Starter<'_> {
    /// Starts all; the handles end after shutdown.
    pub(super) fn all(
        &self,
        checked: &Checked,
        root_ca: Option<RootCertificates>,
        authority: Option<Authority>,
    ) -> Vec<JoinHandle<()>> {
        let mut running = vec![
            self.deployments(),
            self.replicated(&self.caches.replica_sets),
            self.replicated(&self.caches.replication_controllers),
            self.stateful_sets(),
            self.daemon_sets(),
            self.slices(),
            self.mirrors(),
            self.endpoints(),
            self.accounts(),
            self.namespaces(),
            self.garbage(),
            self.lifecycle(checked),
            self.eviction(),
            self.ipam(checked),
            self.podgc(),
            self.disruptions(),
            self.quotas(),
            self.jobs(),
            self.job_ttl(),
            self.cron_jobs(),
            self.service_cidrs(),
            self.claim_protection(),
            self.volume_protection(),
            self.class_protection(),
            self.request_approver(),
            self.request_cleaner(),
        ];
        match authority {
            Some(authority) => running.push(self.signing(authority)),
            None => {
                tracing::info!("no cluster_signing_cert_file: certificate requests are not signed");
            }
        }
        match root_ca {
            Some(certificates) => running.push(self.root_ca(certificates)),
            None => tracing::info!("no root_ca_file: kube-root-ca.crt is not published"),
        }
        running
    }

    fn runner<C: Controller>(&self, controller: C) -> Runner<C> {
        let recorder = Recorder::start(self.client, controller.name(), &self.host, self.shutdown);
        Runner::new(controller, self.client)
            .leader(self.leadership.clone())
            .metrics(self.metrics)
            .loops(&self.loops)
            .recorder(recorder)
    }

    fn go<C: Controller>(&self, runner: Runner<C>) -> JoinHandle<()> {
        spawn(
            "controller",
            TaskKind::Critical,
            runner.run(self.shutdown.clone()),
        )
    }

    fn deployments(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = Deployments {
            deployments: caches.deployments.clone(),
            replica_sets: caches.replica_sets.clone(),
            pods: caches.pods.clone(),
        };
        let runner = self.runner(controller);
        let runner = runner.watch(&caches.deployments, Deployments::of_deployment);
        self.go(runner
            .watch(&caches.replica_sets, Deployments::of_set)
            .watch(&caches.pods, Deployments::of_pod))
    }

    fn replicated<K: Replicated>(&self, sets: &Cache<K>) -> JoinHandle<()> {
        let controller = ReplicaSets {
            sets: sets.clone(),
            pods: self.caches.pods.clone(),
        };
        let runner = self.runner(controller).watch(sets, ReplicaSets::of_set);
        self.go(runner.watch(&self.caches.pods, ReplicaSets::of_pod))
    }

    fn stateful_sets(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = StatefulSets {
            sets: caches.stateful_sets.clone(),
            pods: caches.pods.clone(),
            claims: caches.claims.clone(),
            revisions: caches.revisions.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.stateful_sets, StatefulSets::of_set)
            .watch(&caches.pods, StatefulSets::of_pod);
        self.go(runner
            .watch(&caches.claims, StatefulSets::of_claim)
            .watch(&caches.revisions, StatefulSets::of_revision))
    }

    fn daemon_sets(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = DaemonSets {
            sets: caches.daemon_sets.clone(),
            pods: caches.pods.clone(),
            nodes: caches.nodes.clone(),
            revisions: caches.revisions.clone(),
            failures: FailedPods::default(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.daemon_sets, DaemonSets::of_set)
            .watch(&caches.pods, DaemonSets::of_pod);
        self.go(runner
            .watch(&caches.nodes, DaemonSets::of_node)
            .watch(&caches.revisions, DaemonSets::of_revision))
    }

    fn slices(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = EndpointSlices {
            services: caches.services.clone(),
            pods: caches.pods.clone(),
            nodes: caches.nodes.clone(),
            slices: caches.slices.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.services, EndpointSlices::of_service);
        self.go(runner
            .watch(&caches.pods, EndpointSlices::of_pod)
            .watch(&caches.slices, EndpointSlices::of_slice))
    }

    fn mirrors(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = Mirrors {
            services: caches.services.clone(),
            endpoints: caches.endpoints.clone(),
            slices: caches.slices.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.services, Mirrors::of_service);
        self.go(runner
            .watch(&caches.endpoints, Mirrors::of_endpoints)
            .watch(&caches.slices, Mirrors::of_slice))
    }

    fn endpoints(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = EndpointsController {
            services: caches.services.clone(),
            pods: caches.pods.clone(),
            endpoints: caches.endpoints.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.services, EndpointsController::of_service);
        let runner = runner.watch(&caches.pods, EndpointsController::of_pod);
        self.go(runner.watch(&caches.endpoints, EndpointsController::of_endpoints))
    }

    fn accounts(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = ServiceAccounts {
            namespaces: caches.namespaces.clone(),
            accounts: caches.accounts.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.namespaces, ServiceAccounts::of_namespace);
        self.go(runner.watch(&caches.accounts, ServiceAccounts::of_account))
    }

    fn root_ca(&self, certificates: RootCertificates) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = RootCa {
            bundle: certificates.bundle(),
            namespaces: caches.namespaces.clone(),
            maps: caches.root_maps.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.namespaces, RootCa::of_namespace);
        let runner = runner.watch(&caches.root_maps, RootCa::of_map);
        let (queue, namespaces) = (runner.queue(), caches.namespaces.clone());
        let following = certificates.follow(self.shutdown.clone(), move || {
            // Every namespace has a copy of what changed.
            for namespace in namespaces.list() {
                queue.add(ObjectName::of(&*namespace));
            }
        });
        spawn("root-ca-file", TaskKind::Critical, following);
        self.go(runner)
    }

    fn signing(&self, authority: Authority) -> JoinHandle<()> {
        let controller = Signing {
            requests: self.caches.requests.clone(),
            authority: Arc::new(authority),
            valid_for: signing::VALID_FOR,
        };
        let runner = self.runner(controller);
        self.go(runner.watch(&self.caches.requests, Signing::of_request))
    }

    fn namespaces(&self) -> JoinHandle<()> {
        let work = Namespaces {
            client: self.client.clone(),
            namespaces: self.caches.namespaces.clone(),
        };
        let queue = WorkQueue::new(namespace::RETRY);
        worker::feed(
            &self.caches.namespaces,
            &queue,
            self.shutdown,
            namespace::of_namespace,
        );
        self.work(work, queue, NAMESPACE_WORKERS)
    }

    fn garbage(&self) -> JoinHandle<()> {
        let graph = self.caches.graph.clone();
        let work = Garbage::new(self.client.clone(), graph.clone());
        let queue = WorkQueue::new(RetryPolicy::default());
        let (feeding, shutdown) = (queue.clone(), self.shutdown.clone());
        // Judged only when every kind is there: before that, everything would look ownerless and cost a GET.
        spawn("garbage-feed", TaskKind::Critical, async move {
            let synced =
                futures::future::join_all(graph.kinds.iter().map(|(_, cache)| cache.wait_synced()));
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                _ = synced => {}
            }
            for (kind, (_, cache)) in graph.kinds.iter().enumerate() {
                let graph = graph.clone();
                worker::feed(cache, &feeding, &shutdown, move |change| {
                    graph.woken(kind, change)
                });
            }
        });
        self.work(work, queue, GARBAGE_WORKERS)
    }

    fn work<W: worker::Work>(
        &self,
        work: W,
        queue: WorkQueue<W::Key>,
        workers: usize,
    ) -> JoinHandle<()> {
        let (leadership, loops) = (self.leadership.clone(), self.loops.clone());
        let shutdown = self.shutdown.clone();
        spawn("controller", TaskKind::Critical, async move {
            worker::run(Arc::new(work), queue, workers, leadership, &loops, shutdown).await;
        })
    }

    fn lifecycle(&self, checked: &Checked) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = NodeLifecycle {
            nodes: caches.nodes.clone(),
            leases: caches.leases.clone(),
            pods: caches.pods.clone(),
            heartbeats: Heartbeats::default(),
            grace: checked.grace,
        };
        let runner = self
            .runner(controller)
            .watch(&caches.nodes, NodeLifecycle::of_node);
        // Pods are read and not watched: what is bound to a silent node is marked when the node is looked at.
        self.go(runner.watch(&caches.leases, NodeLifecycle::of_lease))
    }

    fn eviction(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = TaintEviction {
            nodes: caches.nodes.clone(),
            pods: caches.pods.clone(),
            seen: Seen::default(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.nodes, TaintEviction::of_node);
        self.go(runner.watch(&caches.pods, TaintEviction::of_pod))
    }

    fn ipam(&self, checked: &Checked) -> JoinHandle<()> {
        let nodes = self.caches.nodes.clone();
        let (cluster, node_prefix) = (checked.cluster_cidr, checked.node_prefix);
        let runner = self
            .runner(NodeIpam {
                nodes,
                cluster,
                node_prefix,
            })
            .workers(1);
        self.go(runner.watch(&self.caches.nodes, NodeIpam::of_node))
    }

    fn podgc(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = PodGarbage::new(caches.nodes.clone(), caches.pods.clone());
        let runner = self.runner(controller).workers(1);
        runner.queue().add(()); // from then on it wakes itself
        self.go(runner
            .watch(&caches.nodes, PodGarbage::of_node)
            .watch(&caches.pods, |_, _| Vec::new()))
    }

    fn quotas(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = Quotas {
            quotas: caches.quotas.clone(),
            pods: caches.pods.clone(),
            services: caches.services.clone(),
            graph: caches.graph.clone(),
        };
        let mut runner = self
            .runner(controller)
            .watch(&caches.quotas, Quotas::of_quota)
            .watch(&caches.pods, Quotas::of_pod)
            .watch(&caches.services, Quotas::of_service);
        for (kind, cache) in caches
            .graph
            .kinds
            .iter()
            .filter(|(kind, _)| kind.namespaced)
        {
            // Pods and Services are watched whole.
            if !(kind.group.is_empty() && matches!(kind.resource, "pods" | "services")) {
                runner = runner.watch(cache, Quotas::of_counted);
            }
        }
        self.go(runner)
    }

    fn jobs(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = Jobs {
            jobs: caches.jobs.clone(),
            pods: caches.pods.clone(),
            failures: Failures::default(),
        };
        let runner = self
            .runner(controller)
            .retry(job::RETRY)
            .watch(&caches.jobs, Jobs::of_job);
        self.go(runner.watch(&caches.pods, Jobs::of_pod))
    }

    fn job_ttl(&self) -> JoinHandle<()> {
        let jobs = self.caches.jobs.clone();
        let runner = self.runner(JobTtl { jobs });
        self.go(runner.watch(&self.caches.jobs, JobTtl::of_job))
    }

    fn cron_jobs(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = CronJobs {
            cron_jobs: caches.cron_jobs.clone(),
            jobs: caches.jobs.clone(),
            rescheduled: parking_lot::Mutex::default(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.cron_jobs, CronJobs::of_cron_job);
        self.go(runner.watch(&caches.jobs, CronJobs::of_job))
    }

    fn service_cidrs(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = ServiceCidrs {
            ranges: caches.ranges.clone(),
            addresses: caches.addresses.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.ranges, ServiceCidrs::of_range);
        self.go(runner.watch(&caches.addresses, ServiceCidrs::of_address))
    }

    fn claim_protection(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = protection::Claims {
            claims: caches.claims.clone(),
            pods: caches.pods.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.claims, protection::Claims::of_claim);
        self.go(runner.watch(&caches.pods, protection::Claims::of_pod))
    }

    fn volume_protection(&self) -> JoinHandle<()> {
        let volumes = &self.caches.volumes;
        let runner = self.runner(protection::Volumes {
            volumes: volumes.clone(),
        });
        self.go(runner.watch(volumes, protection::Volumes::of_volume))
    }

    fn class_protection(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = protection::Classes {
            classes: caches.attribute_classes.clone(),
            claims: caches.claims.clone(),
            volumes: caches.volumes.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.attribute_classes, protection::Classes::of_class)
            .watch(&caches.claims, protection::Classes::of_claim);
        self.go(runner.watch(&caches.volumes, protection::Classes::of_volume))
    }

    fn request_approver(&self) -> JoinHandle<()> {
        let requests = &self.caches.requests;
        let work = Approver {
            client: self.client.clone(),
            requests: requests.clone(),
        };
        let queue = WorkQueue::new(approver::RETRY);
        worker::feed(requests, &queue, self.shutdown, approver::of_request);
        self.work(work, queue, APPROVAL_WORKERS)
    }

    fn request_cleaner(&self) -> JoinHandle<()> {
        let requests = &self.caches.requests;
        let runner = self.runner(Cleaner {
            requests: requests.clone(),
        });
        self.go(runner.watch(requests, Cleaner::of_request))
    }

    fn disruptions(&self) -> JoinHandle<()> {
        let caches = self.caches;
        let controller = Disruptions {
            budgets: caches.budgets.clone(),
            pods: caches.pods.clone(),
            replica_sets: caches.replica_sets.clone(),
            deployments: caches.deployments.clone(),
            stateful_sets: caches.stateful_sets.clone(),
        };
        let runner = self
            .runner(controller)
            .watch(&caches.budgets, Disruptions::of_budget);
        let runner = runner
            .watch(&caches.pods, Disruptions::of_pod)
            .watch(&caches.replica_sets, Disruptions::of_set)
            .watch(&caches.stateful_sets, Disruptions::of_stateful_set);
        self.go(runner.watch(&caches.deployments, Disruptions::of_deployment))
    }
}
