//! Faults that reviews found in authorization.

use super::*;

#[test]
fn an_escaped_comma_made_a_selector_look_like_the_nodes_own() {
    let live = node_live();
    let n1 = User::authenticated("system:node:n1", ["system:nodes"]);
    for (selector, expected) in [
        ("spec.nodeName=n1", true),
        ("spec.nodeName==n1,status.phase=Running", true),
        ("metadata.name!=x\\,spec.nodeName=n1", false),
        ("spec.nodeName!=n1", false),
        ("", false),
    ] {
        let mut question = Attributes::resource(&n1, "list", "", "pods");
        question.field_selector = Some(selector);
        let allowed = live.authorize(&question).is_allowed();
        assert_eq!(allowed, expected, "{selector}");
    }
}

#[test]
fn labels_that_aggregate_a_role_got_around_the_escalation_check() {
    let live = sample();
    let reader = User::authenticated("r", ["readers"]);
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let role = |metadata: Value| json!({"metadata": metadata, "rules": secrets.clone()});
    let check = |resource: &'static str, old: &Value, new: &Value| {
        let write = escalation::Write {
            user: &reader,
            resource,
            namespace: "",
            name: "wide",
            old: Some(old),
            new,
        };
        live.check_escalation(&write).is_ok()
    };
    let old = role(json!({"name": "wide", "finalizers": ["a"], "resourceVersion": "1"}));
    let released = role(json!({"name": "wide", "ownerReferences": []}));
    assert!(
        check("clusterroles", &old, &released),
        "the collector's work"
    );
    let label = "rbac.authorization.k8s.io/aggregate-to-view";
    let aggregated = role(json!({"name": "wide", "labels": {label: "true"}}));
    assert!(!check("clusterroles", &old, &aggregated));
    // A role that has or had an aggregation rule takes full rights, to set and to take away.
    let gathers = json!({"metadata": {"name": "wide"}, "rules": [], "aggregationRule": {"clusterRoleSelectors": []}});
    let gathers_no_more = json!({"metadata": {"name": "wide"}, "rules": []});
    assert!(!check("clusterroles", &gathers, &gathers_no_more));
    let binding = |labels: Value| {
        json!({"metadata": {"name": "wide", "labels": labels},
        "roleRef": {"kind": "ClusterRole", "name": "nowhere"}, "subjects": []})
    };
    let (plain, labelled) = (binding(json!({})), binding(json!({"a": "b"})));
    assert!(check("clusterrolebindings", &plain, &plain));
    assert!(!check("clusterrolebindings", &plain, &labelled));
}

#[test]
fn a_mirror_pod_referred_to_secrets_by_env_and_pull_secret() {
    let n1 = User::authenticated("system:node:n1", ["system:nodes"]);
    let created = |spec: Value| {
        let mut pod = json!({
            "metadata": {"namespace": "a", "annotations": {"kubernetes.io/config.mirror": "hash"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        });
        for (key, value) in spec.as_object().expect("a map") {
            pod["spec"][key] = value.clone();
        }
        restriction::check(&restriction::Write {
            resource: "pods",
            operation: restriction::Operation::Create,
            new: Some(&pod),
            name: "p",
            ..write_of(&n1)
        })
    };
    assert_eq!(created(json!({})), Ok(()));
    let refused = "node \"n1\" can not create pods that reference ";
    for (spec, what) in [
        (
            json!({"containers": [{"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
            "secrets",
        ),
        (
            json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}),
            "secrets",
        ),
        (json!({"imagePullSecrets": [{"name": "s"}]}), "secrets"),
        (
            json!({"containers": [{"envFrom": [{"configMapRef": {"name": "s"}}]}]}),
            "configmaps",
        ),
        (
            json!({"volumes": [{"persistentVolumeClaim": {"claimName": "d"}}]}),
            "persistentvolumeclaims",
        ),
        (json!({"serviceAccountName": "sa"}), "a service account"),
        (
            json!({"volumes": [{"projected": {"sources": []}}]}),
            "API objects",
        ),
    ] {
        let shown = spec.to_string();
        assert_eq!(created(spec), Err(format!("{refused}{what}")), "{shown}");
    }
}
