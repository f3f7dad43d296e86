//! What has to be there before a load: namespaces, the rights of the loads' user, and the objects that are read and listed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use super::client::{Call, Connection, Format};
use super::objects::{self, BIG, NAMESPACES};
use super::report::Outcome;
use super::requests::{Op, Shape, config_maps_path, measure, pods_path};
use super::servers::Side;

/// Until a new right is seen by the authorizer.
const RIGHTS_IN: Duration = Duration::from_secs(30);
/// Creates under way at once while objects are made.
const FILLERS: usize = 32;

/// Namespaces, service accounts, roles.
pub(crate) async fn prepare(side: &Side) -> Result<()> {
    let admin = side.admin.connect().await?;
    let create = async |path: &str, body: Bytes| {
        let made = admin.call(Call::post(path.to_owned(), body)).await;
        // Upstream's server is ready before all is there that its own namespaces' admission reads.
        made.with_context(|| format!("cannot create at {path}"))
    };
    for name in NAMESPACES {
        create("/api/v1/namespaces", objects::namespace(name)).await?;
        let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
        create(&accounts, objects::service_account()).await?;
    }
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = Bytes::from_static(objects::ROLE);
    create(&format!("{rbac}/clusterroles"), role).await?;
    let binding = Bytes::from_static(objects::BINDING);
    create(&format!("{rbac}/clusterrolebindings"), binding).await?;
    for number in 0..objects::WATCHED_COUNT {
        let body = objects::config_map(&objects::watched_name(number), 64);
        create(&config_maps_path(objects::WATCHED), body).await?;
    }
    allowed(&side.client.at(0)).await
}

/// Waits until the loads' user may list.
async fn allowed(connection: &Connection) -> Result<()> {
    let until = Instant::now() + RIGHTS_IN;
    loop {
        match connection.call(Call::get(pods_path(), Format::Json)).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// The pods that are read, patched and listed; each has a node.
pub(crate) async fn pods(side: &mut Side) -> Result<()> {
    if std::mem::replace(&mut side.has_pods, true) {
        return Ok(());
    }
    fill(side, Op::FillPod, objects::POD_COUNT).await?;
    let list = Call::get(format!("{}?resourceVersion=0", pods_path()), Format::Json);
    // A cache may lag a moment; the list is what the loads measure, so it has to be whole before.
    let until = Instant::now() + RIGHTS_IN;
    let mut found = items(&side.client.at(0).call(list).await?)?;
    while found < objects::POD_COUNT && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let list = Call::get(pods_path(), Format::Json);
        found = items(&side.client.at(0).call(list).await?)?;
    }
    ensure!(found == objects::POD_COUNT, "{found} pods in the list");
    Ok(())
}

/// Large ConfigMaps to list, unless a load has made them.
pub(crate) async fn big(side: &mut Side, count: usize, bytes: usize) -> Result<()> {
    if side.big == 0 {
        fill(side, Op::CreateConfigMap(BIG, bytes), count).await?;
        side.big = count;
    }
    Ok(())
}

async fn fill(side: &Side, op: Op, total: usize) -> Result<()> {
    let shape = Shape {
        op,
        clients: FILLERS,
        total,
    };
    let made: Outcome = measure(&side.client, &shape).await?;
    let first = made.first_failure().unwrap_or_default();
    ensure!(made.failures() == 0, "cannot fill: {first}");
    Ok(())
}

fn items(list: &[u8]) -> Result<usize> {
    let list: serde_json::Value = serde_json::from_slice(list)?;
    let items = list["items"].as_array();
    Ok(items.context("a list without items")?.len())
}
