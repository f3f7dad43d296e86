//! Faults that reviews found in the verbs.

use super::*;
use crate::authn::User;
use crate::authz::live::Live;
use crate::chain::objects::Change;
use crate::storage::{Committed, Txn};
use crate::testing::pod;

/// An authorizer that lets jane do this to leases.
fn leases(verb: &str) -> Arc<Live> {
    let live = Live::new();
    live.apply(
        "clusterroles",
        Change::Set(json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": [verb]}]})),
    );
    live.apply(
        "clusterrolebindings",
        Change::Set(json!({"metadata": {"name": "r"},
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]})),
    );
    live
}

#[tokio::test]
async fn a_put_to_a_missing_object_created_it_without_the_right_to_create() {
    for (verb, code) in [("update", 403), ("create", 201)] {
        let api = TestApi::start().await;
        api.registry.set_authorizer(leases(verb));
        let jane = Context::new(Arc::new(User::authenticated("jane", Vec::<String>::new())));
        let target = Target::of("coordination.k8s.io", "leases", "default", "l").unwrap();
        let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
        let put = api.registry.update(&jane, &target, lease).await;
        let put = put.map_or_else(|status| status.code(), |answer| answer.code);
        assert_eq!(put, code, "{verb}");
        let found = api.registry.get(&target, None).await;
        assert_eq!(found.is_ok(), code == 201);
    }
}

#[tokio::test]
async fn one_secret_that_cannot_be_decrypted_stopped_every_cache() {
    let channel = corten_store::memory::channel();
    let endpoints = || crate::storage::Endpoints::in_process(channel.clone());
    let api = TestApi::on(endpoints()).await;
    // Sealed by a key that is lost. A handle without a key writes it as it is.
    let sealed =
        bytes::Bytes::from_static(b"k8s:enc:corten:v1:123456789012 and what nobody can open");
    let txn = Txn::create("/registry/secrets/default/lost", sealed, None);
    let committed = Store::new(endpoints(), None).commit(&txn).await.unwrap();
    assert!(matches!(committed, Committed::Applied(_)));
    let secret = json!({"metadata": {"name": "z"}, "stringData": {"a": "b"}});
    api.create("", "secrets", "default", secret).await;
    // The watch goes on, for secrets and for all others.
    api.get("", "secrets", "default", "z").await;
    api.create("", "configmaps", "default", config_map("a", json!({})))
        .await;
    api.get("", "configmaps", "default", "a").await;
    // A server that starts with it loads the others, and says why it cannot give the one.
    let second = TestApi::on_used(endpoints());
    second.get("", "secrets", "default", "z").await;
    second.get("", "configmaps", "default", "a").await;
    let lost = Target::of("", "secrets", "default", "lost").unwrap();
    let context = Context::internal();
    let options = DeleteOptions::default();
    let refused = second.registry.delete(&context, &lost, &options).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), 500);
    assert!(refused.message.contains("cannot be decrypted"), "{refused}");
}

#[tokio::test]
async fn a_gated_pod_was_bound() {
    let api = TestApi::start().await;
    let mut gated = pod("a");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    api.create("", "pods", "default", gated).await;
    let binding = Target {
        subresource: "binding".to_owned(),
        ..Target::of("", "pods", "default", "a").unwrap()
    };
    let to = json!({"metadata": {}, "target": {"kind": "Node", "name": "n1"}});
    let refused = api
        .registry
        .create(&Context::internal(), &binding, to)
        .await
        .unwrap_err();
    assert!(refused.is(&Reason::Conflict), "{refused}");
    assert!(refused.message.contains("schedulingGates"), "{refused}");
    let read = api.get("", "pods", "default", "a").await;
    assert_eq!(read["spec"]["nodeName"], Value::Null);
}

#[tokio::test]
async fn an_evicted_pod_did_not_say_so() {
    let api = TestApi::start().await;
    for (name, dry) in [("a", true), ("b", false)] {
        let mut held = pod(name);
        held["metadata"]["finalizers"] = json!(["example.com/x"]);
        let created = api.create("", "pods", "default", held).await;
        let eviction = Target {
            subresource: "eviction".to_owned(),
            ..Target::of("", "pods", "default", name).unwrap()
        };
        let revision = &created["metadata"]["resourceVersion"];
        let body = json!({
            "metadata": {"name": name},
            "deleteOptions": {"preconditions": {"resourceVersion": revision}, "dryRun": if dry { vec!["All"] } else { vec![] }},
        });
        let context = Context::internal();
        let evicted = api.registry.create(&context, &eviction, body).await;
        evicted.unwrap();
        let read = api.get("", "pods", "default", name).await;
        let target = read["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "DisruptionTarget");
        let Some(target) = target else {
            assert!(dry, "{read}");
            continue;
        };
        assert!(!dry, "{read}");
        assert_eq!(
            (&target["status"], &target["reason"]),
            (&json!("True"), &json!("EvictionByEvictionAPI"))
        );
        assert!(read["metadata"]["deletionTimestamp"].is_string());
    }
}

#[tokio::test]
async fn a_new_node_was_schedulable_before_it_was_ready() {
    let api = TestApi::start().await;
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let own = json!({"key": "a", "effect": "NoExecute"});
    for (name, spec, expected) in [
        ("n1", json!(null), json!([taint])),
        ("n2", json!({"taints": [own]}), json!([own, taint])),
        ("n3", json!({"taints": [taint]}), json!([taint])),
    ] {
        let node = json!({"metadata": {"name": name}, "spec": spec});
        let created = api.create("", "nodes", "", node).await;
        assert_eq!(created["spec"]["taints"], expected);
    }
}

#[tokio::test]
async fn a_sparse_body_could_not_finalize_a_namespace() {
    let api = TestApi::start().await;
    let namespace = Target::of("", "namespaces", "", "gone").unwrap();
    let context = Context::internal();
    api.create("", "namespaces", "", json!({"metadata": {"name": "gone"}}))
        .await;
    let options = DeleteOptions::default();
    api.registry
        .delete(&context, &namespace, &options)
        .await
        .unwrap();
    let finalize = Target {
        subresource: "finalize".to_owned(),
        ..namespace.clone()
    };
    let sparse = json!({"metadata": {"name": "gone"}, "spec": {"finalizers": []}});
    let finalized = api.registry.update(&context, &finalize, sparse).await;
    finalized.unwrap();
    let found = api.registry.get(&namespace, None).await;
    assert_eq!(found.unwrap_err().code(), 404);
}
