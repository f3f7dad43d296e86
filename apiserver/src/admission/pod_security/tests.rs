//! Tables of pods and what a level says to them, and the labels of real namespaces.

use corten_api::meta;
use serde_json::{Value, json};

use super::*;
use crate::registry::{Context, Target};
use crate::testing::TestApi;

/// A pod that restricted lets through.
fn hardened() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    }})
}

/// What is said to a pod with a value put at a pointer.
fn says(level: Level, pointer: &str, value: Value) -> String {
    let mut pod = hardened();
    let (parent, last) = pointer.rsplit_once('/').expect("a slash");
    let mut at = &mut pod;
    for part in parent.split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[part],
        };
    }
    at[last] = value;
    describe(&evaluate(level, view_of_pod(&pod)))
}

#[test]
fn baseline_keeps_pods_off_the_host() {
    let c = "/spec/containers/0";
    let rows = [
        (
            "/spec/hostNetwork",
            json!(true),
            "host namespaces (hostNetwork=true)",
        ),
        (
            "/spec/volumes",
            json!([{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}]),
            "hostPath volumes (volume \"a\")",
        ),
        (
            &format!("{c}/ports"),
            json!([{"containerPort": 1, "hostPort": 80}, {"containerPort": 2}]),
            "hostPort (container \"c\" uses hostPort 80)",
        ),
        (
            &format!("{c}/securityContext/privileged"),
            json!(true),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            &format!("{c}/securityContext/capabilities"),
            json!({"add": ["NET_ADMIN", "CHOWN"]}),
            "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            "/spec/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "/spec/securityContext/sysctls",
            json!([{"name": "kernel.msgmax", "value": "1"}, {"name": "net.ipv4.tcp_syncookies", "value": "1"}]),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            "/spec/securityContext/seLinuxOptions",
            json!({"type": "spc_t", "user": "u"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            &format!("{c}/securityContext/procMount"),
            json!("Unmasked"),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            &format!("{c}/livenessProbe"),
            json!({"httpGet": {"port": 1, "host": "10.0.0.1"}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            "/metadata/annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}),
            "forbidden AppArmor profile (annotation \"container.apparmor.security.beta.kubernetes.io/c=unconfined\")",
        ),
        // Not asked for by baseline.
        ("/spec/securityContext", json!({}), ""),
        (&format!("{c}/securityContext"), json!({}), ""),
    ];
    for (pointer, value, expected) in rows {
        assert_eq!(says(Level::Baseline, pointer, value), expected, "{pointer}");
    }
}

#[test]
fn restricted_asks_for_more() {
    let c = "/spec/containers/0/securityContext";
    let rows = [
        (
            "/spec/hostPID",
            json!(true),
            "host namespaces (hostPID=true)",
        ),
        (
            c,
            json!({}),
            "allowPrivilegeEscalation != false (container \"c\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
             securityContext.capabilities.drop=[\"ALL\"])",
        ),
        (
            "/spec/securityContext",
            json!({}),
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile \
             (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
        (
            "/spec/securityContext/runAsUser",
            json!(0),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            "/spec/containers/0/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "/spec/volumes",
            json!([{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "secret": {}}]),
            "restricted volume types (volume \"a\" uses restricted volume type \"hostPath\")",
        ),
        (
            "/spec/containers/0/securityContext/capabilities",
            json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
            "",
        ),
        ("/spec/containers/0/image", json!("other"), ""),
    ];
    for (pointer, value, expected) in rows {
        assert_eq!(
            says(Level::Restricted, pointer, value),
            expected,
            "{pointer}"
        );
    }
}

#[test]
fn a_label_that_cannot_be_read_counts_as_the_strictest() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "nonsense", "pod-security.kubernetes.io/warn": "baseline",
        "pod-security.kubernetes.io/warn-version": "v1.30"});
    assert_eq!(
        policy(&labels, "enforce"),
        (Level::Restricted, "latest".to_owned())
    );
    assert_eq!(
        policy(&labels, "warn"),
        (Level::Baseline, "v1.30".to_owned())
    );
    assert_eq!(policy(&json!({}), "warn").0, Level::Privileged);
}

#[tokio::test]
async fn pod_security_labels_were_taken_and_ignored() {
    let api = TestApi::start().await;
    let context = Context::internal();
    let namespace = json!({"metadata": {"name": "safe", "labels": {
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}}});
    api.create("", "namespaces", "", namespace).await;
    let account = json!({"metadata": {"name": "default"}});
    api.create("", "serviceaccounts", "safe", account).await;
    let pods = Target::of("", "pods", "safe", "").unwrap();
    let create = async |pod: Value| api.registry.create(&context, &pods, pod).await;
    let mut host = crate::testing::pod("host");
    host["spec"]["hostNetwork"] = true.into();
    let refused = create(host.clone()).await.unwrap_err();
    assert_eq!(refused.code(), 403);
    assert_eq!(
        refused.message,
        "pods \"host\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let warned = create(crate::testing::pod("plain")).await.unwrap().warnings;
    assert!(
        warned.iter().any(|text| text
            .starts_with("would violate PodSecurity \"restricted:latest\": allowPrivilege")),
        "{warned:?}"
    );
    let mut good = hardened();
    meta::set_name(&mut good, "good".to_owned());
    assert!(create(good).await.unwrap().warnings.is_empty());
    // A template is let through with a warning; elsewhere nothing is said.
    let labels = json!({"app": "d"});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": host["spec"]}}});
    for (namespace, warned) in [("safe", true), ("default", false)] {
        let target = Target::of("apps", "deployments", namespace, "").unwrap();
        let answer = api
            .registry
            .create(&context, &target, deployment.clone())
            .await;
        let warnings = answer.unwrap().warnings;
        let found = warnings.iter().any(|text| text.contains("PodSecurity"));
        assert_eq!(found, warned, "{warnings:?}");
    }
    let nonsense = json!({"metadata": {"name": "odd", "labels": {"pod-security.kubernetes.io/enforce": "nonsense"}}});
    let target = Target::of("", "namespaces", "", "").unwrap();
    let refused = api.registry.create(&context, &target, nonsense).await;
    assert_eq!(refused.unwrap_err().code(), 422);
}
