//! Certificates that follow their files: every handshake asks here, and at most once in [`RECHECK`] the files' change times
//! are looked at. A file that has become unreadable keeps the last good material in use and is logged.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};

use super::{Admitted, TlsError, TlsFiles, peer_identity};

/// How stale a changed file may be seen. Rotation tools write files minutes to days ahead of need.
const RECHECK: Duration = Duration::from_secs(5);

/// What the files held when they were read last.
#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    servers: Option<Arc<WebPkiServerVerifier>>,
}

#[derive(Debug)]
struct Seen {
    checked: Instant,
    modified: [Option<SystemTime>; 3],
}

/// The owner of one set of files.
#[derive(Debug)]
pub(super) struct Material {
    files: TlsFiles,
    with_ca: bool,
    loaded: ArcSwap<Loaded>,
    seen: Mutex<Seen>,
}

impl Material {
    pub(super) fn load(files: &TlsFiles, with_ca: bool) -> Result<Self, TlsError> {
        let modified = modified(files);
        Ok(Self {
            loaded: ArcSwap::from_pointee(read(files, with_ca)?),
            files: files.clone(),
            with_ca,
            seen: Mutex::new(Seen {
                checked: Instant::now(),
                modified,
            }),
        })
    }

    fn current(&self) -> Arc<Loaded> {
        self.refresh();
        self.loaded.load_full()
    }

    fn refresh(&self) {
        let Some(mut seen) = self.seen.try_lock() else {
            return; // another handshake is looking
        };
        if seen.checked.elapsed() < RECHECK {
            return;
        }
        seen.checked = Instant::now();
        let now = modified(&self.files);
        if now == seen.modified {
            return;
        }
        match read(&self.files, self.with_ca) {
            Ok(loaded) => {
                self.loaded.store(Arc::new(loaded));
                seen.modified = now;
                tracing::info!(cert = %self.files.cert.display(), "TLS material read again");
            }
            Err(error) => {
                tracing::warn!(%error, "TLS material changed but is not usable; keeping the old")
            }
        }
    }
}

fn modified(files: &TlsFiles) -> [Option<SystemTime>; 3] {
    [&files.ca, &files.cert, &files.key]
        .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn read(files: &TlsFiles, with_ca: bool) -> Result<Loaded, TlsError> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| TlsError::Read {
        path: files.key.clone(),
        reason: e.to_string(),
    })?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(|e| TlsError::Material {
        path: files.cert.clone(),
        reason: e.to_string(),
    })?;
    let (clients, servers) = if with_ca {
        verifiers(&files.ca)?
    } else {
        (None, None)
    };
    Ok(Loaded {
        key: Arc::new(key),
        clients,
        servers,
    })
}

type Verifiers = (
    Option<Arc<dyn ClientCertVerifier>>,
    Option<Arc<WebPkiServerVerifier>>,
);

fn verifiers(ca: &Path) -> Result<Verifiers, TlsError> {
    let unusable = |reason: String| TlsError::Material {
        path: ca.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots
            .add(certificate)
            .map_err(|e| unusable(e.to_string()))?;
    }
    let roots = Arc::new(roots);
    let clients = WebPkiClientVerifier::builder(Arc::clone(&roots))
        .build()
        .map_err(|e| unusable(e.to_string()))?;
    let servers = WebPkiServerVerifier::builder(roots)
        .build()
        .map_err(|e| unusable(e.to_string()))?;
    Ok((Some(clients), Some(servers)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::Read {
        path: path.to_owned(),
        reason,
    };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|e| failed(e.to_string()))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed(e.to_string()))?;
    if found.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    Ok(found)
}

impl ResolvesServerCert for Material {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().key))
    }
}

impl ResolvesClientCert for Material {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

const NO_CA: rustls::Error = rustls::Error::General(String::new());

#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) material: Arc<Material>,
    pub(super) mandatory: bool,
    pub(super) admitted: Admitted,
}

impl ClientVerifier {
    fn inner(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        self.material.current().clients.clone().ok_or(NO_CA)
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    // Hints are optional in TLS, and a borrowed slice could not follow a reload.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner()?
            .verify_client_cert(end_entity, intermediates, now)?;
        // What cannot be read has no name that would let it in.
        let identity = peer_identity(end_entity).unwrap_or_default();
        if !self.admitted.admits(&identity) {
            let refused = CertificateError::ApplicationVerificationFailure;
            return Err(rustls::Error::InvalidCertificate(refused));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner()
            .map(|v| v.supported_verify_schemes())
            .unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) material: Arc<Material>,
}

impl ServerVerifier {
    fn inner(&self) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        self.material.current().servers.clone().ok_or(NO_CA)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner()?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner()
            .map(|v| v.supported_verify_schemes())
            .unwrap_or_default()
    }
}
