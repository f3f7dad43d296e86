//! Keys that sign and verify service-account tokens: ES256 only, as JWTs (RFC 7519) and JWKs (RFC 7517).
//!
//! The algorithm is fixed, never taken from the token: a token that names another one is refused. It knows nothing of
//! claims. Invariant: `verify` returns a payload only when one of the known keys signed exactly these bytes.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or not of the expected kind.
    #[error("service-account key is not valid PEM: {0}")]
    Pem(String),
    /// Not an ECDSA key on P-256.
    #[error("service-account key is not an ECDSA P-256 key: {0}")]
    Curve(String),
}

/// The signing key and every key that is trusted.
pub struct Keys {
    signing: EcdsaKeyPair,
    signing_id: String,
    trusted: Vec<Trusted>,
    random: SystemRandom,
}

struct Trusted {
    id: String,
    /// 0x04, x, y.
    point: Vec<u8>,
}

/// SPKI header of an uncompressed P-256 point: the same for every such key.
const SPKI_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Longer tokens are refused before any work; ours have about 1,000 bytes.
const TOKEN_MAX: usize = 16 * 1024;

impl Trusted {
    fn new(point: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(SPKI_HEADER);
        hash.update(point);
        Self {
            id: BASE64URL.encode(hash.finalize()),
            point: point.to_vec(),
        }
    }
}

impl Keys {
    /// The private key in PKCS#8 PEM; further public keys in SPKI PEM are trusted too, for rotation.
    pub fn new(private_pem: &str, public_pems: &[String]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(private_pem.as_bytes())
            .map_err(|error| KeyError::Pem(error.to_string()))?;
        let signing =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
                .map_err(|error| KeyError::Curve(error.to_string()))?;
        let own = Trusted::new(signing.public_key().as_ref());
        let signing_id = own.id.clone();
        let mut trusted = vec![own];
        for pem in public_pems {
            for der in SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()) {
                let der = der.map_err(|error| KeyError::Pem(error.to_string()))?;
                let point = der
                    .strip_prefix(&SPKI_HEADER)
                    .ok_or_else(|| KeyError::Curve("another algorithm or curve".to_owned()))?;
                let key = Trusted::new(point);
                if trusted.iter().all(|known| known.id != key.id) {
                    trusted.push(key);
                }
            }
        }
        Ok(Self {
            signing,
            signing_id,
            trusted,
            random: SystemRandom::new(),
        })
    }

    /// Signs claims into a compact JWT.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.signing_id});
        let encode = |value: &Value| BASE64URL.encode(value.to_string());
        let mut token = format!("{}.{}", encode(&header), encode(claims));
        let signature = self
            .signing
            .sign(&self.random, token.as_bytes())
            .expect("signing with a key that was checked when loaded cannot fail");
        token.push('.');
        token.push_str(&BASE64URL.encode(signature));
        token
    }

    /// The claims of a token that one of the trusted keys signed.
    pub fn verify(&self, token: &str) -> Option<Value> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header = decode(header)?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = BASE64URL.decode(signature).ok()?;
        let candidates = self
            .trusted
            .iter()
            .filter(|key| header["kid"].is_null() || header["kid"] == *key.id);
        let verified = |key: &Trusted| {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point);
            public.verify(signed.as_bytes(), &signature).is_ok()
        };
        candidates
            .into_iter()
            .any(verified)
            .then(|| decode(payload))
            .flatten()
    }

    /// The public keys as a JWK set.
    pub fn jwks(&self) -> Value {
        let keys = self.trusted.iter().map(|key| {
            let (x, y) = key.point[1..].split_at(32);
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": BASE64URL.encode(x), "y": BASE64URL.encode(y),
            })
        });
        json!({"keys": keys.collect::<Vec<_>>()})
    }
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}
