//! Three API servers behind which everything goes on when one is killed: writers get through within seconds, and watches that go
//! on at another server miss nothing and see nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use corten::roles::Role;
use corten_base::tasks::{TaskKind, spawn};
use corten_e2e::cluster::{Cluster, step};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config};
use serde_json::json;

/// The servers' addresses, for the part that runs inside the hosts' network.
const SERVERS: &str = "CORTEN_E2E_SERVERS";
/// How long there is load. The killing takes less.
const LOAD: Duration = Duration::from_secs(24);
/// What a server is away for, and stays up before the next is killed.
const PAUSE: Duration = Duration::from_secs(3);
/// A write that takes longer than this, retries at other servers included, is one that was not served.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// A watcher that is told to end does so within this.
const CATCH_UP: Duration = Duration::from_secs(20);
const WRITERS: usize = 6;
const WATCHERS: usize = 9;

#[test]
fn killed_api_servers_cost_no_write_and_no_event() {
    let cluster = Cluster::start("servers", 3, 1).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

fn run(cluster: &Cluster) -> Result<()> {
    let lab = cluster.lab();
    let hosts: Vec<_> = lab
        .plan()
        .hosts
        .iter()
        .filter(|host| host.roles.contains(&Role::Apiserver))
        .collect();
    ensure!(hosts.len() == 3, "{} API servers", hosts.len());
    let servers: Vec<String> = hosts
        .iter()
        .map(|host| format!("https://{}:6443", host.ip))
        .collect();
    let own = std::env::current_exe()?;
    let out = std::fs::File::create(cluster.dir().join("load.log"))?;
    let mut load = lab
        .beside(&own.display().to_string())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "writers_and_watchers",
        ])
        .env("KUBECONFIG", lab.kubeconfig())
        .env(SERVERS, servers.join(","))
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    for host in &hosts {
        std::thread::sleep(PAUSE);
        step(&format!("kill -9 of the API server on {}", host.name));
        lab.kill_host(&host.name, Some(Role::Apiserver))?;
        std::thread::sleep(PAUSE);
        lab.start_host(&host.name, Some(Role::Apiserver))?;
    }
    let ended = load.wait()?;
    let said = std::fs::read_to_string(cluster.dir().join("load.log"))?;
    ensure!(ended.success() && said.contains("1 passed"), "{said}");
    let told = said.lines().filter(|line| line.starts_with("== "));
    told.for_each(|line| step(line.trim_start_matches("== ")));
    Ok(())
}

#[test]
#[ignore = "the load of the test above, which starts it beside a cluster"]
fn writers_and_watchers() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(load())
        .unwrap_or_else(|error| panic!("{error:#}"));
}

/// A client for each server.
async fn clients() -> Result<Vec<Client>> {
    let servers = std::env::var(SERVERS).context("which servers?")?;
    let mut clients = Vec::new();
    for server in servers.split(',') {
        let mut config = Config::from_kubeconfig(&KubeConfigOptions::default()).await?;
        config.cluster_url = server.parse()?;
        config.connect_timeout = Some(Duration::from_secs(1));
        clients.push(Client::try_from(config)?);
    }
    Ok(clients)
}

async fn load() -> Result<()> {
    let clients = Arc::new(clients().await?);
    let maps = api(&clients, 0);
    for writer in 0..WRITERS {
        maps.create(&PostParams::default(), &counter(writer))
            .await?;
    }
    let from = maps
        .list(&ListParams::default())
        .await?
        .metadata
        .resource_version;
    let from = from.context("a list without a version")?;
    let over = Arc::new(AtomicBool::new(false));
    let watching: Vec<_> = (0..WATCHERS)
        .map(|n| {
            spawn(
                "watcher",
                TaskKind::Background,
                watch(clients.clone(), n, from.clone(), over.clone()),
            )
        })
        .collect();
    let writing: Vec<_> = (0..WRITERS)
        .map(|n| spawn("writer", TaskKind::Background, write(clients.clone(), n)))
        .collect();
    let mut last = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for (writer, task) in writing.into_iter().enumerate() {
        let (count, waited) = task.await??;
        last.insert(name(writer), count);
        longest = longest.max(waited);
    }
    let writes: u64 = last.values().sum();
    step(&format!(
        "{writes} writes, the longest took {} ms",
        longest.as_millis()
    ));
    ensure!(longest < WRITE_MAX, "a write took {longest:?}");
    // Events are on their way for a while after the last write was acknowledged.
    tokio::time::sleep(PAUSE).await;
    over.store(true, Ordering::Relaxed);
    let mut resumed = 0;
    for (n, task) in watching.into_iter().enumerate() {
        let seen = tokio::time::timeout(CATCH_UP, task)
            .await
            .context("a watcher does not end")???;
        seen.check(&last).with_context(|| format!("watcher {n}"))?;
        resumed += seen.resumed;
    }
    step(&format!(
        "{WATCHERS} watches went on {resumed} times elsewhere, without a gap or a double"
    ));
    ensure!(
        resumed >= WATCHERS,
        "the kills ended {resumed} watches only"
    );
    Ok(())
}

fn api(clients: &[Client], n: usize) -> Api<ConfigMap> {
    Api::namespaced(clients[n % clients.len()].clone(), "default")
}

fn name(writer: usize) -> String {
    format!("counter-{writer}")
}

fn counter(writer: usize) -> ConfigMap {
    ConfigMap {
        metadata: kube::api::ObjectMeta {
            name: Some(name(writer)),
            labels: Some(BTreeMap::from([("is".to_owned(), "counter".to_owned())])),
            ..Default::default()
        },
        data: Some(BTreeMap::from([("n".to_owned(), "0".to_owned())])),
        ..Default::default()
    }
}

/// Counts up, each number until a server has acknowledged it. A number that was written although the answer was lost is written
/// again as the same, which is no change. Gives the last number and the longest wait for one.
async fn write(clients: Arc<Vec<Client>>, writer: usize) -> Result<(u64, Duration)> {
    let start = Instant::now();
    let (mut server, mut count, mut longest) = (writer, 0, Duration::ZERO);
    while start.elapsed() < LOAD {
        count += 1;
        let asked = Instant::now();
        let patch = Patch::Merge(json!({"data": {"n": count.to_string()}}));
        loop {
            let maps = api(&clients, server);
            let (name, params) = (name(writer), PatchParams::default());
            let written = maps.patch(&name, &params, &patch);
            match tokio::time::timeout(WRITE_MAX, written).await {
                Ok(Ok(_)) => break,
                _ => server += 1,
            }
            ensure!(asked.elapsed() < 4 * WRITE_MAX, "no server takes a write");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok((count, longest))
}

/// What a watcher was told.
#[derive(Default)]
struct Seen {
    values: BTreeMap<String, Vec<u64>>,
    resumed: usize,
}

impl Seen {
    /// Each number once, in order, to the last.
    fn check(&self, last: &BTreeMap<String, u64>) -> Result<()> {
        for (name, last) in last {
            let told = self.values.get(name).map_or(&[][..], Vec::as_slice);
            let wrong = told
                .iter()
                .zip(1..)
                .find(|(told, expected)| *told != expected);
            ensure!(
                wrong.is_none() && told.len() as u64 == *last,
                "{name}: {} events for {last} writes, first wrong: {wrong:?}",
                told.len()
            );
        }
        Ok(())
    }
}

/// Watches from a version on; goes on at the next server when a watch ends.
async fn watch(
    clients: Arc<Vec<Client>>,
    n: usize,
    from: String,
    over: Arc<AtomicBool>,
) -> Result<Seen> {
    let (mut server, mut version, mut seen) = (n, from, Seen::default());
    let params = WatchParams::default().labels("is=counter");
    while !over.load(Ordering::Relaxed) {
        let maps = api(&clients, server);
        let Ok(stream) = maps.watch(&params, &version).await else {
            server += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut stream = stream.boxed();
        loop {
            let next = tokio::time::timeout(Duration::from_millis(300), stream.try_next()).await;
            let event = match next {
                Err(_) if over.load(Ordering::Relaxed) => return Ok(seen),
                Err(_) => continue,
                Ok(Ok(Some(event))) => event,
                Ok(_) => break,
            };
            version = take(&mut seen, event, version)?;
        }
        seen.resumed += 1;
        server += 1;
    }
    Ok(seen)
}

/// Takes note of an event; the version to go on from.
fn take(seen: &mut Seen, event: WatchEvent<ConfigMap>, before: String) -> Result<String> {
    let version = match event {
        WatchEvent::Modified(map) => {
            let n = map.data.as_ref().context("no data")?["n"].parse()?;
            let name = map.metadata.name.context("no name")?;
            seen.values.entry(name).or_default().push(n);
            map.metadata.resource_version.context("no version")?
        }
        WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
        other => anyhow::bail!("not expected: {other:?}"),
    };
    let ordered = version.parse::<u64>()? >= before.parse::<u64>()?;
    ensure!(ordered, "version {version} after {before}");
    Ok(version)
}
