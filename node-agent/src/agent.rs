//! The agent as a whole: which pods are here, one worker each, the node's own object, and the server's window on it all.
//! Invariant: a pod directory without a worker exists only until the first list of pods is in.

mod access;
mod admission;
mod allocation;
mod build;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{self, TaskKind};
use corten_client::cache::{Cache, Change};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::RwLock;
use tokio::sync::watch;

use self::allocation::Allocator;
use crate::config::Config;
use crate::context::NodeContext;
use crate::eviction::Evictor;
use crate::node::NodeKeeper;
use crate::pod::Event;
use crate::pod::resize::Allocation;
use crate::server::AgentServer;
use crate::traits::PodRef;
use crate::worker::{self, WorkerHandle};

pub use build::{BuildError, Services, link_name};

/// Workers by pod uid; read by the server.
pub(crate) type Workers = Arc<RwLock<HashMap<String, WorkerHandle>>>;

/// A built agent: sockets are bound, nothing runs yet.
pub struct Agent {
    config: Config,
    context: Arc<NodeContext>,
    workers: Workers,
    pods: Cache<Pod>,
    keeper: NodeKeeper,
    evictor: Evictor,
    node: watch::Receiver<Option<Arc<Node>>>,
    routes: Option<crate::network::RouteKeeper>,
    collector: Option<crate::images::Collector>,
    server: AgentServer,
    admin: AdminServer,
    caches: Shutdown,
}

impl Agent {
    /// Runs until `shutdown`. Containers are left as they are.
    pub async fn run(self, shutdown: Shutdown) {
        let Self {
            config,
            context,
            workers,
            pods,
            keeper,
            evictor,
            node,
            routes,
            collector,
            server,
            admin,
            caches,
        } = self;
        tracing::info!(node = context.node_name, data = %context.data_dir.display(), "node agent starts");
        let ready = admin.readiness();
        ready.set(
            "pods",
            Err("the pods of this node are not known yet".to_owned()),
        );
        let allocator = adopt_all(&context, &workers);
        tasks::spawn("node", TaskKind::Critical, keeper.run(shutdown.clone()));
        tasks::spawn(
            "pressure",
            TaskKind::Critical,
            evictor.run(shutdown.clone()),
        );
        tasks::spawn(
            "pod-network",
            TaskKind::Critical,
            configure_network(
                context.clone(),
                node,
                config.pod_cidrs.clone(),
                shutdown.clone(),
            ),
        );
        if let Some(routes) = routes {
            tasks::spawn("routes", TaskKind::Background, routes.run(shutdown.clone()));
        }
        if let Some(collector) = collector {
            let run = collector.run(shutdown.clone());
            tasks::spawn("image-collection", TaskKind::Background, run);
        }
        let stop = shutdown.clone();
        tasks::spawn("agent-server", TaskKind::Critical, async move {
            if let Err(error) = server.run(stop).await {
                tracing::error!(%error, "the server ended");
            }
        });
        let (stop, address) = (shutdown.clone(), config.admin_listen);
        if address.port() != 0 {
            tasks::spawn("admin", TaskKind::Background, async move {
                if let Err(error) = admin.serve(address, None, stop).await {
                    tracing::error!(%error, "the admin server ended");
                }
            });
        }
        let following = follow_pods(&context, &workers, allocator, &pods, || {
            ready.set("pods", Ok(()));
        });
        tokio::select! {
            biased;
            () = shutdown.wait() => {}
            () = following => tracing::error!("the cache of pods ended"),
        }
        caches.trigger();
        tracing::info!("node agent stops; containers run on");
    }
}

/// Every pod directory gets a worker at once: probes go on without the API. What each was promised stays promised.
fn adopt_all(context: &Arc<NodeContext>, workers: &Workers) -> Allocator {
    let mut allocator = Allocator::new(context.clone(), workers.clone());
    for dir in worker::stored_pods(&context.data_dir) {
        match worker::read_record(&dir) {
            Some(pod) => {
                let uid = PodRef::of(&pod).uid;
                let recorded = Arc::new(pod);
                let promised = worker::read_allocation(&dir).unwrap_or_default();
                let pod = promised.onto(&recorded);
                allocator.hold(&recorded, Allocation::of(&pod));
                let handle = worker::start(context.clone(), pod, None);
                workers.write().insert(uid, handle);
            }
            None => {
                // The crash came before the first record, so nothing was ever started in it.
                tracing::warn!(dir = %dir.display(), "a pod directory without a record is removed");
                if crate::mounts::below(&dir).is_empty() {
                    let _ = std::fs::remove_dir_all(&dir);
                }
            }
        }
    }
    allocator
}

/// Feeds the workers with what the API says.
async fn follow_pods(
    context: &Arc<NodeContext>,
    workers: &Workers,
    mut allocator: Allocator,
    pods: &Cache<Pod>,
    mut synced: impl FnMut(),
) {
    pods.wait_synced().await;
    let known: std::collections::HashSet<String> =
        pods.list().iter().map(|pod| PodRef::of(pod).uid).collect();
    let orphans: Vec<WorkerHandle> = workers
        .read()
        .iter()
        .filter(|(uid, _)| !known.contains(*uid))
        .map(|(_, worker)| worker.clone())
        .collect();
    for orphan in orphans {
        tracing::info!(pod = %orphan.pod_ref, "the pod was deleted while the agent was away");
        allocator.forget(&orphan.pod_ref.uid);
        orphan.send(Event::Removed).await;
    }
    synced();
    let mut changes = pods.subscribe();
    let mut retry = tokio::time::interval(allocation::RETRY);
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let change = tokio::select! {
            biased;
            // Each arm is cancel-safe: a receive and a timer.
            change = changes.next() => match change {
                Some(change) => change,
                None => return,
            },
            _ = retry.tick(), if allocator.has_waiting() => {
                allocator.settle().await;
                continue;
            }
        };
        match change {
            Change::Added(pod) => update(context, workers, &mut allocator, pod).await,
            Change::Updated { old, new } => {
                if PodRef::of(&old).uid != PodRef::of(&new).uid {
                    remove(workers, &mut allocator, &PodRef::of(&old).uid).await;
                }
                update(context, workers, &mut allocator, new).await;
            }
            Change::Deleted(pod) => {
                remove(workers, &mut allocator, &PodRef::of(&pod).uid).await;
                allocator.settle().await;
            }
        }
    }
}

async fn update(
    context: &Arc<NodeContext>,
    workers: &Workers,
    allocator: &mut Allocator,
    pod: Arc<Pod>,
) {
    let reference = PodRef::of(&pod);
    // A worker hears what it may have before it hears what its pod asks for.
    allocator.note(&pod);
    allocator.settle().await;
    let known = workers.read().get(&reference.uid).cloned();
    if let Some(worker) = known
        && worker.send(Event::Updated(pod.clone())).await
    {
        return;
    }
    // Pods that are gone take nothing any more.
    workers.write().retain(|_, worker| !worker.is_over());
    let refusal = if is_over(&pod) {
        None
    } else {
        admission::admit(context, allocator, &pod).err()
    };
    if let Some(refusal) = &refusal {
        tracing::warn!(
            pod = %reference,
            reason = refusal.reason,
            message = refusal.message,
            "pod rejected"
        );
    }
    let refusal = refusal.map(|refusal| (refusal.reason, refusal.message));
    if refusal.is_none() {
        allocator.hold(&pod, Allocation::of(&pod));
    }
    let handle = worker::start(context.clone(), pod, refusal);
    workers.write().insert(reference.uid, handle);
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
}

async fn remove(workers: &Workers, allocator: &mut Allocator, uid: &str) {
    allocator.forget(uid);
    let known = workers.read().get(uid).cloned();
    if let Some(worker) = known {
        worker.send(Event::Removed).await;
    }
}

/// Gives the pod network its addresses once the Node has them, and again when they change.
async fn configure_network(
    context: Arc<NodeContext>,
    mut node: watch::Receiver<Option<Arc<Node>>>,
    fallback: Vec<ipnet::IpNet>,
    shutdown: Shutdown,
) {
    let mut configured: Vec<ipnet::IpNet> = Vec::new();
    loop {
        let spec = node
            .borrow_and_update()
            .as_ref()
            .and_then(|node| node.spec.clone())
            .unwrap_or_default();
        let listed = spec
            .pod_cidrs
            .unwrap_or_else(|| spec.pod_cidr.into_iter().collect());
        let mut cidrs: Vec<ipnet::IpNet> =
            listed.iter().filter_map(|text| text.parse().ok()).collect();
        if cidrs.is_empty() {
            cidrs.clone_from(&fallback);
        }
        let mut retry = false;
        if !cidrs.is_empty() && cidrs != configured {
            match context.network.configure(&cidrs).await {
                Ok(()) => configured = cidrs,
                Err(error) => {
                    tracing::warn!(%error, "the pod network could not be configured yet");
                    retry = true;
                }
            }
        }
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            changed = node.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_secs(1)), if retry => {}
        }
    }
}
