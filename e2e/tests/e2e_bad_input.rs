//! Bad input over the wire, as curl sends it: each is answered with a Status that says what is wrong, and the server lives.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use corten::roles::Role;
use corten_e2e::cluster::{Cluster, step};
use serde_json::Value;

#[test]
fn bad_input_gets_a_clear_status_and_harms_nobody() {
    let cluster = Cluster::start("badinput", 1, 1).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

/// (HTTP code, body) of a request with the administrator's certificate, or without any.
fn ask(
    cluster: &Cluster,
    with_certificate: bool,
    args: &[&str],
    path: &str,
    body: &[u8],
) -> Result<(u16, String)> {
    let pki = cluster.lab().plan().dir.join("pki");
    let file = |name: &str| pki.join(name).display().to_string();
    let mut command = cluster.lab().beside("curl");
    command.args([
        "-sS",
        "-m",
        "20",
        "-w",
        "\n%{http_code}",
        "--cacert",
        &file("ca.crt"),
    ]);
    if with_certificate {
        command.args(["--cert", &file("admin.crt"), "--key", &file("admin.key")]);
    }
    if !body.is_empty() {
        command.args(["--data-binary", "@-"]);
    }
    let server = cluster.lab().plan().hosts[0].ip;
    command
        .args(args)
        .arg(format!("https://{server}:6443{path}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("curl")?;
    if let Some(mut stdin) = child.stdin.take() {
        // The server may refuse before it has read everything.
        let _ = stdin.write_all(body);
    }
    let text = String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').context("no code")?;
    Ok((code.trim().parse()?, body.to_owned()))
}

fn nested(depth: usize) -> Vec<u8> {
    let mut text =
        String::from(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"n"},"data":"#);
    text.push_str(&"{\"a\":".repeat(depth));
    text.push_str("\"x\"");
    text.push_str(&"}".repeat(depth));
    text.push('}');
    text.into_bytes()
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &[&str] = &["-X", "POST", "-H", "Content-Type: application/json"];
const YAML: &[&str] = &["-X", "POST", "-H", "Content-Type: application/yaml"];
const PROTOBUF: &[&str] = &[
    "-X",
    "POST",
    "-H",
    "Content-Type: application/vnd.kubernetes.protobuf",
];
const STRICT: &str = "?fieldValidation=Strict";

/// (what, curl arguments, path, body, HTTP code, part of the answer)
type Case = (
    &'static str,
    &'static [&'static str],
    String,
    Vec<u8>,
    u16,
    &'static str,
);

#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn cases() -> Vec<Case> {
    let map = |rest: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m"}}{rest}}}"#)
            .into_bytes()
    };
    let big = format!(r#","data":{{"a":"{}"}}"#, "x".repeat(3 << 20));
    let deployment = "/apis/apps/v1/namespaces/default/deployments";
    let bad_selector = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"c"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    let text_replicas = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"replicas":"three","selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    vec![
        (
            "malformed JSON",
            JSON,
            MAPS.into(),
            b"{\"apiVersion\":".to_vec(),
            400,
            "BadRequest",
        ),
        (
            "malformed YAML",
            YAML,
            MAPS.into(),
            b"a: [b\n  c: :".to_vec(),
            400,
            "BadRequest",
        ),
        (
            "malformed protobuf",
            PROTOBUF,
            MAPS.into(),
            b"k8s\x00\xff\xff\xff".to_vec(),
            400,
            "BadRequest",
        ),
        (
            "another media type",
            &["-X", "POST", "-H", "Content-Type: text/csv"],
            MAPS.into(),
            b"a,b".to_vec(),
            415,
            "UnsupportedMediaType",
        ),
        (
            "a 3 MiB object",
            JSON,
            MAPS.into(),
            map(&big),
            413,
            "RequestEntityTooLarge",
        ),
        (
            "a hundred-fold nested object",
            JSON,
            MAPS.into(),
            nested(100),
            400,
            "BadRequest",
        ),
        (
            "a very deep object",
            JSON,
            MAPS.into(),
            nested(100_000),
            400,
            "BadRequest",
        ),
        (
            "an unknown field",
            JSON,
            format!("{MAPS}{STRICT}"),
            map(r#","dat":{}"#),
            400,
            "unknown field \\\"dat\\\"",
        ),
        (
            "a wrong type",
            JSON,
            deployment.into(),
            text_replicas.to_vec(),
            400,
            "replicas",
        ),
        (
            "a selector that does not match",
            JSON,
            deployment.into(),
            bad_selector.to_vec(),
            422,
            "spec.template.metadata.labels",
        ),
        (
            "a bad name",
            JSON,
            MAPS.into(),
            br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Bad_Name"}}"#.to_vec(),
            422,
            "metadata.name",
        ),
        (
            "an unknown kind's path",
            &["-X", "GET"],
            "/apis/none/v1/things".into(),
            Vec::new(),
            404,
            "",
        ),
        (
            "an unknown object",
            &["-X", "GET"],
            format!("{MAPS}/absent"),
            Vec::new(),
            404,
            "NotFound",
        ),
        (
            "a missing namespace",
            JSON,
            "/api/v1/namespaces/absent/configmaps".into(),
            map(""),
            404,
            "NotFound",
        ),
        (
            "an impossible verb",
            &["-X", "PUT", "-H", "Content-Type: application/json"],
            MAPS.into(),
            map(""),
            405,
            "MethodNotAllowed",
        ),
        (
            "a forgotten revision",
            &["-X", "GET"],
            format!("{MAPS}?watch=1&resourceVersion=99999999999&timeoutSeconds=3"),
            Vec::new(),
            504,
            "",
        ),
    ]
}

fn run(cluster: &Cluster) -> Result<()> {
    let pid = cluster
        .lab()
        .role_pid("h1", Role::Apiserver)?
        .context("an API server runs")?;
    let mut wrong = Vec::new();
    for (what, args, path, body, code, part) in cases() {
        let (seen, text) = ask(cluster, true, args, &path, &body)?;
        step(&format!("{what}: {seen}"));
        let is_status = serde_json::from_str::<Value>(&text)
            .is_ok_and(|v| v["kind"] == "Status" && v["code"] == seen);
        let plain_404 = code == 404 && part.is_empty();
        if seen != code || !text.contains(part) || !(is_status || plain_404) {
            wrong.push(format!(
                "{what}: expected {code} {part:?}, got {seen}: {}",
                &text[..text.len().min(400)]
            ));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    step("conflict, precondition, no identity, a bad token, no right");
    cluster.kubectl(&["create", "configmap", "m"])?;
    let again = JSON;
    let map = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"}}"#;
    ensure!(
        ask(cluster, true, again, MAPS, map)?.0 == 409,
        "already there"
    );
    let stale =
        br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","resourceVersion":"1"}}"#;
    let put = &["-X", "PUT", "-H", "Content-Type: application/json"];
    let (code, text) = ask(cluster, true, put, &format!("{MAPS}/m"), stale)?;
    ensure!(
        code == 409 && text.contains("the object has been modified"),
        "{code} {text}"
    );
    ensure!(
        ask(
            cluster,
            false,
            &["-H", "Authorization: Bearer nonsense"],
            MAPS,
            b""
        )?
        .0 == 401,
        "a bad token"
    );
    let anonymous = ask(cluster, false, &[], MAPS, b"")?.0;
    ensure!(
        anonymous == 401 || anonymous == 403,
        "anonymous: {anonymous}"
    );
    let refused = cluster.kubectl_fails(&["get", "secrets", "--as=nobody"], "")?;
    ensure!(
        refused.contains("Forbidden") && refused.contains("cannot list resource \"secrets\""),
        "{refused}"
    );
    budget(cluster)?;
    ensure!(
        cluster.lab().role_pid("h1", Role::Apiserver)? == Some(pid),
        "the API server lived through it"
    );
    without_quorum(cluster)
}

/// An eviction that a budget forbids: 429, with a hint when to come again.
fn budget(cluster: &Cluster) -> Result<()> {
    step("429 for an eviction that a budget forbids");
    cluster.push(&corten_e2e::image::web("1"), "web:1")?;
    cluster.kubectl(&[
        "run",
        "guarded",
        "--image=registry.test/web:1",
        "--labels=app=guarded",
    ])?;
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/guarded",
        "--timeout=60s",
    ])?;
    cluster.kubectl(&[
        "create",
        "poddisruptionbudget",
        "guard",
        "--selector=app=guarded",
        "--min-available=1",
    ])?;
    corten_e2e::wait::until(
        "the budget is counted",
        std::time::Duration::from_secs(20),
        || {
            let status = cluster.get("pdb", "guard").map_err(|e| e.to_string())?["status"].clone();
            if status["currentHealthy"] == 1 {
                Ok(())
            } else {
                Err(status.to_string())
            }
        },
    )?;
    let eviction = br#"{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"guarded","namespace":"default"}}"#;
    let args = &["-X", "POST", "-i", "-H", "Content-Type: application/json"];
    let (code, text) = ask(
        cluster,
        true,
        args,
        "/api/v1/namespaces/default/pods/guarded/eviction",
        eviction,
    )?;
    ensure!(
        code == 429 && text.to_ascii_lowercase().contains("retry-after"),
        "{code} {text}"
    );
    Ok(())
}

fn without_quorum(cluster: &Cluster) -> Result<()> {
    step("503 without the store");
    cluster.lab().kill_host("h1", Some(Role::Store))?;
    let map = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"q"}}"#;
    let (code, text) = ask(cluster, true, JSON, MAPS, map)?;
    ensure!(code == 503 || code == 504 || code == 500, "{code} {text}");
    ensure!(
        code != 500,
        "no quorum is not the server's own fault: {code} {text}"
    );
    cluster.lab().start_host("h1", Some(Role::Store))?;
    corten_e2e::wait::until(
        "writes are accepted again",
        std::time::Duration::from_secs(30),
        || {
            let out = cluster
                .kubectl(&["create", "configmap", "back"])
                .map_err(|e| e.to_string())?;
            if out.contains("created") {
                Ok(())
            } else {
                Err(out)
            }
        },
    )
}
