//! Faults that reviews found in the verbs.

use super::*;
use crate::authn::User;
use crate::authz::live::Live;
use crate::chain::objects::Change;

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
