//! What is inside: the PKCS#10 request and the certificates, both PEM in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer, parse_x509_certificate};

use super::super::pem;

/// What is wrong with a request, its signature included: whoever asks must hold the key.
pub(super) fn request_fault(encoded: &str) -> Option<String> {
    let text = decoded(encoded);
    let block = pem::blocks(&text).next();
    let Some(block) = block.filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let request = match X509CertificationRequest::from_der(&block.bytes) {
        Ok(([], request)) => request,
        Ok(_) => return Some("asn1: syntax error: trailing data".to_owned()),
        Err(error) => return Some(format!("asn1: structure error: {error}")),
    };
    let algorithm = request.signature_algorithm.algorithm.to_id_string();
    match request.verify_signature() {
        Ok(()) => None,
        Err(X509Error::SignatureVerificationError) => Some(unverified(&algorithm).to_owned()),
        Err(_) => Some("x509: cannot verify signature: algorithm unimplemented".to_owned()),
    }
}

/// Go's words, by the family of the algorithm.
fn unverified(algorithm: &str) -> &'static str {
    if algorithm.starts_with("1.2.840.10045.") {
        "x509: ECDSA verification failure"
    } else if algorithm.starts_with("1.3.101.") {
        "x509: Ed25519 verification failure"
    } else {
        "crypto/rsa: verification error"
    }
}

/// What is wrong with a chain of certificates. None at all is fine.
pub(super) fn certificate_fault(encoded: &str) -> Option<String> {
    if encoded.is_empty() {
        return None;
    }
    let text = decoded(encoded);
    let mut found = false;
    for block in pem::blocks(&text) {
        if block.label != "CERTIFICATE" {
            let label = crate::quote::quote(block.label);
            let fault = format!("only CERTIFICATE PEM blocks are allowed, found {label}");
            return Some(fault);
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        if block.bytes.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        found = true;
        let mut rest = block.bytes.as_slice();
        while !rest.is_empty() {
            match parse_x509_certificate(rest) {
                Ok((after, _)) => rest = after,
                Err(_) => return Some("x509: malformed certificate".to_owned()),
            }
        }
    }
    (!found).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// The organizations in the subject of a request: the groups that it asks for. None of what cannot be read.
pub fn organizations(encoded: &str) -> Vec<String> {
    let text = decoded(encoded);
    let Some(block) = pem::blocks(&text).next() else {
        return Vec::new();
    };
    let Ok((_, request)) = X509CertificationRequest::from_der(&block.bytes) else {
        return Vec::new();
    };
    let subject = &request.certification_request_info.subject;
    let names = subject.iter_organization();
    names
        .filter_map(|name| name.as_str().ok().map(str::to_owned))
        .collect()
}

/// PEM is ASCII; what is not becomes what no block can hold.
fn decoded(encoded: &str) -> String {
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
