//! A public key: what it is called, what it verifies, and how it is published.
//!
//! Invariant: the name (`kid`) is the hash of the key's SPKI form, as upstream's is, so that several servers with the same key agree.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::signer::Signer;
use super::{Algorithm, KeyError};

/// Below this RSA is not safe any more.
const RSA_BITS_MIN: usize = 2048;

/// One trusted key.
pub(super) struct Public {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    /// What signatures are checked with: a point, or an `RSAPublicKey`.
    key: Vec<u8>,
    numbers: Numbers,
}

/// What a JWK says of a key, big-endian.
enum Numbers {
    Ec { x: Vec<u8>, y: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl Public {
    /// From a SubjectPublicKeyInfo in DER.
    pub(super) fn of_spki(der: &[u8]) -> Result<Self, KeyError> {
        let wrong = |what: &str| KeyError::Kind(what.to_owned());
        let (rest, info) = SubjectPublicKeyInfo::from_der(der)
            .map_err(|error| KeyError::Kind(error.to_string()))?;
        if !rest.is_empty() {
            return Err(wrong("bytes follow it"));
        }
        let parsed = info
            .parsed()
            .map_err(|error| KeyError::Kind(error.to_string()))?;
        let (algorithm, numbers) = match parsed {
            PublicKey::RSA(key) => {
                if key.key_size() < RSA_BITS_MIN {
                    return Err(wrong("it is too short"));
                }
                let number = |bytes: &[u8]| trimmed(bytes).to_vec();
                let (n, e) = (number(key.modulus), number(key.exponent));
                (Algorithm::Rs256, Numbers::Rsa { n, e })
            }
            PublicKey::EC(point) => {
                let (form, halves) = point.data().split_first().unwrap_or((&0, &[]));
                let algorithm = match (form, halves.len() / 2) {
                    (4, 32) => Algorithm::Es256,
                    (4, 48) => Algorithm::Es384,
                    (4, 66) => Algorithm::Es512,
                    _ => return Err(wrong("another curve")),
                };
                let (x, y) = halves.split_at(halves.len() / 2);
                let (x, y) = (x.to_vec(), y.to_vec());
                (algorithm, Numbers::Ec { x, y })
            }
            _ => return Err(wrong("another algorithm")),
        };
        let key = Self {
            id: BASE64URL.encode(Sha256::digest(der)),
            algorithm,
            key: info.subject_public_key.data.to_vec(),
            numbers,
        };
        // Curves of the same size exist; what cannot be parsed by whom it is meant for is of another one.
        let parsed =
            aws_lc_rs::signature::ParsedPublicKey::new(key.verification(), &key.key).is_ok();
        parsed.then_some(key).ok_or_else(|| wrong("another curve"))
    }

    fn verification(&self) -> &'static dyn VerificationAlgorithm {
        match self.algorithm {
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
            Algorithm::Es512 => &ECDSA_P521_SHA512_FIXED,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        }
    }

    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(self.verification(), &self.key);
        public.verify(signed, signature).is_ok()
    }

    /// RFC 7518, section 6.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = json!({"use": "sig", "kid": self.id, "alg": self.algorithm.name()});
        match &self.numbers {
            Numbers::Ec { x, y } => {
                jwk["kty"] = "EC".into();
                jwk["crv"] = match self.algorithm {
                    Algorithm::Es384 => "P-384",
                    Algorithm::Es512 => "P-521",
                    _ => "P-256",
                }
                .into();
                jwk["x"] = BASE64URL.encode(x).into();
                jwk["y"] = BASE64URL.encode(y).into();
            }
            Numbers::Rsa { n, e } => {
                jwk["kty"] = "RSA".into();
                jwk["n"] = BASE64URL.encode(n).into();
                jwk["e"] = BASE64URL.encode(e).into();
            }
        }
        jwk
    }
}

/// A number without the zeros that DER puts before it.
fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// All keys of a PEM file: public ones, those of certificates, and the public halves of private ones.
pub(super) fn all_of_pem(pem: &str) -> Result<Vec<Public>, KeyError> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        let (kind, der) = section.map_err(|error| KeyError::Pem(error.to_string()))?;
        keys.push(match kind {
            SectionKind::PublicKey => Public::of_spki(&der)?,
            SectionKind::Certificate => {
                let (_, certificate) = x509_parser::parse_x509_certificate(&der)
                    .map_err(|error| KeyError::Kind(error.to_string()))?;
                Public::of_spki(certificate.public_key().raw)?
            }
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                Signer::of_der(kind, &der)?.public()?
            }
            // Files of EC keys often begin with a section that names the curve.
            _ => continue,
        });
    }
    match keys.is_empty() {
        true => Err(KeyError::Pem("there is no key in it".to_owned())),
        false => Ok(keys),
    }
}
