//! TLS by rustls on aws-lc: mTLS configurations whose certificates and CA are read again when the files change, so that
//! rotation needs no restart. Connections that stand keep what they were made with.

mod reload;
mod server;
mod unverified;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use server::{TlsListener, accept};
pub use unverified::unverified_client_config;

/// The three files that mTLS needs, PEM each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// The CA bundle that peers must chain to.
    pub ca: PathBuf,
    /// Own certificate chain, leaf first.
    pub cert: PathBuf,
    /// Own private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
}

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate, no connection.
    Required,
    /// Verified when sent; the application decides about the rest.
    Optional,
    /// Not asked for.
    None,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is missing or unreadable.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The material does not fit together.
    #[error("TLS material in {path} is not usable: {reason}")]
    Material {
        /// The file at fault, as far as is known.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A certificate could not be parsed.
    #[error("certificate is not valid X.509: {0}")]
    Certificate(String),
}

/// Makes aws-lc the process's crypto provider. Every `build` calls it; later calls do nothing.
pub fn install_provider() {
    // An error only says that a provider is installed already, which is the wanted state.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Which certificates of the authority a server lets in; the default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// With one of these common names.
    pub common_names: Vec<String>,
    /// Or with one of these among their DNS names and IP addresses.
    pub names: Vec<String>,
}

impl Admitted {
    /// Whether the holder of a certificate may come in.
    pub fn admits(&self, identity: &PeerIdentity) -> bool {
        let all = self.common_names.is_empty() && self.names.is_empty();
        let named = || self.names.iter().any(|name| identity.sans.contains(name));
        all || self.common_names.contains(&identity.common_name) || named()
    }
}

/// A server configuration that follows its files. ALPN offers h2 and http/1.1.
pub fn server_config(
    files: &TlsFiles,
    auth: ClientAuth,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    server_config_for(files, auth, Admitted::default())
}

/// The same for some of those with a certificate alone.
pub fn server_config_for(
    files: &TlsFiles,
    auth: ClientAuth,
    admitted: Admitted,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    install_provider();
    let material = Arc::new(reload::Material::load(files, auth != ClientAuth::None)?);
    let builder = rustls::ServerConfig::builder();
    let mut config = match auth {
        ClientAuth::None => builder.with_no_client_auth().with_cert_resolver(material),
        ClientAuth::Required | ClientAuth::Optional => builder
            .with_client_cert_verifier(Arc::new(reload::ClientVerifier {
                material: Arc::clone(&material),
                mandatory: auth == ClientAuth::Required,
                admitted,
            }))
            .with_cert_resolver(material),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client configuration that follows its files. ALPN is left empty: set it on a clone where the protocol needs it.
pub fn client_config(files: &TlsFiles) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    install_provider();
    let material = Arc::new(reload::Material::load(files, true)?);
    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(reload::ServerVerifier {
            material: Arc::clone(&material),
        }))
        .with_client_cert_resolver(material);
    Ok(Arc::new(config))
}

/// Who a certificate says its holder is, in Kubernetes' terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Subject CN: the user name.
    pub common_name: String,
    /// Subject O, in order: the groups.
    pub organizations: Vec<String>,
    /// DNS names and IP addresses of the subject alternative name, as text.
    pub sans: Vec<String>,
    /// SHA-256 of the certificate: names this one among all of the same holder.
    pub fingerprint: [u8; 32],
}

/// Reads the identity out of a (verified) leaf certificate.
pub fn peer_identity(cert: &CertificateDer<'_>) -> Result<PeerIdentity, TlsError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(cert)
        .map_err(|e| TlsError::Certificate(e.to_string()))?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().map(str::to_owned).unwrap_or_default()
    };
    let subject = parsed.subject();
    let mut sans = Vec::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                x509_parser::extensions::GeneralName::DNSName(dns) => sans.push((*dns).to_owned()),
                x509_parser::extensions::GeneralName::IPAddress(raw) => sans.extend(ip_text(raw)),
                _ => {}
            }
        }
    }
    Ok(PeerIdentity {
        common_name: subject
            .iter_common_name()
            .next()
            .map(&text)
            .unwrap_or_default(),
        organizations: subject.iter_organization().map(&text).collect(),
        sans,
        fingerprint: Sha256::digest(cert).into(),
    })
}

fn ip_text(raw: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(raw) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(raw)
        .ok()
        .map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

#[cfg(test)]
mod tests;
