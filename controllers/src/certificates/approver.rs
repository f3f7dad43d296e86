//! Signing request approver: approves client certificates of kubelets for those who may have them. Watches
//! CertificateSigningRequests; writes `certificatesigningrequests/approval`.
//!
//! Whether the one who asks may is the authorizer's to say (a right to create `selfnodeclient` or `nodeclient`), so this is
//! a queue worker and not a plan. Invariant: without that answer nothing is approved, and nothing is ever denied.

use std::time::Duration;

use corten_base::pki::SigningRequest;
use corten_client::cache::{Cache, Change};
use corten_client::queue::RetryPolicy;
use corten_client::{Client, Error, ObjectName, Result, Target};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{certificate, conditions};
use crate::signing;
use crate::worker::{Step, Work};

/// The right may be given later. Upstream's numbers.
pub const RETRY: RetryPolicy = RetryPolicy {
    min: Duration::from_millis(200),
    max: Duration::from_secs(1000),
};

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// The controller.
pub struct Approver {
    /// The server.
    pub client: Client,
    /// All requests.
    pub requests: Cache<CertificateSigningRequest>,
}

/// Keys to wake for a changed request.
pub fn of_request(change: &Change<CertificateSigningRequest>) -> Vec<ObjectName> {
    let open = !change.is_removed() && is_open(change.object());
    open.then(|| ObjectName::of(&**change.object()))
        .into_iter()
        .collect()
}

/// Whether the request is one of those looked at here, and has no answer yet.
fn is_open(request: &CertificateSigningRequest) -> bool {
    let answered = conditions(request)
        .iter()
        .any(|condition| matches!(condition.type_.as_str(), "Approved" | "Denied"));
    request.spec.signer_name == SIGNER && !answered && certificate(request).is_none()
}

/// The rights that are enough, and what is said when one is there. None for what is no kubelet's request.
fn rights(spec: &CertificateSigningRequestSpec) -> Vec<(&'static str, &'static str)> {
    let Ok(request) = SigningRequest::parse(&String::from_utf8_lossy(&spec.request.0)) else {
        return Vec::new();
    };
    let subject = request.subject();
    if !signing::is_kubelet_client(&subject, spec.usages.as_deref().unwrap_or_default()) {
        return Vec::new();
    }
    let own = (
        "selfnodeclient",
        "Auto approving self kubelet client certificate after SubjectAccessReview.",
    );
    let any = (
        "nodeclient",
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    );
    match spec.username.as_ref() == Some(&subject.common_name) {
        true => vec![own, any],
        false => vec![any],
    }
}

impl Work for Approver {
    type Key = ObjectName;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-approving-controller"
    }

    async fn step(&self, key: ObjectName) -> Result<Step> {
        let Some(request) = self.requests.get_named(&key).filter(|it| is_open(it)) else {
            return Ok(Step::Done);
        };
        let rights = rights(&request.spec);
        for (right, message) in &rights {
            if self.may(&request.spec, right).await? {
                return self.approve(&request, message).await;
            }
        }
        match rights.is_empty() {
            true => Ok(Step::Done),
            false => Ok(Step::Again),
        }
    }
}

impl Approver {
    async fn may(&self, spec: &CertificateSigningRequestSpec, right: &str) -> Result<bool> {
        let attributes = ResourceAttributes {
            group: Some("certificates.k8s.io".to_owned()),
            version: Some("*".to_owned()),
            resource: Some("certificatesigningrequests".to_owned()),
            subresource: Some(right.to_owned()),
            verb: Some("create".to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = self.client.create(&review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn approve(&self, request: &CertificateSigningRequest, message: &str) -> Result<Step> {
        let mut approved = request.clone();
        let now = Time(Timestamp::now());
        let approval = CertificateSigningRequestCondition {
            type_: "Approved".to_owned(),
            status: "True".to_owned(),
            reason: Some("AutoApproved".to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(now),
        };
        let status = approved.status.get_or_insert_default();
        status.conditions.get_or_insert_default().push(approval);
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let target = Target::of::<CertificateSigningRequest>()
            .named(name)
            .sub("approval");
        let body = serde_json::to_vec(&approved).expect("a request has string keys only");
        match self.client.update_raw(&target, body).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(Step::Done),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn spec(
        user: &str,
        organization: &str,
        names: &[&str],
        usages: &[&str],
    ) -> CertificateSigningRequestSpec {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        let key = KeyPair::generate().expect("key");
        let request = params.serialize_request(&key).expect("request");
        let pem = request.pem().expect("pem");
        CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: SIGNER.to_owned(),
            usages: Some(usages.iter().map(|&usage| usage.to_owned()).collect()),
            username: Some("system:node:n1".to_owned()),
            ..CertificateSigningRequestSpec::default()
        }
    }

    #[test]
    fn kubelets_are_known_by_what_they_ask_for() {
        let client = ["client auth", "digital signature"];
        let rsa = ["key encipherment", "digital signature", "client auth"];
        let nodes = "system:nodes";
        let cases: [(CertificateSigningRequestSpec, &[&str]); 8] = [
            (
                spec("system:node:n1", nodes, &[], &client),
                &["selfnodeclient", "nodeclient"],
            ),
            (
                spec("system:node:n1", nodes, &[], &rsa),
                &["selfnodeclient", "nodeclient"],
            ),
            (spec("system:node:n2", nodes, &[], &client), &["nodeclient"]),
            (spec("n1", nodes, &[], &client), &[]),
            (spec("system:node:n1", "system:masters", &[], &client), &[]),
            (spec("system:node:n1", nodes, &["n1.local"], &client), &[]),
            (spec("system:node:n1", nodes, &["10.0.0.1"], &client), &[]),
            (
                spec(
                    "system:node:n1",
                    nodes,
                    &[],
                    &["client auth", "server auth"],
                ),
                &[],
            ),
        ];
        for (at, (spec, expected)) in cases.into_iter().enumerate() {
            let found: Vec<&str> = rights(&spec).into_iter().map(|(right, _)| right).collect();
            assert_eq!(found, expected, "case {at}");
        }
    }

    #[test]
    fn only_open_requests_of_the_signer_wake() {
        let request = |signer: &str, condition: Option<&str>| {
            let condition = condition.map(|kind| CertificateSigningRequestCondition {
                type_: kind.to_owned(),
                ..CertificateSigningRequestCondition::default()
            });
            CertificateSigningRequest {
                spec: CertificateSigningRequestSpec {
                    signer_name: signer.to_owned(),
                    ..CertificateSigningRequestSpec::default()
                },
                status: Some(CertificateSigningRequestStatus {
                    certificate: None,
                    conditions: Some(condition.into_iter().collect()),
                }),
                ..CertificateSigningRequest::default()
            }
        };
        let cases = [
            (request(SIGNER, None), 1),
            (request(SIGNER, Some("Failed")), 1),
            (request(SIGNER, Some("Approved")), 0),
            (request(SIGNER, Some("Denied")), 0),
            (request("kubernetes.io/kubelet-serving", None), 0),
        ];
        for (request, expected) in cases {
            let cache = Cache::fixed([request], CacheOptions::all());
            let held = cache.list().remove(0);
            assert_eq!(of_request(&Change::Added(held)).len(), expected);
        }
    }
}
