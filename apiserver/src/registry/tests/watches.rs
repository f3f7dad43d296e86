//! Watches: order, selection, resumption.

use std::time::Duration;

use super::*;
use crate::cache::{Delivery, EventType, Watch};

async fn next(watch: &mut Watch) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(5), watch.next());
    next.await
        .expect("an event in time")
        .expect("a running watch")
}

async fn change(watch: &mut Watch) -> (EventType, Value) {
    loop {
        match next(watch).await {
            Delivery::Event(kind, event) => {
                return (kind, serde_json::from_slice(&event.object(kind)).unwrap());
            }
            Delivery::Bookmark { .. } => {}
            Delivery::Initial(item) => panic!("unexpected initial object {}", item.name),
        }
    }
}

async fn label(api: &TestApi, name: &str, value: &str) {
    let patch = json!({"metadata": {"labels": {"x": value}}}).to_string();
    api.registry
        .patch(
            &Context::internal(),
            &maps(name),
            PatchKind::Merge,
            patch.as_bytes(),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn existing_objects_come_first_then_a_bookmark_then_changes() {
    let api = TestApi::start().await;
    api.create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    let options = WatchOptions {
        send_initial_events: Some(true),
        resource_version_match: Some(RevisionMatch::NotOlderThan),
        allow_bookmarks: true,
        ..WatchOptions::default()
    };
    let mut watch = api.registry.watch(&maps(""), &options).await.unwrap();
    assert!(matches!(next(&mut watch).await, Delivery::Initial(item) if &*item.name == "a"));
    assert!(matches!(
        next(&mut watch).await,
        Delivery::Bookmark {
            initial_end: true,
            ..
        }
    ));
    api.create("", "configmaps", "default", config_map("b", json!({})))
        .await;
    let (kind, object) = change(&mut watch).await;
    assert_eq!(
        (kind, object["metadata"]["name"].as_str()),
        (EventType::Added, Some("b"))
    );
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let api = TestApi::start().await;
    let options = WatchOptions {
        label_selector: "x=1".to_owned(),
        ..WatchOptions::default()
    };
    let mut watch = api.registry.watch(&maps(""), &options).await.unwrap();
    api.create(
        "",
        "configmaps",
        "default",
        config_map("a", json!({"x": "0"})),
    )
    .await;
    label(&api, "a", "1").await;
    let (kind, entered) = change(&mut watch).await;
    assert_eq!(
        (kind, &entered["metadata"]["labels"]["x"]),
        (EventType::Added, &json!("1"))
    );
    label(&api, "a", "2").await;
    let (kind, left) = change(&mut watch).await;
    // The last state that was selected, at the revision that ended it.
    assert_eq!(
        (kind, &left["metadata"]["labels"]["x"]),
        (EventType::Deleted, &json!("1"))
    );
    assert_ne!(
        left["metadata"]["resourceVersion"],
        entered["metadata"]["resourceVersion"]
    );
    label(&api, "a", "1").await;
    assert_eq!(change(&mut watch).await.0, EventType::Added);
    api.registry
        .delete(&Context::internal(), &maps("a"), &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(change(&mut watch).await.0, EventType::Deleted);
}

#[tokio::test]
async fn a_watch_resumes_where_it_was_or_is_told_that_it_cannot() {
    let api = TestApi::start().await;
    let first = api
        .create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    api.create("", "configmaps", "default", config_map("b", json!({})))
        .await;
    let since = first["metadata"]["resourceVersion"]
        .as_str()
        .map(str::to_owned);
    let options = WatchOptions {
        resource_version: since,
        ..WatchOptions::default()
    };
    let mut watch = api.registry.watch(&maps(""), &options).await.unwrap();
    let (kind, object) = change(&mut watch).await;
    assert_eq!(
        (kind, object["metadata"]["name"].as_str()),
        (EventType::Added, Some("b"))
    );

    // A server that starts now remembers nothing older than its own first look.
    let channel = corten_store::memory::channel();
    let first_server = TestApi::on(crate::storage::Endpoints::in_process(channel.clone())).await;
    let old = first_server
        .create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    first_server
        .create("", "configmaps", "default", config_map("b", json!({})))
        .await;
    let store = Store::new(crate::storage::Endpoints::in_process(channel), None);
    let caches = Caches::new(store.clone());
    let shutdown = corten_base::shutdown::Shutdown::new();
    corten_base::tasks::spawn(
        "other",
        corten_base::tasks::TaskKind::Background,
        Arc::clone(&caches).run(shutdown.clone()),
    );
    let allocators = Allocators {
        service_cidr: "10.96.0.0/24".parse().unwrap(),
        node_ports: Default::default(),
    };
    let second_server = Registry::new(store, caches, Admission::default(), allocators);
    let since = old["metadata"]["resourceVersion"]
        .as_str()
        .map(str::to_owned);
    let options = WatchOptions {
        resource_version: since,
        ..WatchOptions::default()
    };
    let refused = second_server
        .watch(&maps(""), &options)
        .await
        .err()
        .expect("too old");
    assert_eq!(refused.code(), 410);
    shutdown.trigger();
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let api = TestApi::start().await;
    let initial = WatchOptions {
        send_initial_events: Some(true),
        ..WatchOptions::default()
    };
    let refused = api
        .registry
        .watch(&maps(""), &initial)
        .await
        .err()
        .expect("no match rule");
    assert_eq!(refused.code(), 422);
    let exact = ListOptions {
        resource_version_match: Some(RevisionMatch::Exact),
        ..ListOptions::default()
    };
    assert_eq!(
        api.registry
            .list(&maps(""), &exact)
            .await
            .unwrap_err()
            .code(),
        422
    );
    let future = ListOptions {
        resource_version: Some("999999999".to_owned()),
        ..ListOptions::default()
    };
    assert_eq!(
        api.registry
            .list(&maps(""), &future)
            .await
            .unwrap_err()
            .code(),
        504
    );
}
