//! Images from other places than an open registry: one that asks for a password, mirrors that are away, and content that is
//! not what its digest says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::image::web;
use corten_e2e::registry::{Registry, USER};
use corten_e2e::wait::until;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const PRIVATE: &str = "private.test";

#[test]
fn images_come_from_private_registries_and_mirrors_and_only_whole() {
    let cluster = Cluster::start("images", 1, 1).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {more}
  containers: [{{name: c, image: '{image}', imagePullPolicy: Always}}]
"
    )
}

fn run(cluster: &Cluster) -> Result<()> {
    cluster.push(&web("1"), "web:1")?;
    let ip = cluster.lab().plan().beside().to_string();
    let beside = |program: &str| cluster.lab().beside(program);
    let private = Registry::start(cluster.dir(), (&ip, 5001), true, beside)?;
    private.push(&web("secret"), "team/web:1", cluster.dir(), beside)?;
    cluster.lab().add_registry(PRIVATE, &private.url())?;
    private_registry(cluster)?;
    mirrors(cluster, &ip)?;
    by_digest(cluster)?;
    damaged(cluster)
}

/// Waits until a pod cannot pull, and returns why.
fn refused(cluster: &Cluster, pod: &str) -> Result<String> {
    until(&format!("{pod} backs off"), SOON, || {
        let status =
            cluster.get("pod", pod).map_err(|e| e.to_string())?["status"]["containerStatuses"][0]
                .clone();
        let waiting = &status["state"]["waiting"];
        if waiting["reason"] == "ImagePullBackOff" {
            Ok(waiting["message"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(status.to_string())
        }
    })
}

fn private_registry(cluster: &Cluster) -> Result<()> {
    step(
        "a private registry: without credentials, with wrong ones, with imagePullSecrets, through the service account",
    );
    let image = format!("{PRIVATE}/team/web:1");
    cluster.apply(&pod("nobody", &image, ""))?;
    let why = refused(cluster, "nobody")?;
    ensure!(why.contains("pull access denied"), "{why}");
    let events = cluster.kubectl(&["describe", "pod", "nobody"])?;
    ensure!(
        events.contains("Failed to pull image") && events.contains("Error: ImagePullBackOff"),
        "{events}"
    );
    let secret = |name: &str, password: &str| {
        cluster.kubectl(&[
            "create",
            "secret",
            "docker-registry",
            name,
            &format!("--docker-server={PRIVATE}"),
            &format!("--docker-username={}", USER.0),
            &format!("--docker-password={password}"),
        ])
    };
    secret("wrong", "guess")?;
    secret("right", USER.1)?;
    cluster.apply(&pod("wrong", &image, "imagePullSecrets: [{name: wrong}]"))?;
    let why = refused(cluster, "wrong")?;
    ensure!(why.contains("refused") || why.contains("denied"), "{why}");
    ensure!(!why.contains("guess"), "passwords are not told: {why}");
    // The wrong one is tried first; a missing one is passed over.
    let secrets = "imagePullSecrets: [{name: absent}, {name: wrong}, {name: right}]";
    cluster.apply(&pod("right", &image, secrets))?;
    cluster.ready(&["right"], SOON)?;
    let patch = r#"{"imagePullSecrets": [{"name": "right"}]}"#;
    cluster.kubectl(&["create", "serviceaccount", "puller"])?;
    cluster.kubectl(&["patch", "serviceaccount", "puller", "-p", patch])?;
    cluster.apply(&pod("account", &image, "serviceAccountName: puller"))?;
    cluster.ready(&["account"], SOON)?;
    let id = cluster.field("pod", "right", "/status/containerStatuses/0/imageID")?;
    ensure!(
        id.starts_with(&format!("{PRIVATE}/team/web@sha256:")),
        "the registry's own name, not the mirror's: {id}"
    );
    cluster
        .kubectl(&[
            "delete",
            "pod",
            "nobody",
            "wrong",
            "right",
            "account",
            "--wait=false",
        ])
        .map(drop)
}

fn mirrors(cluster: &Cluster, ip: &str) -> Result<()> {
    step("mirrors are asked in turn, and the registry itself when they are away");
    let (open, dead) = (cluster.registry().url(), format!("http://{ip}:9"));
    cluster
        .lab()
        .add_mirrors("one.test", &dead, &[&dead, &open])?;
    cluster.lab().add_mirrors("two.test", &open, &[&dead])?;
    cluster.lab().add_mirrors("none.test", &dead, &[&dead])?;
    cluster.apply(&pod("one", "one.test/web:1", ""))?;
    cluster.apply(&pod("two", "two.test/web:1", ""))?;
    cluster.apply(&pod("none", "none.test/web:1", ""))?;
    cluster.ready(&["one", "two"], SOON)?;
    until("the cause is told", SOON, || {
        let text = cluster
            .kubectl(&["describe", "pod", "none"])
            .map_err(|e| e.to_string())?;
        if text.contains("onnection refused") {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    cluster
        .kubectl(&["delete", "pod", "one", "two", "none", "--wait=false"])
        .map(drop)
}

/// The manifest of an image, as the registry gives it, and its digest.
fn manifest(cluster: &Cluster, tag: &str) -> Result<(Value, String)> {
    let reference = format!(
        "docker://{}/{tag}",
        cluster.registry().url().trim_start_matches("http://")
    );
    let inspect = |more: &[&str]| -> Result<String> {
        let out = cluster
            .lab()
            .beside("skopeo")
            .args(["inspect", "--tls-verify=false"])
            .args(more)
            .arg(&reference)
            .output()?;
        ensure!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let manifest = serde_json::from_str(&inspect(&["--raw"])?)?;
    Ok((manifest, inspect(&["--format", "{{.Digest}}"])?))
}

fn by_digest(cluster: &Cluster) -> Result<()> {
    step("an image by its digest; one that does not exist");
    let (_, digest) = manifest(cluster, "web:1")?;
    let image = format!("registry.test/web@{digest}");
    cluster.apply(&pod("digest", &image, ""))?;
    cluster.ready(&["digest"], SOON)?;
    ensure!(
        cluster.field("pod", "digest", "/status/containerStatuses/0/imageID")? == image,
        "its id is that digest"
    );
    let other = format!("registry.test/web@sha256:{}", "0".repeat(64));
    cluster.apply(&pod("nodigest", &other, ""))?;
    let why = refused(cluster, "nodigest")?;
    ensure!(why.contains("not found"), "{why}");
    cluster
        .kubectl(&["delete", "pod", "digest", "nodigest", "--wait=false"])
        .map(drop)
}

fn damaged(cluster: &Cluster) -> Result<()> {
    step("a layer, a configuration and a manifest that are not what their digest says are refused");
    for (what, tag) in [
        ("layer", "bad:layer"),
        ("config", "bad:config"),
        ("manifest", "bad:manifest"),
    ] {
        // Content of its own, or the layer would be on the node already.
        let mut recipe = web("1");
        recipe.files.push(("etc/mark".to_owned(), what.to_owned()));
        cluster.push(&recipe, tag)?;
        let (manifest, digest) = manifest(cluster, tag)?;
        let blob = match what {
            "layer" => manifest["layers"][0]["digest"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            "config" => manifest["config"]["digest"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            _ => digest.clone(),
        };
        let path = cluster.registry().blob(&blob);
        let mut bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        if what == "layer" {
            // Far behind the compression's header, so that the damage is in the content.
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        } else {
            // Still JSON, of the same length, and with another meaning.
            let text = String::from_utf8(bytes)?;
            let from = if what == "config" {
                "/bin/web"
            } else {
                "\"size\":"
            };
            let to = if what == "config" {
                "/bin/bad"
            } else {
                "\"size\" :"
            };
            let changed = text.replacen(from, to, 1);
            ensure!(changed != text, "{text}");
            bytes = changed.into_bytes();
        }
        std::fs::write(&path, bytes)?;
        let image = if what == "manifest" {
            format!("registry.test/bad@{digest}")
        } else {
            format!("registry.test/{tag}")
        };
        let name = format!("bad-{what}");
        cluster.apply(&pod(&name, &image, ""))?;
        let why = refused(cluster, &name)?;
        step(&format!("{what}: {why}"));
        let told = [
            "digest",
            "Digest",
            "sha256",
            "unpacks to",
            "corrupt",
            "unpack",
        ];
        ensure!(told.iter().any(|word| why.contains(word)), "{what}: {why}");
        let started = cluster.field("pod", &name, "/status/containerStatuses/0/containerID")?;
        ensure!(started.is_empty(), "nothing of it ran");
        cluster.kubectl(&["delete", "pod", &name, "--wait=false"])?;
    }
    Ok(())
}
