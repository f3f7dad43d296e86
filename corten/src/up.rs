//! A one-machine cluster in one process: every role on an embedded one-member store, talking through in-process channels.
//! Roles start in order and stop in reverse; containers are not touched by either.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use corten_apiserver::authn::User;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use corten_client::Client;
use k8s_openapi::api::core::v1::Node;
use tokio::task::JoinHandle;

use crate::cluster::HostSettings;
use crate::host::Paths;
use crate::pki::kubeconfig;

/// A first start makes keys and tables; anything beyond this is a fault to be seen in the log.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one role may take to stop before the next is asked.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A started role with its own stop.
struct Running {
    name: &'static str,
    stop: Shutdown,
    task: JoinHandle<()>,
}

/// Runs the cluster until `shutdown`.
pub async fn run(settings: HostSettings, paths: &Paths, shutdown: Shutdown) -> Result<()> {
    let begin = Instant::now();
    std::fs::create_dir_all(&settings.run_dir)?;
    let _ = std::fs::remove_file(paths.ready_file()); // left by a process that was killed
    std::fs::write(paths.pid_file(), std::process::id().to_string())
        .context("cannot write the pid file")?;
    let server = format!("https://{}:{}", settings.ip, crate::cluster::ports::API);
    let config = kubeconfig(&settings.pki, &server, "corten", "admin")?;
    corten_base::pki::write_private(&paths.kubeconfig(), &config)?;
    let mut running = Vec::new();
    let started = start(&settings, &mut running, &shutdown).await;
    match &started {
        Ok(admin) => {
            let node = wait_ready(admin, &settings.name, &shutdown);
            if tokio::time::timeout(READY_TIMEOUT, node).await.is_err() {
                tracing::error!(
                    seconds = READY_TIMEOUT.as_secs(),
                    "the node is not Ready; the log says why"
                );
            } else if !shutdown.is_triggered() {
                let took = begin.elapsed();
                tracing::info!(
                    milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    "cluster is ready"
                );
                std::fs::write(paths.ready_file(), took.as_millis().to_string())?;
            }
            shutdown.wait().await;
        }
        Err(error) => tracing::error!("cannot start: {error:#}"),
    }
    let _ = std::fs::remove_file(paths.ready_file());
    stop(running).await;
    let _ = std::fs::remove_file(paths.pid_file());
    started.map(drop)
}

async fn start(
    settings: &HostSettings,
    running: &mut Vec<Running>,
    shutdown: &Shutdown,
) -> Result<Client> {
    let store = corten_store::Store::build(settings.embedded_store())
        .await
        .context("store")?;
    let channel = store.channel();
    launch(running, "store", shutdown, |stop| async move {
        store.run(stop).await.map_err(Into::into)
    });
    let server = corten_apiserver::Server::build_on(&settings.apiserver(), channel)
        .await
        .context("apiserver")?;
    let as_user = |name: &str, groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        Client::from_channel(server.channel(User::authenticated(name, groups)))
    };
    let node_user = format!("system:node:{}", settings.name);
    let admin = as_user("corten-launcher", &["system:masters"]);
    let scheduler = as_user("system:kube-scheduler", &[]);
    let controllers = as_user("system:kube-controller-manager", &[]);
    let node = as_user(&node_user, &["system:nodes"]);
    let proxy = as_user("system:kube-proxy", &[]);
    launch(running, "apiserver", shutdown, |stop| async move {
        server.run(stop).await.map_err(Into::into)
    });
    let scheduler = corten_scheduler::Scheduler::build(settings.scheduler(true), Some(scheduler))
        .context("scheduler")?;
    launch(running, "scheduler", shutdown, |stop| async move {
        scheduler.run(stop).await.map_err(Into::into)
    });
    let controllers =
        corten_controllers::Controllers::build(settings.controllers(true), Some(controllers))
            .context("controllers")?;
    launch(running, "controllers", shutdown, |stop| async move {
        controllers.run(stop).await.map_err(Into::into)
    });
    let agent = Box::pin(corten_node_agent::Agent::build(
        settings.node_agent("".as_ref()),
        node,
    ))
    .await;
    let agent = agent.context("node-agent")?;
    launch(running, "node-agent", shutdown, |stop| async move {
        agent.run(stop).await;
        Ok(())
    });
    let proxy = corten_proxy::Proxy::build(settings.proxy(), Some(proxy)).context("proxy")?;
    launch(running, "proxy", shutdown, |stop| async move {
        proxy.run(stop).await.map_err(Into::into)
    });
    Ok(admin)
}

/// A role that ends by itself takes the others down: half a cluster is worse than a restart.
fn launch<F, R>(running: &mut Vec<Running>, name: &'static str, all: &Shutdown, role: R)
where
    F: Future<Output = Result<()>> + Send + 'static,
    R: FnOnce(Shutdown) -> F,
{
    let stop = Shutdown::new();
    let work = Box::pin(role(stop.clone()));
    let (asked, all) = (stop.clone(), all.clone());
    let task = spawn(name, TaskKind::Critical, async move {
        let ended = work.await;
        if asked.is_triggered() {
            return;
        }
        match ended {
            Ok(()) => tracing::error!(role = name, "ended without being asked"),
            Err(error) => tracing::error!(role = name, "failed: {error:#}"),
        }
        all.trigger();
    });
    running.push(Running { name, stop, task });
}

async fn stop(running: Vec<Running>) {
    for role in running.into_iter().rev() {
        role.stop.trigger();
        if tokio::time::timeout(STOP_TIMEOUT, role.task).await.is_err() {
            tracing::warn!(role = role.name, "did not stop in time");
        }
    }
}

async fn wait_ready(admin: &Client, node: &str, shutdown: &Shutdown) {
    while !shutdown.is_triggered() {
        let found = admin.get_opt::<Node>("", node).await;
        if found.is_ok_and(|node| node.is_some_and(|node| is_ready(&node))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the node's Ready condition is true.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
