//! The cluster's certificate authority: makes it, loads it, issues certificates to files. Keys are ECDSA P-256, written with
//! mode 0600, and every file appears whole (written aside, then renamed).

mod requests;

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
pub use requests::{SigningRequest, Subject};

/// Clocks of hosts differ: a certificate is valid from a little before it was made.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// The CA outlives the hosts; leaves are renewed by whoever holds the CA.
const CA_VALIDITY: Duration = Duration::from_secs(10 * YEAR.as_secs());

/// Why a certificate could not be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The library refused.
    #[error("cannot make certificate {name}: {source}")]
    Make {
        /// Subject of the certificate.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A file could not be read or written.
    #[error("cannot access {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// TLS server.
    Server,
    /// TLS client.
    #[default]
    Client,
    /// Both, as store members need.
    Both,
}

/// What a certificate shall say.
#[derive(Clone, Debug)]
pub struct CertRequest {
    /// Subject CN: the user name of a client.
    pub common_name: String,
    /// Subject O: the groups of a client.
    pub organizations: Vec<String>,
    /// DNS names of a server.
    pub dns_names: Vec<String>,
    /// IP addresses of a server.
    pub ips: Vec<IpAddr>,
    /// Extended key usage.
    pub usage: Usage,
    /// How long it is good for.
    pub valid_for: Duration,
}

impl Default for CertRequest {
    fn default() -> Self {
        Self {
            common_name: String::new(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            ips: Vec::new(),
            usage: Usage::default(),
            valid_for: YEAR,
        }
    }
}

/// A fresh certificate with its key, PEM each.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// Its PKCS#8 private key.
    pub key_pem: String,
}

/// A certificate authority with its key in memory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    key_pem: String,
}

impl Authority {
    /// Makes a new self-signed authority.
    pub fn create(common_name: &str) -> Result<Self, PkiError> {
        let fail = |source| PkiError::Make {
            name: common_name.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        set_validity(&mut params, CA_VALIDITY);
        let cert = params.self_signed(&key).map_err(fail)?;
        let (cert_pem, key_pem) = (cert.pem(), key.serialize_pem());
        Ok(Self {
            issuer: Issuer::new(params, key),
            cert_pem,
            key_pem,
        })
    }

    /// Reads `<dir>/<name>.crt` and `<dir>/<name>.key`.
    pub fn load(dir: &Path, name: &str) -> Result<Self, PkiError> {
        let at = |ending: &str| dir.join(format!("{name}.{ending}"));
        Self::read(&at("crt"), &at("key"))
    }

    fn from_pem(name: String, cert_pem: String, key_pem: String) -> Result<Self, PkiError> {
        let make = || {
            let key = KeyPair::from_pem(&key_pem)?;
            Issuer::from_ca_cert_pem(&cert_pem, key)
        };
        let issuer = make().map_err(|source| PkiError::Make { name, source })?;
        Ok(Self {
            issuer,
            cert_pem,
            key_pem,
        })
    }

    /// Writes `<dir>/<name>.crt` and `<dir>/<name>.key`.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(), PkiError> {
        write_private(&dir.join(format!("{name}.key")), &self.key_pem)?;
        write_public(&dir.join(format!("{name}.crt")), &self.cert_pem)
    }

    /// The authority's own certificate.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Issues a certificate with a fresh key.
    pub fn issue(&self, request: &CertRequest) -> Result<Issued, PkiError> {
        let fail = |source| PkiError::Make {
            name: request.common_name.clone(),
            source,
        };
        let key = KeyPair::generate().map_err(fail)?;
        let mut params = CertificateParams::new(request.dns_names.clone()).map_err(fail)?;
        params
            .subject_alt_names
            .extend(request.ips.iter().map(|ip| SanType::IpAddress(*ip)));
        params.distinguished_name = subject(&request.common_name, &request.organizations);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, request.valid_for);
        let cert = params.signed_by(&key, &self.issuer).map_err(fail)?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Issues into two files, the key first so that a new certificate never stands beside an old key for long.
    pub fn issue_to_files(
        &self,
        request: &CertRequest,
        cert: &Path,
        key: &Path,
    ) -> Result<(), PkiError> {
        let issued = self.issue(request)?;
        write_private(key, &issued.key_pem)?;
        write_public(cert, &issued.cert_pem)
    }
}

/// A fresh ECDSA P-256 key pair as (private PKCS#8 PEM, public SPKI PEM), as service-account tokens are signed with.
pub fn signing_key_pair() -> Result<(String, String), PkiError> {
    let key = KeyPair::generate().map_err(|source| PkiError::Make {
        name: "signing key".to_owned(),
        source,
    })?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    write(path, text, 0o600)
}

/// Writes a file that everyone may read, whole or not at all.
pub fn write_public(path: &Path, text: &str) -> Result<(), PkiError> {
    write(path, text, 0o644)
}

fn subject(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(params: &mut CertificateParams, valid_for: Duration) {
    let now = std::time::SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + valid_for).into();
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let fail = |source| PkiError::File {
        path: path.to_owned(),
        source,
    };
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let write_all = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write_all().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_authority_issues_what_a_created_one_does() {
        let dir = tempfile::tempdir().expect("temp dir");
        Authority::create("corten-ca")
            .expect("create")
            .write(dir.path(), "ca")
            .expect("write");
        let authority = Authority::load(dir.path(), "ca").expect("load");
        let request = CertRequest {
            common_name: "kubernetes-admin".to_owned(),
            organizations: vec!["system:masters".to_owned()],
            ..CertRequest::default()
        };
        let issued = authority.issue(&request).expect("issue");
        assert!(issued.cert_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(issued.key_pem.contains("PRIVATE KEY"));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(dir.path().join("ca.key"))
                .expect("stat")
                .permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
