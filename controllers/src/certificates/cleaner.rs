//! Signing request cleaner: removes requests that nobody will come back for. Watches CertificateSigningRequests; deletes
//! them an hour after they were served, denied or failed, a day after they were made or approved in vain, and when their
//! certificate is over.

use std::sync::Arc;
use std::time::Duration;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::runner::{Action, Controller, Plan};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

use super::{certificate, conditions};

/// How long a request stays that has its answer. Upstream's number.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// How long a request waits for its answer. Upstream's number.
const WAITING: SignedDuration = SignedDuration::from_hours(24);

/// The controller over its cache.
pub struct Cleaner {
    /// All requests.
    pub requests: Cache<CertificateSigningRequest>,
}

impl Cleaner {
    /// Keys to wake for a changed request.
    pub fn of_request(&self, change: &Change<CertificateSigningRequest>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }
}

/// When the request is to go.
fn due(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let after = |since: Option<&Time>, wait| since?.0.checked_add(wait).ok();
    let conditions = conditions(request);
    if conditions.is_empty() {
        return after(request.metadata.creation_timestamp.as_ref(), WAITING);
    }
    let issued = certificate(request);
    let due = conditions.iter().filter_map(|condition| {
        let since = condition.last_update_time.as_ref();
        match condition.type_.as_str() {
            "Denied" | "Failed" => after(since, ANSWERED),
            "Approved" => match issued {
                None => after(since, WAITING),
                Some(issued) => after(since, ANSWERED).into_iter().chain(ends(issued)).min(),
            },
            _ => None,
        }
    });
    due.min()
}

/// When a certificate is over.
fn ends(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = parse_x509_pem(pem).ok()?;
    let (_, certificate) = parse_x509_certificate(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

impl Controller for Cleaner {
    type Key = ObjectName;
    type View = Option<Arc<CertificateSigningRequest>>;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-cleaner-controller"
    }

    fn view(&self, key: &ObjectName) -> Self::View {
        self.requests.get_named(key)
    }

    fn plan(&self, request: &Self::View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some((request, due)) = request.as_ref().and_then(|it| Some((it, due(it)?))) else {
            return plan;
        };
        match Duration::try_from(due.duration_since(now)) {
            Ok(left) if !left.is_zero() => plan.requeue(left),
            _ => plan.push(Action::delete(&**request)),
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use corten_client::cache::CacheOptions;
    use serde_json::{Value, json};

    use super::*;

    fn left(status: Value, now: &str) -> Option<u64> {
        let request: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "r", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": "kubernetes.io/kube-apiserver-client", "usages": []},
            "status": status,
        }))
        .expect("request");
        let controller = Cleaner {
            requests: Cache::fixed([request], CacheOptions::all()),
        };
        let view = controller.view(&ObjectName::new("", "r"));
        let plan = controller.plan(&view, now.parse().expect("time"));
        let words: Vec<String> = plan.actions.iter().map(ToString::to_string).collect();
        match plan.requeue_after {
            None => assert_eq!(
                words,
                ["delete certificatesigningrequests.certificates.k8s.io r"]
            ),
            Some(_) => assert!(words.is_empty()),
        }
        plan.requeue_after.map(|after| after.as_secs())
    }

    fn certificate(ends: i32) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(ends, 1, 1);
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        STANDARD.encode(certificate.pem())
    }

    #[test]
    fn requests_go_when_they_are_old() {
        let said = |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T01:00:00Z"}]);
        let (late, valid, over) = (json!({}), certificate(2030), certificate(2025));
        let cases = [
            (late.clone(), "2026-01-01T23:59:50Z", Some(10)),
            (late, "2026-01-02T00:00:01Z", None),
            (
                json!({"conditions": said("Denied")}),
                "2026-01-01T01:59:00Z",
                Some(60),
            ),
            (
                json!({"conditions": said("Denied")}),
                "2026-01-01T02:00:01Z",
                None,
            ),
            (
                json!({"conditions": said("Failed")}),
                "2026-01-01T02:00:01Z",
                None,
            ),
            (
                json!({"conditions": said("Approved")}),
                "2026-01-02T00:59:00Z",
                Some(60),
            ),
            (
                json!({"conditions": said("Approved")}),
                "2026-01-02T01:00:01Z",
                None,
            ),
            (
                json!({"conditions": said("Approved"), "certificate": valid}),
                "2026-01-01T01:30:00Z",
                Some(1800),
            ),
            (
                json!({"conditions": said("Approved"), "certificate": valid}),
                "2026-01-01T02:00:01Z",
                None,
            ),
            (
                json!({"conditions": said("Approved"), "certificate": over}),
                "2026-01-01T01:30:00Z",
                None,
            ),
        ];
        for (status, now, expected) in cases {
            assert_eq!(left(status.clone(), now), expected, "{status} {now}");
        }
    }
}
