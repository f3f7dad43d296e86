//! The objects of the loads, as JSON texts: of the size and shape that clusters have, and valid for both servers.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Where the listed, read and patched pods are.
pub(crate) const PODS: &str = "pods";
/// Where creates go.
pub(crate) const CREATED: &str = "created";
/// Large ConfigMaps that are listed, and those of later turns, which are not.
pub(crate) const BIG: &str = "big";
pub(crate) const BIG_SPARE: &str = "big-spare";
/// ConfigMaps that watchers are told of.
pub(crate) const WATCHED: &str = "watched";
pub(crate) const LEASES: &str = "leases";
pub(crate) const NAMESPACES: [&str; 6] = [PODS, CREATED, BIG, BIG_SPARE, WATCHED, LEASES];

/// Pods that are listed.
pub(crate) const POD_COUNT: usize = 10_000;
/// Nodes that they are on, so 100 each, near the usual limit of 110.
pub(crate) const NODE_COUNT: usize = 100;
/// ConfigMaps that are changed below watchers.
pub(crate) const WATCHED_COUNT: usize = 100;
/// Larger than any ConfigMap of a load.
const NOISE_BYTES: usize = 64 << 10;

/// Text that does not compress to nothing, the same in every run.
static NOISE: LazyLock<String> = LazyLock::new(|| {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state: u64 = 1;
    let mut letter = || {
        // Knuth's multiplier; the high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(LETTERS[usize::try_from(state >> 58).unwrap_or_default()])
    };
    (0..NOISE_BYTES).map(|_| letter()).collect()
});

/// A number that was not used before in this run: names of created objects, values that change.
pub(crate) fn serial() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn pod_name(number: usize) -> String {
    format!("web-5d8f9c7b64-{number:05}")
}

pub(crate) fn node_name(number: usize) -> String {
    format!("node-{:03}", number % NODE_COUNT)
}

pub(crate) fn watched_name(number: usize) -> String {
    format!("m{:03}", number % WATCHED_COUNT)
}

pub(crate) fn namespace(name: &str) -> Bytes {
    format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#).into()
}

/// No controller makes it here, and a pod is refused without.
pub(crate) fn service_account() -> Bytes {
    Bytes::from_static(
        br#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}"#,
    )
}

pub(crate) fn config_map(name: &str, data_bytes: usize) -> Bytes {
    let room = NOISE_BYTES - data_bytes.min(NOISE_BYTES);
    let from = name.len().wrapping_mul(97) % (room + 1);
    let data = &NOISE[from..from + data_bytes.min(NOISE_BYTES)];
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"bench"}}}},"data":{{"seq":"none","text":"{data}"}}}}"#
    )
    .into()
}

pub(crate) fn lease(name: &str, version: &str, turn: usize) -> Bytes {
    let (second, micros) = (turn / 1_000_000 % 60, turn % 1_000_000);
    format!(
        r#"{{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{{"name":"{name}","resourceVersion":"{version}"}},"spec":{{"holderIdentity":"{name}","leaseDurationSeconds":40,"renewTime":"2026-01-01T00:00:{second:02}.{micros:06}Z"}}}}"#
    )
    .into()
}

/// A pod as a Deployment makes them: two containers, probes, volumes, about 3 KiB once a server has filled in its part.
/// Without a node it waits for a scheduler that never comes.
pub(crate) fn pod(name: &str, node: Option<&str>) -> Bytes {
    let node = node.map_or_else(String::new, |node| format!(r#""nodeName":"{node}","#));
    POD.replace("$NAME", name).replace("$NODE", &node).into()
}

const POD: &str = concat!(
    r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"$NAME","labels":{"app.kubernetes.io/name":"web","#,
    r#""app.kubernetes.io/instance":"web-prod","pod-template-hash":"5d8f9c7b64","tier":"frontend"},"annotations":{"#,
    r#""prometheus.io/scrape":"true","prometheus.io/port":"9090","#,
    r#""checksum/config":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}},"spec":{$NODE"#,
    r#""serviceAccountName":"default","automountServiceAccountToken":false,"terminationGracePeriodSeconds":30,"#,
    r#""securityContext":{"runAsNonRoot":true,"runAsUser":1000,"fsGroup":1000},"#,
    r#""volumes":[{"name":"config","configMap":{"name":"web"}},{"name":"scratch","emptyDir":{}}],"#,
    r#""containers":[{"name":"web","image":"registry.example.com/team/web:1.27.3","#,
    r#""ports":[{"name":"http","containerPort":8080},{"name":"metrics","containerPort":9090}],"#,
    r#""env":[{"name":"LOG_LEVEL","value":"info"},{"name":"DATABASE_HOST","value":"db.prod.svc.cluster.local"},"#,
    r#"{"name":"POD_NAME","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},"#,
    r#"{"name":"PASSWORD","valueFrom":{"secretKeyRef":{"name":"web","key":"password"}}}],"#,
    r#""resources":{"requests":{"cpu":"100m","memory":"128Mi"},"limits":{"memory":"256Mi"}},"#,
    r#""livenessProbe":{"httpGet":{"path":"/healthz","port":"http"},"periodSeconds":10},"#,
    r#""readinessProbe":{"httpGet":{"path":"/ready","port":"http"},"periodSeconds":5},"#,
    r#""volumeMounts":[{"name":"config","mountPath":"/etc/web"},{"name":"scratch","mountPath":"/tmp"}]},"#,
    r#"{"name":"proxy","image":"registry.example.com/team/proxy:2.1.0","args":["--listen=:15001","--upstream=127.0.0.1:8080"],"#,
    r#""resources":{"requests":{"cpu":"10m","memory":"32Mi"},"limits":{"memory":"64Mi"}}}]}}"#,
);

/// May do what the loads do, and is bound to the user of the loads: so RBAC decides each request, which it would not for
/// system:masters.
pub(crate) const ROLE: &[u8] = br#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"bench"},"rules":[
{"apiGroups":[""],"resources":["pods","configmaps"],"verbs":["get","list","watch","create","update","patch","delete"]},
{"apiGroups":["coordination.k8s.io"],"resources":["leases"],"verbs":["get","list","watch","create","update","patch","delete"]}]}"#;
pub(crate) const BINDING: &[u8] = br#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"bench"},
"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"bench"},
"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"bench"}]}"#;
