//! Keys that sign and verify service-account tokens, as JWTs (RFC 7519) and JWKs (RFC 7517).
//!
//! ECDSA on P-256, P-384 and P-521, and RSA of 2,048 bits and more: what clusters made by others have. A key has one algorithm, and
//! a token that names another one is refused: the algorithm is never taken from the token. It knows nothing of claims. Invariant: `verify`
//! returns a payload only when one of the known keys signed exactly these bytes.

mod public;
mod signer;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

use public::Public;
use signer::Signer;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or not of the expected kind.
    #[error("service-account key is not valid PEM: {0}")]
    Pem(String),
    /// Not a kind of key that tokens are signed with.
    #[error(
        "service-account key is neither ECDSA on P-256, P-384 or P-521 nor RSA of 2,048 bits or more: {0}"
    )]
    Kind(String),
}

/// How a key signs, by the names of RFC 7518.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Es384,
    Es512,
    Rs256,
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
        }
    }
}

/// The signing key and every key that is trusted.
pub struct Keys {
    signer: Signer,
    signing_id: String,
    trusted: Vec<Public>,
}

/// Longer tokens are refused before any work; ours have about 1,000 bytes.
const TOKEN_MAX: usize = 16 * 1024;

impl Keys {
    /// The private key in PEM (PKCS#8, SEC 1 or PKCS#1); the keys in further PEMs, public ones, certificates' or those of private
    /// keys, are trusted too, for rotation.
    pub fn new(private_pem: &str, public_pems: &[String]) -> Result<Self, KeyError> {
        let signer = Signer::of_pem(private_pem)?;
        let own = signer.public()?;
        let signing_id = own.id.clone();
        let mut trusted = vec![own];
        for pem in public_pems {
            for key in public::all_of_pem(pem)? {
                if trusted.iter().all(|known| known.id != key.id) {
                    trusted.push(key);
                }
            }
        }
        Ok(Self {
            signer,
            signing_id,
            trusted,
        })
    }

    /// Signs claims into a compact JWT.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.signer.algorithm().name(), "kid": self.signing_id});
        let encode = |value: &Value| BASE64URL.encode(value.to_string());
        let mut token = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.signer.sign(token.as_bytes());
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
        let signature = BASE64URL.decode(signature).ok()?;
        let mut candidates = self.trusted.iter().filter(|key| {
            let named = header["kid"].is_null() || header["kid"] == *key.id;
            named && header["alg"] == key.algorithm.name()
        });
        candidates
            .any(|key| key.verifies(signed.as_bytes(), &signature))
            .then(|| decode(payload))
            .flatten()
    }

    /// The public keys as a JWK set.
    pub fn jwks(&self) -> Value {
        let keys: Vec<_> = self.trusted.iter().map(Public::jwk).collect();
        json!({"keys": keys})
    }
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}
