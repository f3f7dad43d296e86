//! Default objects: created once, mended when damaged, left alone when told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::authn::User;
use crate::authz::live::Live;
use crate::authz::{Attributes, Authorizer};
use crate::chain::objects::Change;
use crate::chain::objects::fake::Fake;

const ROLES: Resource = Resource::rbac("clusterroles");
const BINDINGS: Resource = Resource::rbac("clusterrolebindings");

async fn pass(objects: &Fake) -> Result<(), Status> {
    reconcile(objects, "10.96.0.0/24".parse().unwrap()).await
}

#[tokio::test]
async fn a_second_pass_writes_nothing() {
    let objects = Fake::with(&[]);
    pass(&objects).await.expect("first");
    let writes = objects.writes();
    assert!(writes > 30);
    pass(&objects).await.expect("second");
    assert_eq!(objects.writes(), writes);
}

#[tokio::test]
async fn what_is_missing_comes_back_and_what_was_added_stays() {
    let objects = Fake::with(&[]);
    pass(&objects).await.expect("first");
    let mut role = objects
        .get(ROLES, "", "system:basic-user")
        .await
        .expect("read")
        .expect("there");
    role["rules"] = json!([{"verbs": ["own"], "apiGroups": ["x"], "resources": ["y"]}]);
    objects.put(ROLES, role);
    let mut kept = objects
        .get(ROLES, "", "system:discovery")
        .await
        .expect("read")
        .expect("there");
    kept["rules"] = json!([]);
    kept["metadata"]["annotations"][AUTOUPDATE] = "false".into();
    objects.put(ROLES, kept);
    let mut binding = objects
        .get(BINDINGS, "", "cluster-admin")
        .await
        .expect("read")
        .expect("there");
    binding["subjects"] = json!([]);
    objects.put(BINDINGS, binding);

    pass(&objects).await.expect("second");
    let role = objects
        .get(ROLES, "", "system:basic-user")
        .await
        .expect("read")
        .expect("there");
    let rules = rules_of(&role);
    assert_eq!(rules.len(), 3, "the own rule and the two default ones");
    let kept = objects
        .get(ROLES, "", "system:discovery")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(kept["rules"], json!([]));
    let binding = objects
        .get(BINDINGS, "", "cluster-admin")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(binding["subjects"][0]["name"], "system:masters");
}

#[tokio::test]
async fn levels_come_back_unless_they_are_the_operators() {
    let objects = Fake::with(&[]);
    pass(&objects).await.expect("first");
    let resource = Resource {
        group: flowcontrol::GROUP,
        name: "prioritylevelconfigurations",
    };
    let shares = "/spec/limited/nominalConcurrencyShares";
    let read = async |name: &str| {
        let found = objects.get(resource, "", name).await.expect("read");
        found.expect("there")
    };
    for (name, update) in [
        ("system", "true"),
        ("node-high", "false"),
        ("catch-all", "false"),
    ] {
        let mut level = read(name).await;
        *level.pointer_mut(shares).expect("shares") = json!(1);
        level["metadata"]["annotations"][mandatory::AUTOUPDATE] = update.into();
        objects.put(resource, level);
    }
    pass(&objects).await.expect("second");
    for (name, expected) in [("system", 30), ("node-high", 1), ("catch-all", 5)] {
        assert_eq!(
            read(name).await.pointer(shares),
            Some(&json!(expected)),
            "{name}"
        );
    }
}

/// The default roles, aggregated, as an authorizer.
async fn defaults() -> Arc<Live> {
    let objects = Fake::with(&[]);
    pass(&objects).await.expect("reconciled");
    let name = |role: &Value| {
        role["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    let mut roles: BTreeMap<String, Value> = objects
        .all(ROLES)
        .into_iter()
        .map(|role| (name(&role), role))
        .collect();
    // Two levels: view flows into edit, edit into admin.
    for round in 0.. {
        let stale = aggregate::stale(&roles);
        if stale.is_empty() {
            break;
        }
        assert!(round < 5, "aggregation must settle");
        roles.extend(stale.into_iter().map(|role| (name(&role), role)));
    }
    let live = Live::new();
    live.apply("clusterroles", Change::Reset(roles.into_values().collect()));
    live.apply("clusterrolebindings", Change::Reset(objects.all(BINDINGS)));
    live
}

/// User, verb, group, resource, subresource, whether it is allowed in the namespace `ns`.
type Right = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
);

const DEFAULT_RIGHTS: &[Right] = &[
    ("vera", "list", "", "pods", "", true),
    ("vera", "get", "", "secrets", "", false),
    ("vera", "create", "", "pods", "", false),
    ("ed", "list", "", "pods", "", true),
    ("ed", "create", "", "pods", "exec", true),
    ("ed", "get", "", "secrets", "", true),
    (
        "ed",
        "create",
        "rbac.authorization.k8s.io",
        "roles",
        "",
        false,
    ),
    (
        "ada",
        "create",
        "rbac.authorization.k8s.io",
        "roles",
        "",
        true,
    ),
    ("ada", "update", "apps", "deployments", "scale", true),
    ("nobody", "list", "", "pods", "", false),
    (
        "nobody",
        "create",
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "",
        true,
    ),
    (
        "system:kube-scheduler",
        "create",
        "",
        "pods",
        "binding",
        true,
    ),
    (
        "system:kube-scheduler",
        "update",
        "coordination.k8s.io",
        "leases",
        "",
        true,
    ),
    ("system:kube-scheduler", "get", "", "secrets", "", false),
    (
        "system:kube-controller-manager",
        "create",
        "apps",
        "replicasets",
        "",
        true,
    ),
    (
        "system:kube-controller-manager",
        "delete",
        "",
        "namespaces",
        "",
        true,
    ),
    (
        "system:kube-controller-manager",
        "create",
        "rbac.authorization.k8s.io",
        "clusterroles",
        "",
        false,
    ),
    (
        "system:kube-proxy",
        "watch",
        "discovery.k8s.io",
        "endpointslices",
        "",
        true,
    ),
    ("system:kube-proxy", "watch", "", "pods", "", true),
    ("system:kube-proxy", "get", "", "secrets", "", false),
];

#[tokio::test]
async fn what_the_default_roles_allow() {
    let live = defaults().await;
    for (user, role) in [("vera", "view"), ("ed", "edit"), ("ada", "admin")] {
        live.apply(
            "rolebindings",
            Change::Set(json!({
                "metadata": {"namespace": "ns", "name": role},
                "roleRef": {"kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": user}],
            })),
        );
    }
    let user = |name: &str| User::authenticated(name, Vec::<String>::new());
    for &(name, verb, group, resource, subresource, expected) in DEFAULT_RIGHTS {
        let user = user(name);
        let question = Attributes::resource(&user, verb, group, resource)
            .in_namespace("ns")
            .with_subresource(subresource);
        assert_eq!(
            live.authorize(&question).is_allowed(),
            expected,
            "{name} {verb} {resource}/{subresource}"
        );
    }
    let anonymous = User::anonymous();
    for (path, expected) in [
        ("/version", true),
        ("/livez", true),
        ("/api", false),
        ("/metrics", false),
    ] {
        let mut question = Attributes::resource(&anonymous, "get", "", "");
        question.is_resource_request = false;
        question.path = path;
        assert_eq!(live.authorize(&question).is_allowed(), expected, "{path}");
    }
}
