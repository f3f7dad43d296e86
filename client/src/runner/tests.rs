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
async fn one_failing_write_kept_all_others_of_its_key_from_being_tried() {
    let script = Script::new(Vec::new());
    script.refuse_once("create", 403, "Forbidden");
    let (client, _stop) = start(script.clone()).await;
    let mut plan = Plan::of([Action::create(&config_map("shared", ""))]);
    for name in ["a", "b"] {
        plan.begin_group();
        plan.push(Action::create(&config_map(name, "")));
        plan.push(Action::delete(&config_map(name, "")));
    }
    // What stands before the groups ends them all.
    let executor = Executor::new(client);
    assert_eq!(executor.run(plan.clone()).await.len(), 1);
    assert_eq!(script.calls(), ["create a/"]);
    // A group ends itself.
    plan.actions[0] = Action::delete(&config_map("shared", ""));
    script.refuse_once("create", 403, "Forbidden");
    let failed = executor.run(plan).await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    let calls = script.calls();
    let deleted: Vec<_> = calls.iter().filter(|c| c.starts_with("delete")).collect();
    // One of the two creations was refused, and only that one's deletion is missing.
    assert_eq!(deleted.len(), 2, "{calls:?}");
    assert_eq!(creates(&script), 3, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_expected_is_looked_up_on_the_server() {
    let script = Script::new(Vec::new());
    let (client, _stop) = start(script.clone()).await;
    let mut owner = config_map("owner", "");
    owner.metadata.uid = Some("u1".to_owned());
    let executor = Executor::new(client.clone());
    let run = async |first: Action| {
        let last = Action::create(&config_map("next", ""));
        let failed = executor.run(Plan::of([first, last])).await;
        failed.first().map(|failed| failed.error.clone())
    };
    let alive = || Action::expect_alive(&owner);
    let gone = || Action::expect_gone::<ConfigMap>("a", "owner");
    assert!(matches!(run(alive()).await, Some(Error::NotFound(_))));
    client.create(&owner).await.expect("created");
    assert!(matches!(run(gone()).await, Some(Error::Conflict(_))));
    let mut successor = owner.clone();
    successor.metadata.uid = Some("u2".to_owned());
    let other = run(Action::expect_alive(&successor)).await;
    assert!(matches!(other, Some(Error::Conflict(_))));
    assert_eq!(creates(&script), 1, "nothing follows what does not hold");
    assert_eq!(run(alive()).await, None);
}

#[tokio::test(start_paused = true)]
async fn deleting_what_is_gone_is_done() {
    let (client, _stop) = start(Script::new(Vec::new())).await;
    let plan = Plan::of([Action::delete(&config_map("none", ""))]);
    assert!(Executor::new(client).run(plan).await.is_empty());
}
