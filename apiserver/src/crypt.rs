//! Encryption of values at rest: AES-256-GCM with a random nonce, bound to the key under which the value lies.
//!
//! It does not rotate keys yet; the prefix leaves the place for another. Invariant: a value below an encrypted prefix is
//! never written in the clear when a key is configured, and a sealed value moved to another key does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use bytes::{Bytes, BytesMut};

/// In front of every sealed value: who sealed it, and in which layout.
const SEAL: &[u8] = b"k8s:enc:corten:v1:";
/// Where values are encrypted: Secrets.
pub const ENCRYPTED_PREFIXES: [&str; 1] = ["/registry/secrets/"];

/// Why a value or a key file cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CryptError {
    #[error("the encryption key must be 32 bytes, written in base64")]
    Key,
    #[error("the value was sealed with another key, or has been tampered with")]
    Authentication,
    #[error("the value is sealed, but no encryption key is configured")]
    NoKey,
}

/// The key that seals values.
pub struct Crypt {
    key: RandomizedNonceKey,
}

impl Crypt {
    /// From the text of the key file: 32 bytes in base64.
    pub fn from_base64(text: &str) -> Result<Self, CryptError> {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(text.trim())
            .map_err(|_| CryptError::Key)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| CryptError::Key)?;
        Ok(Self { key })
    }

    /// Seals a value if its key asks for it.
    pub fn seal(&self, key: &str, value: &Bytes) -> Result<Bytes, CryptError> {
        if !ENCRYPTED_PREFIXES
            .iter()
            .any(|prefix| key.starts_with(prefix))
        {
            return Ok(value.clone());
        }
        let mut sealed = value.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(key.as_bytes()), &mut sealed)
            .map_err(|_| CryptError::Authentication)?;
        let mut out = BytesMut::with_capacity(SEAL.len() + NONCE_LEN + sealed.len());
        out.extend_from_slice(SEAL);
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&sealed);
        Ok(out.freeze())
    }

    /// Opens a sealed value; others pass, so that a key may be introduced later.
    pub fn open(&self, key: &str, value: Bytes) -> Result<Bytes, CryptError> {
        let Some(sealed) = value.strip_prefix(SEAL) else {
            return Ok(value);
        };
        let (nonce, sealed) = sealed
            .split_at_checked(NONCE_LEN)
            .ok_or(CryptError::Authentication)?;
        let nonce =
            Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptError::Authentication)?;
        let mut plain = sealed.to_vec();
        let length = self
            .key
            .open_in_place(nonce, Aad::from(key.as_bytes()), &mut plain)
            .map_err(|_| CryptError::Authentication)?
            .len();
        plain.truncate(length);
        Ok(plain.into())
    }

    /// Without a key, a sealed value must not be taken for an object.
    pub fn refuse_sealed(value: Bytes) -> Result<Bytes, CryptError> {
        if value.starts_with(SEAL) {
            return Err(CryptError::NoKey);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crypt(byte: u8) -> Crypt {
        let text = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        Crypt::from_base64(&text).unwrap()
    }

    #[test]
    fn seals_secrets_only_and_opens_them() {
        let value = Bytes::from_static(b"{\"kind\":\"Secret\"}");
        let key = "/registry/secrets/a/b";
        let sealed = crypt(1).seal(key, &value).unwrap();
        assert!(sealed.starts_with(SEAL));
        assert_eq!(crypt(1).open(key, sealed.clone()).unwrap(), value);
        assert_eq!(crypt(1).seal("/registry/pods/a/b", &value).unwrap(), value);
        assert!(crypt(2).open(key, sealed.clone()).is_err(), "another key");
        assert!(
            crypt(1)
                .open("/registry/secrets/a/c", sealed.clone())
                .is_err(),
            "moved"
        );
        assert!(Crypt::refuse_sealed(sealed).is_err());
        assert!(Crypt::from_base64("c2hvcnQ=").is_err());
    }
}
