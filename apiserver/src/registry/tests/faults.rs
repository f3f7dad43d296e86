//! Faults that reviews found in the verbs.

use super::*;
use crate::authn::User;
use crate::authz::live::Live;
use crate::chain::objects::Change;
use crate::storage::{Committed, Txn};

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
