//! The verbs over a real cache and store: what clients of every kind rely on.

mod apply;
mod faults;
mod jobs;
mod pods;
mod services;
mod watches;

use corten_api::status::Reason;
use serde_json::{Value, json};

use super::*;
use crate::testing::{TestApi, config_map};

pub(super) fn maps(name: &str) -> Target {
    Target::of("", "configmaps", "default", name).unwrap()
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let api = TestApi::start().await;
    let created = api
        .create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    assert!(
        created["metadata"]["uid"]
            .as_str()
            .is_some_and(|uid| uid.len() == 36)
    );
    assert!(created["metadata"]["creationTimestamp"].is_string());
    let read = api.get("", "configmaps", "default", "a").await;
    assert_eq!(read, created);
    let context = Context::internal();
    let again = api
        .registry
        .create(&context, &maps(""), config_map("a", json!({})))
        .await;
    assert!(again.unwrap_err().is(&Reason::AlreadyExists));
    let answer = api
        .registry
        .delete(&context, &maps("a"), &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(answer.into_value()["status"], "Success");
    assert_eq!(
        api.registry.get(&maps("a"), None).await.unwrap_err().code(),
        404
    );
    let again = api
        .registry
        .delete(&context, &maps("a"), &DeleteOptions::default())
        .await;
    assert_eq!(again.unwrap_err().code(), 404);
}

#[tokio::test]
async fn updates_conflict_only_when_they_should() {
    let api = TestApi::start().await;
    let first = api
        .create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    let context = Context::internal();
    let mut change = first.clone();
    change["data"]["a"] = "c".into();
    let second = api
        .registry
        .update(&context, &maps("a"), change.clone())
        .await
        .unwrap()
        .into_value();
    assert_ne!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    change["data"]["a"] = "d".into();
    let stale = api
        .registry
        .update(&context, &maps("a"), change.clone())
        .await
        .unwrap_err();
    assert!(stale.is(&Reason::Conflict), "{stale}");
    // Without a revision, the last writer wins.
    change["metadata"]
        .as_object_mut()
        .unwrap()
        .shift_remove("resourceVersion");
    let third = api
        .registry
        .update(&context, &maps("a"), change)
        .await
        .unwrap()
        .into_value();
    assert_eq!(third["data"]["a"], "d");
    // Nothing changed: nothing is written.
    let same = api
        .registry
        .update(&context, &maps("a"), third.clone())
        .await
        .unwrap()
        .into_value();
    assert_eq!(same, third);
}

#[tokio::test]
async fn patches_apply_to_what_is_there() {
    let api = TestApi::start().await;
    api.create(
        "",
        "configmaps",
        "default",
        config_map("a", json!({"x": "y"})),
    )
    .await;
    let context = Context::internal();
    let patch = |kind, patch: Value| {
        let (api, context) = (&api, &context);
        async move {
            api.registry
                .patch(context, &maps("a"), kind, patch.to_string().as_bytes())
                .await
        }
    };
    let merged = patch(
        PatchKind::Merge,
        json!({"metadata": {"labels": {"x": null, "z": "1"}}}),
    )
    .await
    .unwrap();
    assert_eq!(merged.into_value()["metadata"]["labels"], json!({"z": "1"}));
    let json_patch = json!([{"op": "replace", "path": "/data/a", "value": "e"}]);
    assert_eq!(
        patch(PatchKind::Json, json_patch)
            .await
            .unwrap()
            .into_value()["data"]["a"],
        "e"
    );
    let strategic = json!({"data": {"f": "g"}});
    assert_eq!(
        patch(PatchKind::Strategic, strategic)
            .await
            .unwrap()
            .into_value()["data"],
        json!({"a": "e", "f": "g"})
    );
    let stale = json!({"metadata": {"resourceVersion": "1"}});
    assert!(
        patch(PatchKind::Merge, stale)
            .await
            .unwrap_err()
            .is(&Reason::Conflict)
    );
    let renamed = json!({"metadata": {"name": "b"}});
    assert_eq!(
        patch(PatchKind::Merge, renamed).await.unwrap_err().code(),
        400
    );
    assert_eq!(
        patch(PatchKind::Apply, json!({})).await.unwrap_err().code(),
        400
    );
}

#[tokio::test]
async fn concurrent_patches_all_succeed() {
    let api = TestApi::start().await;
    api.create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    let context = Context::internal();
    let patches = (0..20).map(|number| {
        let (api, context) = (&api, &context);
        async move {
            let patch = json!({"data": {format!("k{number}"): "v"}}).to_string();
            api.registry
                .patch(context, &maps("a"), PatchKind::Merge, patch.as_bytes())
                .await
                .unwrap();
        }
    });
    futures::future::join_all(patches).await;
    let data = api.get("", "configmaps", "default", "a").await["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 21);
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_leave_nothing() {
    let api = TestApi::start().await;
    let object = json!({"metadata": {"generateName": "x-"}});
    let created = api
        .create("", "configmaps", "default", object.clone())
        .await;
    assert!(
        created["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("x-")
    );
    let dry = Context {
        dry_run: true,
        ..Context::internal()
    };
    let answer = api
        .registry
        .create(&dry, &maps(""), config_map("dry", json!({})))
        .await
        .unwrap();
    assert!(answer.into_value()["metadata"]["uid"].is_string());
    assert_eq!(
        api.registry
            .get(&maps("dry"), None)
            .await
            .unwrap_err()
            .code(),
        404
    );
    let nameless = api
        .registry
        .create(&dry, &maps(""), json!({"metadata": {}}))
        .await
        .unwrap_err();
    assert_eq!(nameless.code(), 422);
    let dated = json!({"metadata": {"name": "a", "resourceVersion": "7"}});
    assert_eq!(
        api.registry
            .create(&dry, &maps(""), dated)
            .await
            .unwrap_err()
            .code(),
        400
    );
}

#[tokio::test]
async fn finalizers_hold_and_their_removal_deletes() {
    let api = TestApi::start().await;
    let mut object = config_map("a", json!({}));
    object["metadata"]["finalizers"] = json!(["example.com/x"]);
    api.create("", "configmaps", "default", object).await;
    let context = Context::internal();
    let marked = api
        .registry
        .delete(&context, &maps("a"), &DeleteOptions::default())
        .await
        .unwrap()
        .into_value();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let mut released = marked.clone();
    released["metadata"]
        .as_object_mut()
        .unwrap()
        .shift_remove("finalizers");
    api.registry
        .update(&context, &maps("a"), released)
        .await
        .unwrap();
    assert_eq!(
        api.registry.get(&maps("a"), None).await.unwrap_err().code(),
        404
    );
}

#[tokio::test]
async fn namespaces_must_exist_and_not_be_terminating() {
    let api = TestApi::start().await;
    let context = Context::internal();
    let elsewhere = Target::of("", "configmaps", "nowhere", "").unwrap();
    let missing = api
        .registry
        .create(&context, &elsewhere, config_map("a", json!({})))
        .await
        .unwrap_err();
    assert_eq!(missing.code(), 404);
    api.create(
        "",
        "namespaces",
        "",
        json!({"metadata": {"name": "nowhere"}}),
    )
    .await;
    let namespace = Target::of("", "namespaces", "", "nowhere").unwrap();
    let marked = api
        .registry
        .delete(&context, &namespace, &DeleteOptions::default())
        .await
        .unwrap()
        .into_value();
    assert_eq!(marked["status"]["phase"], "Terminating");
    api.get("", "namespaces", "", "nowhere").await;
    let refused = api
        .registry
        .create(&context, &elsewhere, config_map("a", json!({})))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), 403);
    assert!(
        refused
            .to_json()
            .to_string()
            .contains("NamespaceTerminating")
    );
    // The namespace controller empties it and finalizes.
    let finalize = Target {
        subresource: "finalize".to_owned(),
        ..namespace.clone()
    };
    let mut empty = marked;
    empty["spec"]["finalizers"] = json!([]);
    api.registry
        .update(&context, &finalize, empty)
        .await
        .unwrap();
    assert_eq!(
        api.registry.get(&namespace, None).await.unwrap_err().code(),
        404
    );
    let kept = Target::of("", "namespaces", "", "kube-system").unwrap();
    let refused = api
        .registry
        .delete(&context, &kept, &DeleteOptions::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), 403);
}

#[tokio::test]
async fn pages_show_one_revision() {
    let api = TestApi::start().await;
    for number in 0..25 {
        api.create(
            "",
            "configmaps",
            "default",
            config_map(&format!("m{number:02}"), json!({})),
        )
        .await;
    }
    let mut options = ListOptions {
        limit: 10,
        ..ListOptions::default()
    };
    let first = api.registry.list(&maps(""), &options).await.unwrap();
    assert_eq!((first.items.len(), first.remaining), (10, Some(15)));
    api.create("", "configmaps", "default", config_map("m99", json!({})))
        .await;
    let gone = api
        .registry
        .delete(
            &Context::internal(),
            &maps("m20"),
            &DeleteOptions::default(),
        )
        .await;
    gone.unwrap();
    let mut names: Vec<String> = first
        .items
        .iter()
        .map(|item| item.name.to_string())
        .collect();
    let mut token = first.continue_token.clone();
    while let Some(next) = token {
        options.continue_token = next;
        let page = api.registry.list(&maps(""), &options).await.unwrap();
        assert_eq!(page.revision, first.revision);
        names.extend(page.items.iter().map(|item| item.name.to_string()));
        token = page.continue_token.clone();
    }
    let expected: Vec<String> = (0..25).map(|number| format!("m{number:02}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn pages_survive_a_change_of_server_until_compaction() {
    let channel = corten_store::memory::channel();
    let first_server = TestApi::on(crate::storage::Endpoints::in_process(channel.clone())).await;
    for number in 0..6 {
        first_server
            .create(
                "",
                "configmaps",
                "default",
                config_map(&format!("m{number}"), json!({})),
            )
            .await;
    }
    let mut options = ListOptions {
        limit: 2,
        ..ListOptions::default()
    };
    let first = first_server
        .registry
        .list(&maps(""), &options)
        .await
        .unwrap();
    first_server
        .create("", "configmaps", "default", config_map("m9", json!({})))
        .await;
    let crypt = None;
    let store = Store::new(crate::storage::Endpoints::in_process(channel), crypt);
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
    options.continue_token = first.continue_token.clone().unwrap();
    let second = second_server.list(&maps(""), &options).await.unwrap();
    assert_eq!(second.revision, first.revision);
    let names: Vec<&str> = second.items.iter().map(|item| &*item.name).collect();
    assert_eq!(names, ["m2", "m3"]);
    first_server
        .store
        .compact(second_server.caches().observed())
        .await
        .unwrap();
    let expired = second_server.list(&maps(""), &options).await.unwrap_err();
    assert_eq!(expired.code(), 410);
    options.continue_token = expired.continue_token.clone().unwrap();
    let inconsistent = second_server.list(&maps(""), &options).await.unwrap();
    assert_eq!(&*inconsistent.items[0].name, "m2");
    shutdown.trigger();
}

#[tokio::test]
async fn selectors_select_and_unknown_fields_are_refused() {
    let api = TestApi::start().await;
    api.create(
        "",
        "configmaps",
        "default",
        config_map("a", json!({"x": "1"})),
    )
    .await;
    api.create(
        "",
        "configmaps",
        "default",
        config_map("b", json!({"x": "2"})),
    )
    .await;
    let list = |labels: &str, fields: &str| {
        let options = ListOptions {
            label_selector: labels.to_owned(),
            field_selector: fields.to_owned(),
            ..ListOptions::default()
        };
        let api = &api;
        async move { api.registry.list(&maps(""), &options).await }
    };
    assert_eq!(list("x in (2,3)", "").await.unwrap().items.len(), 1);
    assert_eq!(list("", "metadata.name=a").await.unwrap().items.len(), 1);
    assert_eq!(list("x=2", "metadata.name=a").await.unwrap().items.len(), 0);
    assert_eq!(list("", "spec.color=red").await.unwrap_err().code(), 400);
    assert_eq!(list("x in (", "").await.unwrap_err().code(), 400);
}

#[tokio::test]
async fn secrets_are_sealed_in_the_store_and_open_in_the_api() {
    let api = TestApi::start().await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    api.create("", "secrets", "default", secret).await;
    let read = api.get("", "secrets", "default", "s").await;
    assert!(read["data"]["password"].is_string() || read["stringData"]["password"].is_string());
    let channel_store = &api.store;
    let stored = channel_store
        .get("/registry/secrets/default/s")
        .await
        .unwrap()
        .unwrap();
    assert!(
        serde_json::from_slice::<Value>(&stored.value).is_ok(),
        "the store's handle decrypts"
    );
}
