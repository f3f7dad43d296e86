//! Loads of requests: so many clients, each with one request in flight, until so many are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use corten_base::tasks::{TaskKind, spawn};

use super::client::{Call, Client, Connection, Format, quoted, resource_version};
use super::objects::{self, LEASES, PODS};
use super::report::{Outcome, Tally};

/// Objects of a page, as Kubernetes' clients ask for them.
const PAGE: usize = 500;
/// A list's metadata is in front of its items.
const LIST_HEAD: usize = 4096;

/// What a client does, again and again.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// In this namespace, with so many bytes of data.
    CreateConfigMap(&'static str, usize),
    CreatePod(&'static str),
    /// With a node, by number: what the lists are made of.
    FillPod,
    GetPod {
        /// With resourceVersion=0: whatever the server has at hand will do.
        cached: bool,
    },
    /// A merge patch that changes a label.
    PatchPod,
    /// PUT of the client's own Lease with the resourceVersion of its last answer, as kubelets renew theirs.
    RenewLease,
    /// A list at this path.
    List(String, Format),
    /// All pods in pages of 500; counts as one request.
    ListPaged,
    /// The pods of one node by field selector, as kubelets ask.
    ListOfNode,
}

/// How much of what.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) op: Op,
    pub(crate) clients: usize,
    /// Requests in all.
    pub(crate) total: usize,
}

pub(crate) fn pods_path() -> String {
    format!("/api/v1/namespaces/{PODS}/pods")
}

pub(crate) fn config_maps_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// Runs the load over these connections.
pub(crate) async fn measure(client: &Client, shape: &Shape) -> Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::with_capacity(shape.clients);
    for number in 0..shape.clients {
        workers.push(Worker::open(client.at(number), &shape.op, number).await?);
    }
    let began = Instant::now();
    let tasks: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let work = worker.run(Arc::clone(&next), shape.total);
            spawn("client", TaskKind::Background, work)
        })
        .collect();
    let mut all = Tally::default();
    for task in tasks {
        all.add(task.await?);
    }
    Ok(all.done(began.elapsed()))
}

struct Worker {
    connection: Connection,
    op: Op,
    /// This client's Lease and its newest known version.
    lease: Option<(String, String)>,
}

impl Worker {
    async fn open(connection: Connection, op: &Op, number: usize) -> Result<Self> {
        let lease = match op {
            Op::RenewLease => Some(own_lease(&connection, number).await?),
            _ => None,
        };
        Ok(Self {
            connection,
            op: op.clone(),
            lease,
        })
    }

    async fn run(mut self, next: Arc<AtomicUsize>, total: usize) -> Tally {
        let mut tally = Tally::default();
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= total {
                return tally;
            }
            let began = Instant::now();
            let result = self.once(turn).await;
            tally.note(began.elapsed(), &result);
        }
    }

    async fn once(&mut self, turn: usize) -> Result<()> {
        let connection = &self.connection;
        // Spread over the pods without order, the same in every run; coprime to their number, so no two at once.
        let pod = || {
            let name = objects::pod_name(turn.wrapping_mul(7_919) % objects::POD_COUNT);
            format!("{}/{name}", pods_path())
        };
        match &self.op {
            Op::CreateConfigMap(namespace, bytes) => {
                create_config_map(connection, namespace, *bytes).await?;
            }
            Op::CreatePod(namespace) => {
                let body = objects::pod(&format!("p{:08}", objects::serial()), None);
                let path = format!("/api/v1/namespaces/{namespace}/pods");
                connection.call(Call::post(path, body)).await?;
            }
            Op::FillPod => {
                let node = objects::node_name(turn);
                let body = objects::pod(&objects::pod_name(turn), Some(&node));
                connection.call(Call::post(pods_path(), body)).await?;
            }
            Op::GetPod { cached } => {
                let query = if *cached { "?resourceVersion=0" } else { "" };
                let path = format!("{}{query}", pod());
                connection.call(Call::get(path, Format::Json)).await?;
            }
            Op::PatchPod => {
                let body = format!(
                    r#"{{"metadata":{{"labels":{{"turn":"{}"}}}}}}"#,
                    objects::serial()
                );
                let call = Call::merge_patch(pod(), body.into());
                connection.call(call).await?;
            }
            Op::RenewLease => self.renew(turn).await?,
            Op::List(path, format) => {
                let size = connection.drain(Call::get(path.clone(), *format)).await?;
                ensure!(size > LIST_HEAD, "a list of {size} bytes");
            }
            Op::ListPaged => list_paged(connection).await?,
            Op::ListOfNode => {
                let node = objects::node_name(turn.wrapping_mul(37));
                let path =
                    format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&resourceVersion=0");
                let size = connection.drain(Call::get(path, Format::Json)).await?;
                ensure!(size > LIST_HEAD, "a list of {size} bytes");
            }
        }
        Ok(())
    }

    async fn renew(&mut self, turn: usize) -> Result<()> {
        let (name, version) = self.lease.as_mut().context("opened for this")?;
        let body = objects::lease(name, version, turn);
        let call = Call::put(format!("{}/{name}", leases_path()), body);
        let answer = self.connection.call(call).await?;
        resource_version(&answer)?.clone_into(version);
        Ok(())
    }
}

pub(crate) async fn create_config_map(
    connection: &Connection,
    namespace: &str,
    bytes: usize,
) -> Result<()> {
    let body = objects::config_map(&format!("c{:08}", objects::serial()), bytes);
    let call = Call::post(config_maps_path(namespace), body);
    connection.call(call).await?;
    Ok(())
}

fn leases_path() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases")
}

/// The name and version of a client's Lease, made if it is not there from an earlier turn.
async fn own_lease(connection: &Connection, number: usize) -> Result<(String, String)> {
    let name = format!("node-{number:05}");
    let path = format!("{}/{name}", leases_path());
    let answer = match connection.call(Call::get(path, Format::Json)).await {
        Ok(found) => found,
        Err(_) => {
            let body = objects::lease(&name, "", 0);
            connection.call(Call::post(leases_path(), body)).await?
        }
    };
    let version = resource_version(&answer)?.to_owned();
    Ok((name, version))
}

async fn list_paged(connection: &Connection) -> Result<()> {
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let path = format!("{}?limit={PAGE}{token}", pods_path());
        let page = connection.call(Call::get(path, Format::Json)).await?;
        pages += 1;
        let head = &page[..page.len().min(LIST_HEAD)];
        let Some(more) = quoted(head, "continue").filter(|more| !more.is_empty()) else {
            let expected = objects::POD_COUNT / PAGE;
            ensure!(pages == expected, "{pages} pages, expected {expected}");
            return Ok(());
        };
        // The three letters of base64 that mean something else in a query.
        let more = more
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        token = format!("&continue={more}");
    }
}
