//! Certificates: signs CertificateSigningRequests that are approved, for the signers `kubernetes.io/...`. Watches the requests;
//! writes their `status`: the certificate, or why there will be none. It approves nothing.
//!
//! Facts: which names and usages a signer takes, and the words for what it does not take, are upstream's
//! (`pkg/controller/certificates/signer`). Invariant: only approved requests are signed, each once.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use corten_base::pki::{Authority, SigningRequest, Subject};
use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::runner::{Action, Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::json;

/// How long certificates are good for, when nothing else is asked; and at most. Upstream's.
pub const VALID_FOR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates are dated back by half of it.
const VALID_FOR_MIN: Duration = Duration::from_secs(10 * 60);
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// The controller over its caches.
pub struct Signing {
    /// All requests.
    pub requests: Cache<CertificateSigningRequest>,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// How long certificates are good for at most.
    pub valid_for: Duration,
}

impl Signing {
    /// Keys to wake for a changed request.
    pub fn of_request(&self, change: &Change<CertificateSigningRequest>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }
}

impl Controller for Signing {
    type Key = ObjectName;
    type View = Option<Arc<CertificateSigningRequest>>;

    fn name(&self) -> &'static str {
        "certificate-signing-controller"
    }

    fn view(&self, key: &ObjectName) -> Self::View {
        self.requests.get_named(key)
    }

    fn plan(&self, view: &Self::View, now: Timestamp) -> Plan {
        let Some(request) = view.as_ref().filter(|request| is_due(request)) else {
            return Plan::nothing();
        };
        let Some(signer) = Signer::of(&request.spec.signer_name) else {
            return Plan::nothing();
        };
        let usages = request.spec.usages.clone().unwrap_or_default();
        let asked = String::from_utf8_lossy(&request.spec.request.0);
        let signed = SigningRequest::parse(&asked)
            .map_err(|error| format!("unable to parse csr: {error}"))
            .and_then(|parsed| {
                signer.check(&parsed.subject(), &usages)?;
                let valid_for = self.valid_for(request.spec.expiration_seconds);
                let signed = self.authority.sign(parsed, &usages, valid_for);
                signed.map_err(|error| error.to_string())
            });
        let status = match signed {
            Ok(certificate) => json!({"certificate": BASE64.encode(certificate)}),
            Err(message) => failed(request, &message, now),
        };
        let version = &request.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
        Plan::of([Action::merge_status(&**request, patch)])
    }
}

impl Signing {
    fn valid_for(&self, seconds: Option<i32>) -> Duration {
        let asked = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let asked = asked.map_or(self.valid_for, Duration::from_secs);
        asked.max(VALID_FOR_MIN).min(self.valid_for)
    }
}

/// Whether this is asked for a kubelet's client certificate, in a way that its signer takes.
pub(crate) fn is_kubelet_client(subject: &Subject, usages: &[String]) -> bool {
    let signer = Signer::ApiserverClientKubelet;
    signer.check(subject, usages).is_ok()
}

/// Approved, and neither failed nor signed.
fn is_due(request: &CertificateSigningRequest) -> bool {
    let status = request.status.as_ref();
    let holds = |kind: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let signed = status.and_then(|status| status.certificate.as_ref());
    holds("Approved")
        && !holds("Denied")
        && !holds("Failed")
        && signed.is_none_or(|certificate| certificate.0.is_empty())
}

/// The conditions with one more: there will be no certificate.
fn failed(request: &CertificateSigningRequest, message: &str, now: Timestamp) -> serde_json::Value {
    let before = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone());
    let mut conditions = json!(before.unwrap_or_default());
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.push(json!({
            "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": message,
            "lastUpdateTime": corten_api::meta::format_time(now),
        }));
    }
    json!({"conditions": conditions})
}

/// The signers that the cluster's own authority stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    ApiserverClient,
    ApiserverClientKubelet,
    KubeletServing,
    LegacyUnknown,
}

impl Signer {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "kubernetes.io/kube-apiserver-client" => Self::ApiserverClient,
            "kubernetes.io/kube-apiserver-client-kubelet" => Self::ApiserverClientKubelet,
            "kubernetes.io/kubelet-serving" => Self::KubeletServing,
            "kubernetes.io/legacy-unknown" => Self::LegacyUnknown,
            _ => return None,
        })
    }

    /// Whether the signer takes this, or why not.
    fn check(self, subject: &Subject, usages: &[String]) -> Result<(), String> {
        match self {
            Self::LegacyUnknown => Ok(()),
            Self::ApiserverClient => client_usages(usages),
            Self::ApiserverClientKubelet => {
                node(subject)?;
                for (count, what) in [
                    (subject.dns_names, "DNS"),
                    (subject.emails, "Email"),
                    (subject.ips, "IP"),
                    (subject.uris, "URI"),
                ] {
                    none(count, what)?;
                }
                node_name(subject)?;
                exactly(usages, "client auth")
            }
            Self::KubeletServing => {
                node(subject)?;
                if subject.dns_names + subject.ips == 0 {
                    return Err("DNS or IP subjectAltName is required".to_owned());
                }
                none(subject.emails, "Email")?;
                none(subject.uris, "URI")?;
                exactly(usages, "server auth")?;
                node_name(subject)
            }
        }
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if usages.iter().any(|usage| usage == "client auth") {
        return Ok(());
    }
    Err("missing required usage for client certificate: client auth".to_owned())
}

fn node(subject: &Subject) -> Result<(), String> {
    match &subject.organizations[..] {
        [only] if only == NODES => Ok(()),
        _ => Err(format!("subject organization is not {NODES}")),
    }
}

fn node_name(subject: &Subject) -> Result<(), String> {
    if subject.common_name.starts_with(NODE_PREFIX) {
        return Ok(());
    }
    Err(format!(
        "subject common name does not begin with {NODE_PREFIX}"
    ))
}

fn none(count: usize, what: &str) -> Result<(), String> {
    match count {
        0 => Ok(()),
        _ => Err(format!("{what} subjectAltNames are not allowed")),
    }
}

/// Usages of a node's certificate: its purpose and the signature; encipherment only with it, as keys of RSA need.
fn exactly(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut sorted: Vec<&str> = usages.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut required = vec![purpose, "digital signature"];
    required.sort_unstable();
    let mut with_encipherment = [&required[..], &["key encipherment"]].concat();
    with_encipherment.sort_unstable();
    if sorted == required || sorted == with_encipherment {
        return Ok(());
    }
    Err(format!(
        "usages did not match [{}]",
        with_encipherment.join(" ")
    ))
}

#[cfg(test)]
mod tests;
