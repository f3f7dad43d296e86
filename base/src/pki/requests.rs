//! Signing what others ask for: PKCS#10 requests, whose keys the authority never sees.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, KeyUsagePurpose,
    SanType,
};

use super::{Authority, PkiError, set_validity};

/// A request whose signature has been verified.
pub struct SigningRequest {
    params: CertificateSigningRequestParams,
}

/// Whom a request says that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The subject's CN.
    pub common_name: String,
    /// The subject's O.
    pub organizations: Vec<String>,
    /// Alternative names that are host names.
    pub dns_names: usize,
    /// Alternative names that are addresses.
    pub ips: usize,
    /// Alternative names that are mail addresses.
    pub emails: usize,
    /// Alternative names that are URIs.
    pub uris: usize,
}

impl SigningRequest {
    /// Reads a request, PEM. One with extensions that certificates of ours do not have is refused.
    pub fn parse(pem: &str) -> Result<Self, PkiError> {
        let params = CertificateSigningRequestParams::from_pem(pem).map_err(|source| {
            let name = "out of a request".to_owned();
            PkiError::Make { name, source }
        })?;
        Ok(Self { params })
    }

    /// Subject and alternative names.
    pub fn subject(&self) -> Subject {
        let mut subject = Subject::default();
        for (kind, value) in self.params.params.distinguished_name.iter() {
            match kind {
                DnType::CommonName => subject.common_name = text(value),
                DnType::OrganizationName => subject.organizations.push(text(value)),
                _ => {}
            }
        }
        for name in &self.params.params.subject_alt_names {
            match name {
                SanType::DnsName(_) => subject.dns_names += 1,
                SanType::IpAddress(_) => subject.ips += 1,
                SanType::Rfc822Name(_) => subject.emails += 1,
                SanType::URI(_) => subject.uris += 1,
                _ => {}
            }
        }
        subject
    }
}

fn text(value: &DnValue) -> String {
    match value {
        DnValue::Utf8String(text) => text.clone(),
        DnValue::PrintableString(text) => text.as_str().to_owned(),
        DnValue::Ia5String(text) => text.as_str().to_owned(),
        DnValue::TeletexString(text) => text.as_str().to_owned(),
        DnValue::BmpString(text) => String::from_utf16_lossy(&utf16(text.as_bytes())),
        _ => String::new(),
    }
}

fn utf16(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.chunks_exact(2);
    pairs
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect()
}

/// The usage of a certificate by its name in the Kubernetes API (`certificates.k8s.io/v1`, `KeyUsage`).
fn add_usage(params: &mut rcgen::CertificateParams, name: &str) {
    let usage = match name {
        "signing" | "digital signature" => Some(KeyUsagePurpose::DigitalSignature),
        "content commitment" => Some(KeyUsagePurpose::ContentCommitment),
        "key encipherment" => Some(KeyUsagePurpose::KeyEncipherment),
        "key agreement" => Some(KeyUsagePurpose::KeyAgreement),
        "data encipherment" => Some(KeyUsagePurpose::DataEncipherment),
        "cert sign" => Some(KeyUsagePurpose::KeyCertSign),
        "crl sign" => Some(KeyUsagePurpose::CrlSign),
        "encipher only" => Some(KeyUsagePurpose::EncipherOnly),
        "decipher only" => Some(KeyUsagePurpose::DecipherOnly),
        _ => None,
    };
    if let Some(usage) = usage
        && !params.key_usages.contains(&usage)
    {
        params.key_usages.push(usage);
    }
    let extended = match name {
        "any" => Some(ExtendedKeyUsagePurpose::Any),
        "server auth" => Some(ExtendedKeyUsagePurpose::ServerAuth),
        "client auth" => Some(ExtendedKeyUsagePurpose::ClientAuth),
        "code signing" => Some(ExtendedKeyUsagePurpose::CodeSigning),
        "email protection" | "s/mime" => Some(ExtendedKeyUsagePurpose::EmailProtection),
        "timestamping" => Some(ExtendedKeyUsagePurpose::TimeStamping),
        "ocsp signing" => Some(ExtendedKeyUsagePurpose::OcspSigning),
        _ => None,
    };
    params.extended_key_usages.extend(extended);
}

impl Authority {
    /// Reads an authority from the files of its certificate and its key.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, PkiError> {
        let (cert_pem, key_pem) = (super::read(cert)?, super::read(key)?);
        Self::from_pem(cert.display().to_string(), cert_pem, key_pem)
    }

    /// The certificate, PEM, with the request's subject, alternative names and key, and with these usages only: what the
    /// request says of usages or of being an authority is not heard.
    pub fn sign(
        &self,
        request: SigningRequest,
        usages: &[String],
        valid_for: Duration,
    ) -> Result<String, PkiError> {
        let name = request.subject().common_name;
        let mut asked = request.params;
        let params = &mut asked.params;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        params.custom_extensions.clear();
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        for usage in usages {
            add_usage(params, usage);
        }
        set_validity(params, valid_for);
        let signed = asked.signed_by(&self.issuer);
        let signed = signed.map_err(|source| PkiError::Make { name, source })?;
        Ok(signed.pem())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use rcgen::{CertificateParams, IsCa, KeyPair};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn a_request_gets_its_names_and_not_its_powers() {
        let authority = Authority::create("ca").expect("an authority");
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("names");
        params.distinguished_name = super::super::subject("jane", &["devs".to_owned()]);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let asked = params.serialize_request(&key).expect("a request");
        let request = SigningRequest::parse(&asked.pem().expect("PEM")).expect("it is read");
        let subject = Subject {
            common_name: "jane".to_owned(),
            organizations: vec!["devs".to_owned()],
            dns_names: 1,
            ..Subject::default()
        };
        assert_eq!(request.subject(), subject);
        let usages = ["client auth", "digital signature"].map(str::to_owned);
        let signed = authority
            .sign(request, &usages, Duration::from_secs(3600))
            .expect("it signs");
        let (_, block) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).expect("PEM");
        let (_, certificate) = X509Certificate::from_der(&block.contents).expect("a certificate");
        assert!(!certificate.is_ca());
        assert_eq!(certificate.subject().to_string(), "O=devs, CN=jane");
        let usage = certificate.key_usage().expect("one").expect("there is one");
        assert!(usage.value.digital_signature() && !usage.value.key_cert_sign());
        let extended = certificate.extended_key_usage().expect("one").expect("one");
        assert!(extended.value.client_auth && !extended.value.server_auth);
        let seconds = certificate.validity().not_after.timestamp()
            - certificate.validity().not_before.timestamp();
        assert_eq!(seconds, 3600 + 300);
    }

    #[test]
    fn a_request_that_somebody_changed_is_refused() {
        let key = KeyPair::generate().expect("a key");
        let asked = CertificateParams::default()
            .serialize_request(&key)
            .expect("a request");
        let mut der = asked.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let body = BASE64.encode(&der);
        let label = "CERTIFICATE REQUEST";
        let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        assert!(SigningRequest::parse(&pem).is_err());
    }
}
