//! Tables of questions over small policies and graphs.

mod faults;

use serde_json::{Value, json};

use super::live::Live;
use super::*;
use crate::authn::User;
use crate::chain::objects::Change;

fn policy_object(kind: &'static str, value: Value) -> (&'static str, Value) {
    (kind, value)
}

fn live(objects: Vec<(&'static str, Value)>) -> std::sync::Arc<Live> {
    let live = Live::new();
    for (resource, object) in objects {
        live.apply(resource, Change::Set(object));
    }
    live
}

fn sample() -> std::sync::Arc<Live> {
    live(vec![
        policy_object(
            "clusterroles",
            json!({"metadata": {"name": "reader"}, "rules": [
                {"apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"], "verbs": ["get", "list"]},
                {"nonResourceURLs": ["/healthz", "/api/*"], "verbs": ["get"]},
            ]}),
        ),
        policy_object(
            "clusterrolebindings",
            json!({"metadata": {"name": "readers"},
            "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "Group", "name": "readers"}]}),
        ),
        policy_object(
            "roles",
            json!({"metadata": {"name": "cm", "namespace": "a"}, "rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["*"]},
            ]}),
        ),
        policy_object(
            "rolebindings",
            json!({"metadata": {"name": "cm", "namespace": "a"},
            "roleRef": {"kind": "Role", "name": "cm"},
            "subjects": [{"kind": "ServiceAccount", "name": "sa"}, {"kind": "User", "name": "alice"}]}),
        ),
        policy_object(
            "rolebindings",
            json!({"metadata": {"name": "lost", "namespace": "a"},
            "roleRef": {"kind": "ClusterRole", "name": "nowhere"},
            "subjects": [{"kind": "User", "name": "bob"}]}),
        ),
    ])
}

fn allowed(live: &Live, user: &User, line: &str) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let decision = match words.as_slice() {
        [verb, path] if path.starts_with('/') => {
            let mut question = Attributes::resource(user, verb, "", "");
            question.is_resource_request = false;
            question.path = path;
            live.authorize(&question)
        }
        [verb, resource, rest @ ..] => {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
            let (namespace, name) = rest
                .first()
                .unwrap_or(&"/")
                .split_once('/')
                .expect("ns/name");
            let mut question = Attributes::resource(user, verb, group, resource)
                .in_namespace(namespace)
                .named(name)
                .with_subresource(subresource);
            question.field_selector = rest.get(1).copied();
            live.authorize(&question)
        }
        _ => panic!("{line}"),
    };
    decision.is_allowed()
}

#[test]
fn rbac_rules() {
    let live = sample();
    let reader = User::authenticated("r", ["readers"]);
    let account = User::authenticated("system:serviceaccount:a:sa", ["system:serviceaccounts"]);
    let alice = User::authenticated("alice", Vec::<String>::new());
    let rows: &[(&User, &str, bool)] = &[
        (&reader, "get pods x/y", true),
        (&reader, "list pods", true),
        (&reader, "watch pods", false),
        (&reader, "get pods/log x/y", true),
        (&reader, "get pods/exec x/y", false),
        (&reader, "get replicationcontrollers/scale x/y", true),
        (&reader, "get pods.metrics x/y", false),
        (&reader, "get /healthz", true),
        (&reader, "get /healthz/x", false),
        (&reader, "get /api/v1", true),
        (&reader, "post /api/v1", false),
        (&account, "update configmaps a/one", true),
        (&account, "update configmaps a/two", false),
        (&account, "list configmaps a/", false),
        (&account, "update configmaps b/one", false),
        (&alice, "get configmaps a/one", true),
        (&alice, "get pods a/one", false),
    ];
    for (user, line, expected) in rows {
        assert_eq!(
            allowed(&live, user, line),
            *expected,
            "{} {line}",
            user.name
        );
    }
}

#[test]
fn masters_pass_and_bindings_end() {
    let live = sample();
    let master = User::authenticated("root", ["system:masters"]);
    assert!(allowed(&live, &master, "delete nodes /x"));
    let reader = User::authenticated("r", ["readers"]);
    assert!(allowed(&live, &reader, "list pods"));
    live.apply(
        "clusterrolebindings",
        Change::Removed {
            namespace: String::new(),
            name: "readers".into(),
        },
    );
    assert!(!allowed(&live, &reader, "list pods"));
    let alice = User::authenticated("alice", Vec::<String>::new());
    assert!(allowed(&live, &alice, "get configmaps a/one"));
    live.apply("rolebindings", Change::Reset(Vec::new()));
    assert!(!allowed(&live, &alice, "get configmaps a/one"));
}

#[test]
fn refusals_read_as_clients_expect() {
    let live = sample();
    let bob = User::authenticated("bob", Vec::<String>::new());
    let status = require(
        &*live,
        &Attributes::resource(&bob, "list", "", "pods").in_namespace("default"),
    )
    .expect_err("no rule");
    assert_eq!(
        status.message,
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(status.code(), 403);
    let question = Attributes::resource(&bob, "get", "apps", "deployments")
        .named("d")
        .with_subresource("scale");
    assert_eq!(
        require(&*live, &question).expect_err("no rule").message,
        "deployments.apps \"d\" is forbidden: User \"bob\" cannot get resource \"deployments/scale\" in API group \
         \"apps\" at the cluster scope"
    );
    let mut question = Attributes::resource(&bob, "get", "", "").in_namespace("a");
    question.is_resource_request = false;
    question.path = "/metrics";
    assert_eq!(
        require(&*live, &question).expect_err("no rule").message,
        "forbidden: User \"bob\" cannot get path \"/metrics\": RBAC: clusterrole.rbac.authorization.k8s.io \
         \"nowhere\" not found"
    );
}

#[test]
fn nobody_grants_what_he_does_not_hold() {
    let live = sample();
    let reader = User::authenticated("r", ["readers"]);
    let role = |resource: &str, verb: &str| json!({"metadata": {"name": "new"}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": [verb]}]});
    let check = |resource: &'static str, old: Option<&Value>, new: &Value| {
        let write = escalation::Write {
            user: &reader,
            resource,
            namespace: "",
            name: "new",
            old,
            new,
        };
        live.check_escalation(&write)
    };
    assert_eq!(check("clusterroles", None, &role("pods", "get")), Ok(()));
    let refused = check("clusterroles", None, &role("secrets", "get")).expect_err("not held");
    assert_eq!(
        refused,
        "user \"r\" (groups=[\"readers\" \"system:authenticated\"]) is attempting to grant RBAC permissions not \
         currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
    let wide = role("secrets", "get");
    assert_eq!(
        check("clusterroles", Some(&wide), &wide),
        Ok(()),
        "an unchanged role grants nothing anew"
    );
    let aggregated =
        json!({"metadata": {"name": "new"}, "aggregationRule": {"clusterRoleSelectors": []}});
    assert!(check("clusterroles", None, &aggregated).is_err());

    let binding = |role: &str| json!({"metadata": {"name": "new"}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": []});
    assert_eq!(
        check("clusterrolebindings", None, &binding("reader")),
        Ok(())
    );
    assert!(check("clusterrolebindings", None, &binding("missing")).is_err());
    live.apply("clusterroles", Change::Set(json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"],
         "resourceNames": ["missing"]}]})));
    assert_eq!(
        check("clusterrolebindings", None, &binding("missing")),
        Ok(())
    );
    assert!(check("clusterrolebindings", None, &binding("other")).is_err());
}

fn node_live() -> std::sync::Arc<Live> {
    live(vec![policy_object(
        "pods",
        json!({
            "metadata": {"namespace": "a", "name": "p"},
            "spec": {
                "nodeName": "n1",
                "serviceAccountName": "sa",
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [{
                    "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "env"}}}],
                    "envFrom": [{"configMapRef": {"name": "all"}}],
                }],
                "volumes": [
                    {"secret": {"secretName": "vol"}},
                    {"projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                    {"persistentVolumeClaim": {"claimName": "data"}},
                ],
            },
        }),
    )])
}

/// Whose question, which, and whether it is allowed.
const NODE_QUESTIONS: &[(&str, &str, bool)] = &[
    ("n1", "get secrets a/pull", true),
    ("n1", "get secrets a/env", true),
    ("n1", "watch secrets a/vol", true),
    ("n1", "list secrets a/", false),
    ("n1", "update secrets a/vol", false),
    ("n1", "get secrets b/vol", false),
    ("n1", "get configmaps a/all", true),
    ("n1", "list configmaps a/kube-root-ca.crt", true),
    ("n1", "get persistentvolumeclaims a/data", true),
    ("n1", "create serviceaccounts/token a/sa", true),
    ("n1", "create serviceaccounts/token a/other", false),
    ("n1", "get pods a/p", true),
    ("n1", "list pods / spec.nodeName=n1", true),
    ("n1", "watch pods / spec.nodeName=n2", false),
    ("n1", "list pods", false),
    ("n1", "patch pods/status a/p", true),
    ("n1", "update pods a/p", false),
    ("n1", "create pods/eviction a/p", true),
    ("n1", "get nodes /n1", true),
    ("n1", "get nodes /n2", true),
    ("n1", "list nodes", true),
    ("n1", "patch nodes/status /n1", true),
    ("n1", "delete nodes /n1", false),
    (
        "n1",
        "update leases.coordination.k8s.io kube-node-lease/n1",
        true,
    ),
    (
        "n1",
        "create leases.coordination.k8s.io kube-node-lease/",
        true,
    ),
    (
        "n1",
        "update leases.coordination.k8s.io kube-node-lease/n2",
        false,
    ),
    (
        "n1",
        "update leases.coordination.k8s.io kube-system/n1",
        false,
    ),
    ("n1", "create events a/", true),
    ("n1", "list services", true),
    ("n1", "create tokenreviews.authentication.k8s.io", true),
    ("n1", "list deployments.apps", false),
    ("n2", "get secrets a/vol", false),
    ("n2", "get pods a/p", false),
    ("fake", "get secrets a/vol", false),
];

#[test]
fn node_authorizer() {
    let live = node_live();
    let n1 = User::authenticated("system:node:n1", ["system:nodes"]);
    let n2 = User::authenticated("system:node:n2", ["system:nodes"]);
    let fake = User::authenticated("system:node:n1", Vec::<String>::new());
    for (name, line, expected) in NODE_QUESTIONS {
        let user = [("n1", &n1), ("n2", &n2), ("fake", &fake)]
            .iter()
            .find(|(known, _)| known == name)
            .expect("a known user")
            .1;
        assert_eq!(
            allowed(&live, user, line),
            *expected,
            "{} {line}",
            user.name
        );
    }
    live.apply(
        "pods",
        Change::Removed {
            namespace: "a".into(),
            name: "p".into(),
        },
    );
    assert!(
        !allowed(&live, &n1, "get secrets a/vol"),
        "the edge goes with the pod"
    );
}

fn write_of(user: &User) -> restriction::Write<'_> {
    restriction::Write {
        user,
        operation: restriction::Operation::Update,
        group: "",
        resource: "nodes",
        subresource: "",
        name: "n1",
        old: None,
        new: None,
    }
}

#[test]
fn agents_change_their_own_node_within_limits() {
    let n1 = User::authenticated("system:node:n1", ["system:nodes"]);
    let base = write_of(&n1);
    let old = json!({"metadata": {"name": "n1", "labels": {"a": "b"}}, "spec": {}});
    let labelled =
        |key: &str| json!({"metadata": {"name": "n1", "labels": {"a": "b", key: "x"}}, "spec": {}});
    let update = |new: &Value| {
        let write = restriction::Write {
            old: Some(&old),
            new: Some(new),
            ..base
        };
        restriction::check(&write)
    };
    assert_eq!(update(&labelled("example.com/a")), Ok(()));
    assert_eq!(update(&labelled("topology.kubernetes.io/zone")), Ok(()));
    let refused = "node \"n1\" is not allowed to modify labels: node-restriction.kubernetes.io/a";
    assert_eq!(
        update(&labelled("node-restriction.kubernetes.io/a")),
        Err(refused.to_owned())
    );
    assert!(update(&labelled("node-role.kubernetes.io/control-plane")).is_err());
    assert!(update(&json!({"metadata": old["metadata"], "spec": {"taints": []}})).is_err());
    assert!(restriction::check(&restriction::Write { name: "n2", ..base }).is_err());
    let admin = User::authenticated("admin", ["system:masters"]);
    assert!(
        restriction::check(&restriction::Write {
            user: &admin,
            ..base
        })
        .is_ok()
    );
}

#[test]
fn agents_change_their_own_pods_only() {
    let n1 = User::authenticated("system:node:n1", ["system:nodes"]);
    let pod = restriction::Write {
        resource: "pods",
        name: "p",
        ..write_of(&n1)
    };
    let status = |node: &str| {
        let object = json!({"spec": {"nodeName": node}});
        let (old, new) = (Some(&object), Some(&object));
        restriction::check(&restriction::Write {
            subresource: "status",
            old,
            new,
            ..pod
        })
        .is_ok()
    };
    assert!(status("n1") && !status("n2"));
    let plain = json!({"spec": {"nodeName": "n1"}});
    let operation = restriction::Operation::Create;
    let created = restriction::check(&restriction::Write {
        operation,
        new: Some(&plain),
        ..pod
    });
    assert!(created.is_err(), "not a mirror pod");
}

#[test]
fn while_rules_are_loading_nobody_is_refused_for_good() {
    /// Refuses everybody.
    struct Loading(bool);
    impl Authorizer for Loading {
        fn authorize(&self, _: &Attributes<'_>) -> Decision {
            Decision::NoOpinion(String::new())
        }
        fn knows_all(&self) -> bool {
            !self.0
        }
    }
    let user = User::authenticated("system:kube-scheduler", Vec::<String>::new());
    let question = Attributes::resource(&user, "watch", "", "pods");
    let later = require(&Loading(true), &question).expect_err("not yet");
    assert_eq!((later.code(), later.retry_after_seconds()), (503, Some(1)));
    let never = require(&Loading(false), &question).expect_err("not ever");
    assert_eq!(never.code(), 403);
}
