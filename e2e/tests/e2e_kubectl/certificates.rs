//! A new person in the cluster, as guides have it: a certificate request, approved with kubectl, a kubeconfig, and rights by RBAC.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use corten_e2e::cluster::{Cluster, step};
use corten_e2e::wait::until;
use rcgen::{CertificateParams, DnType, KeyPair};

use crate::has;

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    step("certificate approve and deny, auth whoami as the new user");
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "devs");
    params.distinguished_name.push(DnType::CommonName, "jane");
    let asked = BASE64.encode(params.serialize_request(&key)?.pem()?);
    for name in ["jane", "mallory"] {
        cluster.apply(&format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\nspec:\n  request: {asked}\n  \
             signerName: kubernetes.io/kube-apiserver-client\n  usages: [client auth]\n  expirationSeconds: 3600\n"
        ))?;
    }
    has(&cluster.kubectl(&["get", "csr"])?, &["jane", "Pending"])?;
    cluster.kubectl(&["certificate", "approve", "jane"])?;
    cluster.kubectl(&["certificate", "deny", "mallory"])?;
    let signed = until("the certificate", Duration::from_secs(20), || {
        let found = cluster.field("csr", "jane", "/status/certificate");
        let found = found.map_err(|error| error.to_string())?;
        if found.is_empty() {
            Err(found)
        } else {
            Ok(found)
        }
    })?;
    has(
        &cluster.kubectl(&["get", "csr"])?,
        &["Approved,Issued", "Denied"],
    )?;
    let config = kubeconfig(cluster, &BASE64.decode(signed)?, &key.serialize_pem())?;
    let jane = |args: &[&str]| {
        cluster.kubectl_output(&[&["--kubeconfig", &config][..], args].concat(), "")
    };
    let who = String::from_utf8_lossy(&jane(&["auth", "whoami"])?.stdout).into_owned();
    has(&who, &["jane", "devs"])?;
    let refused = String::from_utf8_lossy(&jane(&["get", "cm"])?.stderr).into_owned();
    has(
        &refused,
        &["User \"jane\" cannot list resource \"configmaps\""],
    )?;
    cluster.kubectl(&[
        "create",
        "rolebinding",
        "jane",
        "--clusterrole=view",
        "--user=jane",
    ])?;
    until("the right", Duration::from_secs(10), || {
        let out = jane(&["get", "cm"]).map_err(|error| error.to_string())?;
        if out.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    })?;
    let denied = cluster.field("csr", "mallory", "/status/certificate")?;
    ensure!(denied.is_empty(), "a denied request has a certificate");
    Ok(())
}

/// The administrator's kubeconfig with the new user in the administrator's place.
fn kubeconfig(cluster: &Cluster, certificate: &[u8], key: &str) -> Result<String> {
    let config = cluster.dir().join("jane.kubeconfig");
    std::fs::copy(cluster.lab().kubeconfig(), &config)?;
    let config = config.display().to_string();
    let files = cluster.dir().join("jane");
    std::fs::write(files.with_extension("crt"), certificate)?;
    std::fs::write(files.with_extension("key"), key)?;
    let path = "jsonpath={.users[0].name}";
    let user = &cluster.kubectl(&["--kubeconfig", &config, "config", "view", "-o", path])?;
    cluster.kubectl(&[
        "--kubeconfig",
        &config,
        "config",
        "unset",
        &format!("users.{user}"),
    ])?;
    let (certificate, key) = (files.with_extension("crt"), files.with_extension("key"));
    cluster.kubectl(&[
        "--kubeconfig",
        &config,
        "config",
        "set-credentials",
        user,
        &format!("--client-certificate={}", certificate.display()),
        &format!("--client-key={}", key.display()),
    ])?;
    Ok(config)
}
