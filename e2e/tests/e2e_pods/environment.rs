//! What a container finds around it: variables of every source, the service account's token and what it may do, names,
//! namespaces that are shared.

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;
use serde_json::Value;

use crate::{SOON, create, delete, has, outcome, until_container};

const MANIFEST: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: options}
data: {colour: green, size: '7', not-a-shell-name: odd}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata:
  name: env
  labels: {app: env, tier: test}
  annotations: {note: hello}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: registry.test/web:1
    command: [sh, -c]
    args: ['tr \"\\0\" \"\\n\" < /proc/1/environ | sort; echo ''expanded: $(GREETING) $$(GREETING) $(NOBODY)''']
    resources: {requests: {cpu: 125m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}
    envFrom:
    - {configMapRef: {name: options}}
    - {prefix: SECRET_, secretRef: {name: keys}}
    - {configMapRef: {name: absent, optional: true}}
    env:
    - {name: GREETING, value: 'hello $(colour)'}
    - {name: FROM_KEY, valueFrom: {configMapKeyRef: {name: options, key: size}}}
    - {name: FROM_SECRET, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: OPTIONAL, valueFrom: {secretKeyRef: {name: keys, key: absent, optional: true}}}
    - {name: MY_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: MY_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: MY_LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}
    - {name: MY_NOTE, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['note']\"}}}
    - {name: MY_NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MY_ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: MY_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: MY_HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: MY_CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MY_REQUEST, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: missing-key}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: registry.test/web:1
    env: [{name: X, valueFrom: {configMapKeyRef: {name: options, key: absent}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec:
  terminationGracePeriodSeconds: 1
  hostAliases: [{ip: 192.0.2.7, hostnames: [alias.test]}]
  containers: [{name: c, image: 'registry.test/tools:1'}]
---
apiVersion: v1
kind: Pod
metadata: {name: no-token}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
  - {name: c, image: 'registry.test/web:1', command: [sh, -c, 'ls /var/run/secrets 2>&1; true']}
---
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: one, image: 'registry.test/web:1', command: [sleep, '7001']}
  - {name: two, image: 'registry.test/web:1', command: [sleep, '7002']}
---
apiVersion: v1
kind: Pod
metadata: {name: hostnet}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'registry.test/web:1', command: [sleep, '1000']}]
";

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    create(cluster, MANIFEST)?;
    variables(cluster)?;
    token(cluster)?;
    shared(cluster)?;
    delete(
        cluster,
        &[
            "env",
            "missing-key",
            "caller",
            "no-token",
            "shared",
            "hostnet",
        ],
    )
}

fn variables(cluster: &Cluster) -> Result<()> {
    step("variables from ConfigMaps, Secrets, fields and resources; expansion; a missing key");
    let log = outcome(cluster, "env")?;
    let ip = cluster.field("pod", "env", "/status/podIP")?;
    let host = cluster.lab().plan().hosts[0].ip;
    for line in [
        "colour=green",
        "size=7",
        "not-a-shell-name=odd",
        "SECRET_password=hunter2",
        "GREETING=hello green",
        "FROM_KEY=7",
        "FROM_SECRET=hunter2",
        "MY_NAME=env",
        "MY_NAMESPACE=default",
        "MY_LABEL=test",
        "MY_NOTE=hello",
        "MY_NODE=h1",
        "MY_ACCOUNT=default",
        &format!("MY_IP={ip}"),
        &format!("MY_HOST={host}"),
        "MY_CPU=500",
        "MY_REQUEST=16",
        "HOSTNAME=env",
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "expanded: hello green $(GREETING) $(NOBODY)",
    ] {
        ensure!(
            log.lines().any(|known| known == line),
            "{line:?} is missing in:\n{log}"
        );
    }
    ensure!(
        !log.contains("OPTIONAL="),
        "an optional key that is absent sets nothing"
    );
    until_container(cluster, "missing-key", "refused", |status| {
        let waiting = &status["state"]["waiting"];
        waiting["reason"] == "CreateContainerConfigError"
            && waiting["message"].as_str().is_some_and(|m| {
                m.contains("couldn't find key absent in ConfigMap default/options")
            })
    })
    .map(drop)
}

/// A request to the API with the pod's own credentials: status code and body.
fn call(cluster: &Cluster, path: &str, body: &str) -> Result<(String, String)> {
    let line = format!(
        "cd /var/run/secrets/kubernetes.io/serviceaccount && \
         curl -sm5 -w '\\n%{{http_code}}' --cacert ca.crt -H \"Authorization: Bearer $(cat token)\" \
         -H 'Content-Type: application/json' {body} https://kubernetes.default.svc{path}"
    );
    let text = cluster.shell("caller", &line)?;
    let (body, code) = text.rsplit_once('\n').unwrap_or(("", &text));
    Ok((code.to_owned(), body.to_owned()))
}

fn token(cluster: &Cluster) -> Result<()> {
    step("the projected token authenticates against the API from inside the pod");
    cluster.ready(&["caller"], SOON)?;
    let namespace = cluster.exec(
        "caller",
        &[
            "cat",
            "/var/run/secrets/kubernetes.io/serviceaccount/namespace",
        ],
    )?;
    ensure!(namespace == "default", "{namespace:?}");
    let review = r#"-d '{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'"#;
    let (code, body) = call(
        cluster,
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        review,
    )?;
    let info = serde_json::from_str::<Value>(&body)?["status"]["userInfo"].clone();
    ensure!(
        code == "201" && info["username"] == "system:serviceaccount:default:default",
        "{code} {body}"
    );
    ensure!(
        info["extra"]["authentication.kubernetes.io/pod-name"][0] == "caller",
        "the token is bound to the pod: {info}"
    );
    let pods = "/api/v1/namespaces/default/pods";
    let (code, body) = call(cluster, pods, "")?;
    ensure!(code == "403", "{code} {body}");
    has(
        &body,
        &[
            "system:serviceaccount:default:default",
            "cannot list resource",
        ],
    )?;
    cluster.kubectl(&[
        "create",
        "role",
        "looker",
        "--verb=get,list",
        "--resource=pods",
    ])?;
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "looker",
        "--role=looker",
        "--serviceaccount=default:default",
    ])?;
    let found = until("the role counts", SOON, || {
        let (code, body) = call(cluster, pods, "").map_err(|e| e.to_string())?;
        if code == "200" { Ok(body) } else { Err(code) }
    })?;
    has(&found, &["PodList", "\"caller\""])?;
    let hosts = cluster.exec("caller", &["cat", "/etc/hosts"])?;
    has(&hosts, &["192.0.2.7", "alias.test", "caller"])?;
    let resolver = cluster.exec("caller", &["cat", "/etc/resolv.conf"])?;
    has(
        &resolver,
        &[
            "nameserver 10.96.0.10",
            "default.svc.cluster.local",
            "ndots:5",
        ],
    )?;
    ensure!(
        outcome(cluster, "no-token")?.contains("No such file"),
        "no token where none is wanted"
    );
    Ok(())
}

fn shared(cluster: &Cluster) -> Result<()> {
    step("a shared process namespace; the host's network");
    cluster.ready(&["shared", "hostnet"], SOON)?;
    let seen = cluster.exec("shared", &["ps"])?;
    has(&seen, &["sleep 7001", "sleep 7002"])?;
    let host = cluster.lab().plan().hosts[0].ip.to_string();
    ensure!(
        cluster.field("pod", "hostnet", "/status/podIP")? == host,
        "its address is the host's"
    );
    has(
        &cluster.exec("hostnet", &["ip", "address"])?,
        &[&host, "u0"],
    )
}
