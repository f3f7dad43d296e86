//! The private key.
//!
//! Invariant: a key that was loaded can sign.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RSA_PKCS1_SHA256,
};
use rustls::pki_types::pem::{PemObject, SectionKind};

use super::public::Public;
use super::{Algorithm, KeyError};

/// The curves that tokens are signed on.
const CURVES: [(&EcdsaSigningAlgorithm, Algorithm); 3] = [
    (&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::Es256),
    (&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::Es384),
    (&ECDSA_P521_SHA512_FIXED_SIGNING, Algorithm::Es512),
];

/// Signs.
pub(super) struct Signer {
    key: Key,
    random: SystemRandom,
}

enum Key {
    Ec(EcdsaKeyPair, Algorithm),
    Rsa(RsaKeyPair),
}

impl Signer {
    /// The first private key of a PEM file.
    pub(super) fn of_pem(pem: &str) -> Result<Self, KeyError> {
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
            let (kind, der) = section.map_err(|error| KeyError::Pem(error.to_string()))?;
            let private = matches!(
                kind,
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
            );
            if private {
                return Self::of_der(kind, &der);
            }
        }
        Err(KeyError::Pem("there is no private key in it".to_owned()))
    }

    /// `kind` says what form the bytes have.
    pub(super) fn of_der(kind: SectionKind, der: &[u8]) -> Result<Self, KeyError> {
        let key = match kind {
            SectionKind::PrivateKey => of_pkcs8(der),
            SectionKind::RsaPrivateKey => RsaKeyPair::from_der(der).ok().map(Key::Rsa),
            SectionKind::EcPrivateKey => CURVES.iter().find_map(|(curve, algorithm)| {
                let key = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
                Some(Key::Ec(key, *algorithm))
            }),
            _ => None,
        };
        let unknown = || KeyError::Kind("it cannot be read as either".to_owned());
        Ok(Self {
            key: key.ok_or_else(unknown)?,
            random: SystemRandom::new(),
        })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match &self.key {
            Key::Ec(_, algorithm) => *algorithm,
            Key::Rsa(_) => Algorithm::Rs256,
        }
    }

    /// The other half.
    pub(super) fn public(&self) -> Result<Public, KeyError> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.key {
            Key::Ec(key, _) => key.public_key().as_der(),
            Key::Rsa(key) => key.public_key().as_der(),
        };
        let der = der.map_err(|error| KeyError::Kind(error.to_string()))?;
        Public::of_spki(der.as_ref())
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        const CHECKED: &str = "signing with a key that was checked when loaded cannot fail";
        match &self.key {
            Key::Ec(key, _) => {
                let signature = key.sign(&self.random, message).expect(CHECKED);
                signature.as_ref().to_vec()
            }
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature)
                    .expect(CHECKED);
                signature
            }
        }
    }
}

fn of_pkcs8(der: &[u8]) -> Option<Key> {
    let on_curve = CURVES.iter().find_map(|(curve, algorithm)| {
        let key = EcdsaKeyPair::from_pkcs8(curve, der).ok()?;
        Some(Key::Ec(key, *algorithm))
    });
    on_curve.or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(Key::Rsa))
}
