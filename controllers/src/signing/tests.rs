//! Plans about certificate requests: what is signed, what fails and how, what is left alone.

use corten_client::cache::CacheOptions;
use corten_client::client::Patch;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::Value;

use super::*;

fn asked(common_name: &str, organization: &str, dns: &[&str]) -> String {
    let names: Vec<String> = dns.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let key = KeyPair::generate().expect("a key");
    let request = params.serialize_request(&key).expect("a request");
    BASE64.encode(request.pem().expect("PEM"))
}

fn request(
    signer: &str,
    asked: &str,
    usages: &[&str],
    conditions: &[&str],
) -> CertificateSigningRequest {
    let condition =
        |kind: &&str| json!({"type": kind, "status": "True", "reason": "R", "message": "m"});
    let conditions: Vec<Value> = conditions.iter().map(condition).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "jane", "resourceVersion": "7"},
        "spec": {"signerName": format!("kubernetes.io/{signer}"), "request": asked, "usages": usages, "expirationSeconds": 3600},
        "status": {"conditions": conditions},
    }))
    .expect("a request")
}

/// What is written to the status, if anything.
fn written(request: CertificateSigningRequest) -> Option<Value> {
    let controller = Signing {
        requests: Cache::fixed([request], CacheOptions::all()),
        authority: Arc::new(Authority::create("ca").expect("an authority")),
        valid_for: VALID_FOR,
    };
    let view = controller.view(&ObjectName::new("", "jane"));
    let plan = controller.plan(&view, Timestamp::UNIX_EPOCH);
    assert!(plan.actions.len() < 2, "{plan:?}");
    match plan.actions.into_iter().next()? {
        Action::Patch {
            target,
            patch: Patch::Merge(patch),
        } => {
            assert_eq!(target.subresource, "status");
            assert_eq!(patch["metadata"]["resourceVersion"], "7", "what was judged");
            Some(patch["status"].clone())
        }
        other => panic!("{other}"),
    }
}

const CLIENT: &[&str] = &["client auth", "digital signature"];

#[test]
fn what_is_approved_is_signed_once() {
    let jane = asked("jane", "devs", &[]);
    let status = written(request(
        "kube-apiserver-client",
        &jane,
        CLIENT,
        &["Approved"],
    ));
    let certificate = status.expect("a write")["certificate"]
        .as_str()
        .map(str::to_owned);
    let pem = BASE64
        .decode(certificate.expect("a certificate"))
        .expect("base64");
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
    for conditions in [
        &[][..],
        &["Denied"],
        &["Approved", "Denied"],
        &["Approved", "Failed"],
    ] {
        let left = written(request("kube-apiserver-client", &jane, CLIENT, conditions));
        assert_eq!(left, None, "{conditions:?}");
    }
    let mut signed = request("kube-apiserver-client", &jane, CLIENT, &["Approved"]);
    signed.status.get_or_insert_default().certificate =
        Some(k8s_openapi::ByteString(b"x".to_vec()));
    assert_eq!(written(signed), None);
    assert_eq!(
        written(request("other", &jane, CLIENT, &["Approved"])),
        None
    );
}

#[test]
fn what_a_signer_does_not_take_fails_in_words() {
    let serving = ["server auth", "digital signature"];
    for (signer, who, usages, message) in [
        (
            "kube-apiserver-client",
            ("jane", "devs", &[][..]),
            &["server auth"][..],
            "invalid usage for client certificate: server auth",
        ),
        (
            "kube-apiserver-client",
            ("jane", "devs", &[]),
            &["digital signature"],
            "missing required usage for client certificate: client auth",
        ),
        (
            "kube-apiserver-client-kubelet",
            ("system:node:a", "devs", &[]),
            CLIENT,
            "subject organization is not system:nodes",
        ),
        (
            "kube-apiserver-client-kubelet",
            ("a", NODES, &[]),
            CLIENT,
            "subject common name does not begin with system:node:",
        ),
        (
            "kube-apiserver-client-kubelet",
            ("system:node:a", NODES, &["a.b"]),
            CLIENT,
            "DNS subjectAltNames are not allowed",
        ),
        (
            "kube-apiserver-client-kubelet",
            ("system:node:a", NODES, &[]),
            &["client auth"],
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            "kubelet-serving",
            ("system:node:a", NODES, &[]),
            &serving,
            "DNS or IP subjectAltName is required",
        ),
    ] {
        let (common_name, organization, dns) = who;
        let asked = asked(common_name, organization, dns);
        let status = written(request(signer, &asked, usages, &["Approved"])).expect("a write");
        assert_eq!(status["conditions"][0]["type"], "Approved", "kept");
        assert_eq!(status["conditions"][1]["reason"], "SignerValidationFailure");
        assert_eq!(
            status["conditions"][1]["message"], message,
            "{signer} {who:?}"
        );
    }
}

#[test]
fn nodes_get_what_they_ask_for() {
    let serving = ["server auth", "digital signature"];
    for (signer, who, usages) in [
        (
            "kube-apiserver-client-kubelet",
            ("system:node:a", NODES, &[][..]),
            CLIENT,
        ),
        (
            "kubelet-serving",
            ("system:node:a", NODES, &["a.b"]),
            &serving,
        ),
        ("legacy-unknown", ("x", "y", &[]), &["any"]),
    ] {
        let asked = asked(who.0, who.1, who.2);
        let status = written(request(signer, &asked, usages, &["Approved"])).expect("a write");
        assert!(status["certificate"].is_string(), "{signer}: {status}");
    }
}
