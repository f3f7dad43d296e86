//! kube-rs: typed calls, server-side apply, a watcher that keeps a store, and kinds that are only found by discovery.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Discovery};
use serde_json::json;

use crate::{client, has, said};

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the ignored test below inside the hosts' network, where the servers are.
pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    step("kube-rs");
    let own = std::env::current_exe()?;
    let mut command = client(cluster, &own.display().to_string());
    command.args(["--ignored", "--exact", "rust::kube_rs_talks"]);
    has(&said(command)?, &["1 passed"])
}

#[test]
#[ignore = "a part of the test of all clients, which starts it beside a cluster"]
fn kube_rs_talks() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let talked = runtime.block_on(async { talk(Client::try_default().await?).await });
    talked.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn talk(client: Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map = |name: &str, value: &str| ConfigMap {
        metadata: kube::api::ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("of".to_owned(), "rust".to_owned())])),
            ..Default::default()
        },
        data: Some(BTreeMap::from([("value".to_owned(), value.to_owned())])),
        ..Default::default()
    };
    for n in 0..5 {
        maps.create(&PostParams::default(), &map(&format!("rust-{n}"), "0"))
            .await?;
    }
    let listed = maps.list(&ListParams::default().labels("of=rust")).await?;
    ensure!(listed.items.len() == 5, "{} objects", listed.items.len());
    watched(maps.clone()).await?;
    let applied = maps
        .patch(
            "rust-9",
            &PatchParams::apply("kube-rs"),
            &Patch::Apply(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rust-9"}, "data": {"value": "applied"}
            })),
        )
        .await?;
    let manager = applied.metadata.managed_fields.unwrap_or_default();
    ensure!(
        manager[0].manager.as_deref() == Some("kube-rs"),
        "{manager:?}"
    );
    let rival = Patch::Apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rust-9"}, "data": {"value": "rival"}
    }));
    let refused = maps
        .patch("rust-9", &PatchParams::apply("rival"), &rival)
        .await;
    ensure!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409),
        "{refused:?}"
    );
    discovered(client).await
}

/// A reflector's store holds the objects, and what changes reaches it.
async fn watched(maps: Api<ConfigMap>) -> Result<()> {
    let (store, writer) = reflector::store::<ConfigMap>();
    let config = watcher::Config::default()
        .labels("of=rust")
        .streaming_lists();
    let stream = reflector(writer, watcher(maps.clone(), config)).applied_objects();
    let mut stream = std::pin::pin!(stream);
    let seen = async {
        for _ in 0..5 {
            stream.try_next().await?.context("the stream ended")?;
        }
        maps.patch(
            "rust-1",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"value": "1"}})),
        )
        .await?;
        stream.next().await.context("the stream ended")??;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, seen).await??;
    let values: Vec<_> = store
        .state()
        .iter()
        .filter(|map| map.data.as_ref().is_some_and(|data| data["value"] == "1"))
        .map(|map| map.metadata.name.clone())
        .collect();
    ensure!(values == [Some("rust-1".to_owned())], "{values:?}");
    Ok(())
}

/// Aggregated discovery names the kinds and what may be done to them.
async fn discovered(client: Client) -> Result<()> {
    let discovery = Discovery::new(client).run_aggregated().await?;
    let apps = discovery.get("apps").context("no group apps")?;
    let (deployment, capabilities) = apps
        .recommended_kind("Deployment")
        .context("no Deployments")?;
    ensure!(deployment.plural == "deployments", "{deployment:?}");
    ensure!(
        capabilities.supports_operation(kube::discovery::verbs::WATCH),
        "{capabilities:?}"
    );
    Ok(())
}
