//! The runner: own writes are waited for, failures come again, batches end at the first failure, leadership gates.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::cache::CacheOptions;
use crate::object::ObjectName;
use crate::testing::{Script, start};

/// Writes `copy-of-<name>` for each ConfigMap that has none yet.
struct Copier {
    cache: Cache<ConfigMap>,
}

fn config_map(name: &str, revision: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            namespace: Some("a".to_owned()),
            name: Some(name.to_owned()),
            resource_version: (!revision.is_empty()).then(|| revision.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::new()),
        ..ConfigMap::default()
    }
}

impl Controller for Copier {
    type Key = ObjectName;
    type View = (String, bool);

    fn name(&self) -> &'static str {
        "copier"
    }

    fn view(&self, key: &ObjectName) -> Self::View {
        let copy = format!("copy-of-{}", key.name);
        let wanted = self.cache.get_named(key).is_some() && self.cache.get("a", &copy).is_none();
        (copy, wanted)
    }

    fn plan(&self, (copy, wanted): &Self::View, _now: Timestamp) -> Plan {
        Plan::of(wanted.then(|| Action::create(&config_map(copy, ""))))
    }
}

fn run(client: &Client, cache: &Cache<ConfigMap>, leadership: Leadership) -> Shutdown {
    let shutdown = Shutdown::new();
    let runner = Runner::new(
        Copier {
            cache: cache.clone(),
        },
        client,
    )
    .leader(leadership)
    .watch(cache, |_, change| {
        vec![ObjectName::of(&**change.object())]
            .into_iter()
            .filter(|name| !name.name.starts_with("copy-of-"))
            .collect()
    });
    spawn("runner", TaskKind::Background, runner.run(shutdown.clone()));
    shutdown
}

fn creates(script: &Script) -> usize {
    script
        .calls()
        .iter()
        .filter(|call| call.starts_with("create"))
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_key_waits_until_its_own_write_is_seen() {
    let script = Script::new(Vec::new());
    let (client, _stop) = start(script.clone()).await;
    let cache = Cache::fixed([config_map("one", "1")], CacheOptions::all());
    // The script's next revision is 1; the copy's creation must be behind what the cache has seen.
    client
        .create(&config_map("other", ""))
        .await
        .expect("created");
    let shutdown = run(&client, &cache, Leadership::always());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(creates(&script), 2);
    // News about the key, older than its own write: a plan now would create the copy again.
    let mut touched = config_map("one", "1");
    touched
        .data
        .get_or_insert_default()
        .insert("x".to_owned(), "y".to_owned());
    touched.metadata.uid = Some("new".to_owned());
    cache.put_for_test(touched).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(creates(&script), 2, "the cache has not shown the copy yet");
    cache.put_for_test(config_map("copy-of-one", "2")).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(creates(&script), 2);
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn a_failed_key_comes_again() {
    let script = Script::new(Vec::new());
    script.refuse_once("create", 503, "ServiceUnavailable");
    let (client, _stop) = start(script.clone()).await;
    let cache = Cache::fixed([config_map("one", "1")], CacheOptions::all());
    let shutdown = run(&client, &cache, Leadership::always());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(creates(&script), 2);
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_writes() {
    let script = Script::new(Vec::new());
    let (client, _stop) = start(script.clone()).await;
    let cache = Cache::fixed([config_map("one", "1")], CacheOptions::all());
    let (lead, leadership) = Leadership::manual(false);
    let shutdown = run(&client, &cache, leadership);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(creates(&script), 0);
    lead.send_replace(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(creates(&script), 1);
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn a_batch_ends_soon_after_its_first_failure() {
    let script = Script::new(Vec::new());
    script.refuse_once("create", 403, "Forbidden");
    let (client, _stop) = start(script.clone()).await;
    let plan = Plan::of((0..100).map(|n| Action::create(&config_map(&n.to_string(), ""))));
    let failed = Executor::new(client).run(plan).await;
    assert_eq!(failed.len(), 1);
    assert!(matches!(failed[0].error, Error::Forbidden(_)), "{failed:?}");
    assert_eq!(creates(&script), 4, "one refused wave is enough");
}

#[tokio::test(start_paused = true)]
async fn deleting_what_is_gone_is_done() {
    let (client, _stop) = start(Script::new(Vec::new())).await;
    let plan = Plan::of([Action::delete(&config_map("none", ""))]);
    assert!(Executor::new(client).run(plan).await.is_empty());
}
