//! `corten bench`: latencies of a running cluster as a client sees them: creating objects, and a pod from bind to Running.
//! It measures; it judges nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use corten_base::shutdown::Shutdown;
use corten_client::cache::{Cache, CacheOptions, Change};
use corten_client::client::{DeleteOptions, ListOptions};
use corten_client::{Client, ClientConfig};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

/// What a bench does.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// ConfigMaps to create, one after another.
    #[arg(long, default_value_t = 500)]
    pub creates: u32,
    /// Pods to start, one after another.
    #[arg(long, default_value_t = 50)]
    pub pods: u32,
    /// An image that is on the node already and keeps running.
    #[arg(long, default_value = "corten/demo:1")]
    pub image: String,
}

/// One pod's start must not take longer; else something is wrong and the figures mean nothing.
const POD_TIMEOUT: Duration = Duration::from_secs(60);
const LABEL: &str = "corten.dev/bench";

/// Runs it; returns lines of figures.
pub async fn run(config: &ClientConfig, options: &Options) -> Result<Vec<String>> {
    let client = Client::connect(config)?;
    let creates = creates(&client, options.creates).await?;
    let pods = pods(&client, options).await?;
    Ok(vec![
        line("API create (ConfigMap)", creates),
        line("pod, bind to Running (image present)", pods),
    ])
}

async fn creates(client: &Client, count: u32) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for index in 0..count {
        let map: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": format!("bench-{index}"), "namespace": "default", "labels": {LABEL: "1"}},
            "data": {"key": "x".repeat(256)},
        }))?;
        let begin = Instant::now();
        client.create(&map).await.context("create")?;
        took.push(begin.elapsed());
    }
    for index in 0..count {
        client
            .delete::<ConfigMap>(
                "default",
                &format!("bench-{index}"),
                &DeleteOptions::default(),
            )
            .await?;
    }
    Ok(took)
}

async fn pods(client: &Client, options: &Options) -> Result<Vec<Duration>> {
    let stop = Shutdown::new();
    let select = ListOptions::namespace("default").labels(LABEL);
    let cache = Cache::<Pod>::start(client, CacheOptions::all().select(select), &stop);
    cache.wait_synced().await;
    let mut changes = cache.subscribe();
    let mut bound: HashMap<String, Instant> = HashMap::new();
    let mut took = Vec::new();
    for index in 0..options.pods {
        let name = format!("bench-{index}");
        client
            .create(&pod(&name, &options.image)?)
            .await
            .context("create")?;
        loop {
            let change = tokio::time::timeout(POD_TIMEOUT, changes.next())
                .await
                .context("the pod did not start in time")?;
            let Some(change) = change else {
                bail!("the watch ended")
            };
            let (Change::Added(pod) | Change::Updated { new: pod, .. }) = change else {
                continue;
            };
            let seen = pod.metadata.name.clone().unwrap_or_default();
            if pod
                .spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.is_some())
            {
                bound.entry(seen.clone()).or_insert_with(Instant::now);
            }
            let running = pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
            if seen == name && running {
                took.extend(bound.get(&seen).map(Instant::elapsed));
                break;
            }
        }
    }
    for index in 0..options.pods {
        client
            .delete::<Pod>(
                "default",
                &format!("bench-{index}"),
                &DeleteOptions::default().grace(0),
            )
            .await?;
    }
    stop.trigger();
    Ok(took)
}

fn pod(name: &str, image: &str) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {LABEL: "1"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}]},
    }))?)
}

fn line(what: &str, mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |share: f64| -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index of a short list"
        )]
        let index = ((took.len() as f64) * share) as usize;
        took.get(index.min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
            .as_secs_f64()
            * 1e3
    };
    format!(
        "{what:<40} n={:<5} p50 {:>8.1} ms   p99 {:>8.1} ms",
        took.len(),
        at(0.5),
        at(0.99)
    )
}
