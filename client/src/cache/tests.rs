//! Caches over a scripted watch: initial state, changes, resuming, relisting, indexes, subscriptions.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;
use crate::testing::{Script, Step, bookmark, pod_json, start};

const LIMIT: Duration = Duration::from_secs(60);

fn by_node() -> CacheOptions<Pod> {
    CacheOptions::all().index("node", |pod: &Pod| {
        pod.spec
            .iter()
            .filter_map(|spec| spec.node_name.clone())
            .collect()
    })
}

async fn drain(changes: &mut Changes<Pod>, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let change = tokio::time::timeout(LIMIT, changes.next())
            .await
            .expect("in time");
        seen.push(match change.expect("cache runs") {
            Change::Added(pod) => format!("+{}", ObjectName::of(&*pod)),
            Change::Updated { new, .. } => format!("~{}", ObjectName::of(&*new)),
            Change::Deleted(pod) => format!("-{}", ObjectName::of(&*pod)),
        });
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn holds_the_initial_state_and_follows() {
    let script = Script::new(vec![vec![
        Step::added(pod_json("a", "one", 5, "n1")),
        Step::added(pod_json("a", "two", 3, "n2")),
        bookmark(7, true),
        Step::modified(pod_json("a", "one", 8, "n2")),
        Step::deleted(pod_json("a", "two", 9, "n2")),
        Step::Hang,
    ]]);
    let (client, shutdown) = start(script.clone()).await;
    let cache = Cache::<Pod>::start(&client, by_node(), &shutdown);
    let mut changes = cache.subscribe();
    cache.wait_synced().await;
    assert!(cache.wait_revision(Revision(9), LIMIT).await);
    assert_eq!(cache.len(), 1);
    assert!(cache.by_index("node", "n1").is_empty());
    assert_eq!(cache.by_index("node", "n2").len(), 1);
    assert_eq!(
        drain(&mut changes, 4).await,
        ["+a/one", "+a/two", "~a/one", "-a/two"]
    );
    assert_eq!(script.resumes(), [""]);
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn resumes_behind_the_last_revision() {
    let script = Script::new(vec![
        vec![
            Step::added(pod_json("a", "one", 5, "")),
            bookmark(7, true),
            Step::Fail(503),
        ],
        vec![Step::added(pod_json("a", "two", 8, "")), Step::Hang],
    ]);
    let (client, shutdown) = start(script.clone()).await;
    let cache = Cache::<Pod>::start(&client, CacheOptions::all(), &shutdown);
    assert!(cache.wait_revision(Revision(8), LIMIT).await);
    assert_eq!(cache.len(), 2);
    assert_eq!(script.resumes(), ["", "7"]);
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn lists_again_after_410_and_tells_only_differences() {
    let script = Script::new(vec![
        vec![
            Step::added(pod_json("a", "gone", 4, "")),
            Step::added(pod_json("a", "kept", 5, "")),
            bookmark(7, true),
            Step::Fail(410),
        ],
        vec![
            Step::added(pod_json("a", "kept", 5, "")),
            Step::added(pod_json("a", "new", 12, "")),
            bookmark(20, true),
            Step::Hang,
        ],
    ]);
    let (client, shutdown) = start(script.clone()).await;
    let cache = Cache::<Pod>::start(&client, CacheOptions::all(), &shutdown);
    let mut changes = cache.subscribe();
    assert!(cache.wait_revision(Revision(20), LIMIT).await);
    assert_eq!(
        drain(&mut changes, 4).await,
        ["+a/gone", "+a/kept", "+a/new", "-a/gone"]
    );
    assert_eq!(script.resumes(), ["", ""]);
    assert!(changes.try_next().is_none(), "`kept` did not change");
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn a_replaced_object_is_deleted_and_added() {
    let cache = Cache::<Pod>::fixed([], by_node());
    let mut changes = cache.subscribe();
    let pod = |uid: &str| -> Pod {
        serde_json::from_value(json!({"metadata": {"namespace": "a", "name": "b", "uid": uid}}))
            .expect("pod")
    };
    cache.put_for_test(pod("1")).await;
    cache.put_for_test(pod("2")).await;
    assert_eq!(drain(&mut changes, 3).await, ["+a/b", "-a/b", "+a/b"]);
}

#[tokio::test]
async fn a_late_subscriber_starts_with_what_is_held() {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"namespace": "a", "name": "b"}})).expect("pod");
    let cache = Cache::<Pod>::fixed([pod], by_node());
    let mut changes = cache.subscribe();
    cache.remove_for_test("a", "b").await;
    assert_eq!(drain(&mut changes, 2).await, ["+a/b", "-a/b"]);
}

#[tokio::test(start_paused = true)]
async fn metadata_caches_read_any_kind() {
    let thing = json!({"apiVersion": "x.io/v1", "kind": "Thing", "spec": {"a": [1]},
        "metadata": {"namespace": "a", "name": "t", "uid": "u", "resourceVersion": "3"}});
    let script = Script::new(vec![vec![
        Step::added(thing),
        bookmark(4, true),
        Step::Hang,
    ]]);
    let (client, shutdown) = start(script).await;
    let target = Target::resource("x.io", "v1", "things");
    let cache = MetaCache::start_for(&client, &target, CacheOptions::all(), &shutdown);
    cache.wait_synced().await;
    assert_eq!(cache.get("a", "t").expect("held").kind, "Thing");
    shutdown.trigger();
}
