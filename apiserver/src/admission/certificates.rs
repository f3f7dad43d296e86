//! CertificateSigningRequests: who may approve and sign for which signer, and what nobody may ask for.
//!
//! Facts: upstream's plugins CertificateApproval, CertificateSigning and CertificateSubjectRestriction. Invariant: the right is
//! asked for the signer that the stored object names, not the one that the client sent.

use corten_api::kinds::certificates::certificate_signing_request::organizations;
use corten_api::status::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::authz::{Attributes, Authorizer as _, Decision};
use crate::registry::Registry;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
/// Its certificates are believed by the API server.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Whoever is in it may do everything.
const MASTERS: &str = "system:masters";

/// Refuses what the requester may not do to a request.
pub(super) fn validate(
    registry: &Registry,
    review: &Review<'_>,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let descriptor = review.target.descriptor;
    let (Some(new), GROUP, RESOURCE) = (new, descriptor.group, descriptor.resource) else {
        return Ok(());
    };
    let certificate = |object: &Value| object["status"]["certificate"].clone();
    match (review.operation, review.target.subresource.as_str(), old) {
        (Operation::Create, "", _) => restrict_subject(review, new),
        (Operation::Update, "approval", Some(old)) => require(registry, review, "approve", old),
        (Operation::Update, "status", Some(old)) if certificate(new) != certificate(old) => {
            require(registry, review, "sign", old)
        }
        _ => Ok(()),
    }
}

fn signer(object: &Value) -> &str {
    object["spec"]["signerName"].as_str().unwrap_or_default()
}

fn restrict_subject(review: &Review<'_>, new: &Value) -> Result<(), Status> {
    let request = new["spec"]["request"].as_str().unwrap_or_default();
    if signer(new) == CLIENT_SIGNER && organizations(request).iter().any(|name| name == MASTERS) {
        return Err(review.target.forbidden(&format!(
            "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
        )));
    }
    Ok(())
}

/// The right to `verb` for a signer, or for all of its domain.
fn require(
    registry: &Registry,
    review: &Review<'_>,
    verb: &'static str,
    old: &Value,
) -> Result<(), Status> {
    let Some(authorizer) = registry.authorizer() else {
        return Ok(());
    };
    let signer = signer(old);
    let domain = signer
        .split_once('/')
        .map(|(domain, _)| format!("{domain}/*"));
    let names = [Some(signer.to_owned()), domain];
    for name in names.iter().flatten() {
        let question = Attributes::resource(&review.context.user, verb, GROUP, "signers");
        if let Decision::Allow(_) = authorizer.authorize(&question.named(name)) {
            return Ok(());
        }
    }
    let doing = if verb == "approve" { "approve" } else { "sign" };
    Err(review.target.forbidden(&format!(
        "user not permitted to {doing} requests with signerName {signer:?}"
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::authn::User;
    use crate::registry::{Context, Target};
    use crate::testing::TestApi;

    /// A request of CN=jane, O=system:masters, made with openssl for this test; its key is gone.
    const MASTER: &str = include_str!("certificates/masters.b64");

    #[tokio::test]
    async fn nobody_asks_to_be_a_master() {
        let api = TestApi::start().await;
        let target = Target::of(GROUP, RESOURCE, "", "").unwrap();
        let request = |signer: &str| {
            json!({
                "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"generateName": "r-"},
                "spec": {"request": MASTER.trim(), "signerName": signer, "usages": ["client auth"]},
            })
        };
        let jane = Context::new(Arc::new(User {
            name: "jane".to_owned(),
            ..User::anonymous()
        }));
        let refused = api
            .registry
            .create(&jane, &target, request(CLIENT_SIGNER))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), 403);
        assert!(
            refused
                .message
                .contains("system:masters group is not allowed"),
            "{}",
            refused.message
        );
        let made = api
            .registry
            .create(&jane, &target, request("example.com/other"))
            .await
            .unwrap();
        assert_eq!(made.into_value()["spec"]["username"], "jane");
    }
}
