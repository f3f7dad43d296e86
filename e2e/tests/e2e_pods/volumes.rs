//! Volumes of every kind that is built, seen from inside: sharing, modes, single files, and content that follows its source.

use std::time::Duration;

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;

use crate::{SOON, create, delete, has};

/// The agent looks at sources every 30 s.
const REFRESH: Duration = Duration::from_secs(90);

const MANIFEST: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: files}
data: {a.txt: alpha, b.txt: beta}
binaryData: {raw: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {key: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: holder, labels: {stage: one}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: writer
    image: registry.test/web:1
    command: [sh, -c, 'echo from-writer > /shared/note; sleep 1000']
    volumeMounts:
    - {name: scratch, mountPath: /shared}
    - {name: memory, mountPath: /memory}
    - {name: files, mountPath: /files}
    - {name: files, mountPath: /etc/single.txt, subPath: a.txt}
    - {name: hidden, mountPath: /hidden, readOnly: true}
    - {name: some, mountPath: /some}
    - {name: down, mountPath: /down}
    - {name: all, mountPath: /all}
  - name: reader
    image: registry.test/web:1
    command: [sleep, '1000']
    volumeMounts:
    - {name: scratch, mountPath: /elsewhere, readOnly: true}
    - {name: scratch, mountPath: /deep, subPathExpr: $(WHERE)/below}
    env: [{name: WHERE, value: dir}]
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: files, configMap: {name: files}}
  - {name: hidden, secret: {secretName: hidden, defaultMode: 256}}
  - {name: some, configMap: {name: files, items: [{key: b.txt, path: sub/renamed, mode: 292}]}}
  - name: down
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: limit, resourceFieldRef: {containerName: writer, resource: limits.memory, divisor: 1Mi}}
  - name: all
    projected:
      sources:
      - {configMap: {name: files, items: [{key: a.txt, path: from-map}]}}
      - {secret: {name: hidden, items: [{key: key, path: from-secret}]}}
      - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
      - {serviceAccountToken: {path: token, audience: someone-else, expirationSeconds: 600}}
---
apiVersion: v1
kind: Pod
metadata: {name: needs}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: 'registry.test/web:1', volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, configMap: {name: later}}]
";

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    create(cluster, MANIFEST)?;
    cluster.ready(&["holder"], SOON)?;
    inside(cluster)?;
    propagation(cluster)?;
    missing(cluster)?;
    refreshed(cluster)?;
    delete(cluster, &["holder", "needs"])
}

fn inside(cluster: &Cluster) -> Result<()> {
    step(
        "emptyDir shared and in memory, configMap, secret, items and modes, subPath, downwardAPI, projected",
    );
    let reader =
        |line: &str| cluster.kubectl(&["exec", "holder", "-c", "reader", "--", "sh", "-c", line]);
    let writer = |line: &str| cluster.shell("holder", line);
    ensure!(reader("cat /elsewhere/note")? == "from-writer\n", "shared");
    has(
        &reader("touch /elsewhere/x 2>&1; true")?,
        &["Read-only file system"],
    )?;
    reader("touch /deep/made")?;
    ensure!(writer("ls /shared/dir/below")? == "made\n", "subPathExpr");
    has(
        &writer("grep ' /memory ' /proc/mounts")?,
        &["tmpfs", "size=1024k"],
    )?;
    ensure!(
        writer("cat /files/a.txt /etc/single.txt")? == "alphaalpha",
        "files and one file"
    );
    ensure!(
        writer("od -An -tx1 /files/raw")?.trim() == "00 01 02",
        "binary data"
    );
    has(&writer("grep ' /hidden ' /proc/mounts")?, &["tmpfs", "ro"])?;
    ensure!(writer("cat /hidden/key")? == "s3cret", "secret");
    ensure!(writer("stat -L -c %a /hidden/key")? == "400\n", "its mode");
    ensure!(
        writer("cat /some/sub/renamed; stat -L -c %a /some/sub/renamed; ls /some")?
            == "beta444\nsub\n",
        "items: {}",
        writer("ls -lR /some")?
    );
    has(&writer("cat /down/labels")?, &["stage=\"one\""])?;
    ensure!(
        writer("cat /down/limit")?.parse::<u64>()? > 64,
        "what the node can give"
    );
    ensure!(
        writer("cat /all/from-map /all/from-secret /all/name")? == "alphas3cretholder",
        "projected"
    );
    let claims = writer("cut -d. -f2 /all/token | tr '_-' '/+' | base64 -d 2>/dev/null; true")?;
    has(
        &claims,
        &["someone-else", "system:serviceaccount:default:default"],
    )
}

/// A pod that has a folder of the host at /v.
fn mounts(name: &str, root: &str, mode: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: registry.test/web:1
    command: [sleep, '1000']
    securityContext: {{privileged: true}}
    volumeMounts: [{{name: v, mountPath: /v, mountPropagation: {mode}}}]
  volumes: [{{name: v, hostPath: {{path: {root}}}}}]
"
    )
}

/// What is mounted on one side shows on the other, as far as the pod asked for it.
fn propagation(cluster: &Cluster) -> Result<()> {
    step("mount propagation: from the host, to the host, and neither");
    let root = cluster.dir().join("propagate").display().to_string();
    // The host's part: a directory that is a shared mount, as under systemd everything is.
    let sh = |line: &str| cluster.on("h1", &["sh", "-ec", line]);
    sh(&format!(
        "mkdir -p {root}; mount --bind {root} {root}; mount --make-shared {root}; \
         mkdir -p {root}/early {root}/late {root}/back"
    ))?;
    let done = travels(cluster, &root);
    let _ = sh(&format!(
        "umount -l {root}/back; umount -l {root}/late; true"
    ));
    sh(&format!("umount -l {root}"))?;
    done
}

fn travels(cluster: &Cluster, root: &str) -> Result<()> {
    let sh = |line: &str| cluster.on("h1", &["sh", "-ec", line]);
    let pods = [
        mounts("follows", root, "HostToContainer"),
        mounts("leads", root, "Bidirectional"),
        mounts("alone", root, "None"),
    ];
    create(cluster, &pods.concat())?;
    cluster.ready(&["follows", "leads", "alone"], SOON)?;
    sh(&format!(
        "mount -t tmpfs none {root}/late; touch {root}/late/from-host"
    ))?;
    let late = |pod: &str| cluster.exec(pod, &["ls", "/v/late"]);
    ensure!(late("follows")? == "from-host\n", "from the host");
    ensure!(late("leads")? == "from-host\n", "from the host, both ways");
    ensure!(late("alone")?.is_empty(), "kept apart");
    let tmpfs = |dir: &str, file: &str| format!("mount -t tmpfs none {dir} && touch {dir}/{file}");
    cluster.shell("leads", &tmpfs("/v/back", "from-pod"))?;
    let back = |pod: &str| cluster.exec(pod, &["ls", "/v/back"]);
    ensure!(
        sh(&format!("ls {root}/back"))? == "from-pod\n",
        "to the host"
    );
    ensure!(back("follows")? == "from-pod\n", "and to other pods");
    ensure!(back("alone")?.is_empty(), "but not to all");
    cluster.shell("follows", &tmpfs("/v/early", "mine"))?;
    ensure!(sh(&format!("ls {root}/early"))?.is_empty(), "one way only");
    cluster.shell("leads", "umount /v/back")?;
    delete(cluster, &["follows", "leads", "alone"])?;
    for pod in ["pod/follows", "pod/leads", "pod/alone"] {
        cluster.kubectl(&["wait", "--for=delete", pod, "--timeout=60s"])?;
    }
    Ok(())
}

fn missing(cluster: &Cluster) -> Result<()> {
    step("a pod waits for its ConfigMap, and says so");
    until("the event", SOON, || {
        let text = cluster
            .kubectl(&["describe", "pod", "needs"])
            .map_err(|e| e.to_string())?;
        if text.contains("FailedMount") && text.contains("configmap \"later\" not found") {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    cluster.kubectl(&["create", "configmap", "later", "--from-literal=x=y"])?;
    cluster.ready(&["needs"], SOON)?;
    ensure!(
        cluster.exec("needs", &["cat", "/v/x"])? == "y",
        "there it is"
    );
    Ok(())
}

fn refreshed(cluster: &Cluster) -> Result<()> {
    step("volumes follow ConfigMaps and labels; a subPath does not");
    cluster.kubectl(&["label", "pod", "holder", "stage=two", "--overwrite"])?;
    let patch = r#"{"data": {"a.txt": "changed"}}"#;
    cluster.kubectl(&["patch", "configmap", "files", "-p", patch])?;
    until("the new content", REFRESH, || {
        let line = "cat /files/a.txt /all/from-map /down/labels";
        let text = cluster.shell("holder", line).map_err(|e| e.to_string())?;
        if text.starts_with("changedchanged") && text.contains("stage=\"two\"") {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    ensure!(
        cluster.shell("holder", "cat /etc/single.txt")? == "alpha",
        "a subPath stays"
    );
    Ok(())
}
