//! What a backup is encrypted with: nothing, 32 bytes of a file, or a passphrase.
//!
//! Not the encryption. Invariant: a secret is never printed.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aws_lc_rs::pbkdf2;

/// Rounds of PBKDF2-HMAC-SHA-256 for new backups, as OWASP recommends it (2023 to 2026).
const ITERATIONS: u32 = 600_000;
/// A file may ask for up to this many: some seconds. More is damage, or an attempt to keep us busy.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Shorter passphrases are guessed.
const PASSPHRASE_MIN: usize = 12;
/// Files of secrets are small; a device or a wrong path is not read to its end.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A secret that backups are sealed with.
#[derive(Clone)]
pub enum Secret {
    /// None: the backup is readable by everybody who has it.
    None,
    /// 32 random bytes.
    Key([u8; 32]),
    /// Something that people can remember.
    Passphrase(Vec<u8>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().words())
    }
}

/// The kinds of secrets, as the header of a file names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretKind {
    None,
    Key,
    Passphrase,
}

impl SecretKind {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Key => 1,
            Self::Passphrase => 2,
        }
    }

    pub(crate) fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Key),
            2 => Some(Self::Passphrase),
            _ => None,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Key => "key file",
            Self::Passphrase => "passphrase",
        }
    }

    pub(crate) fn admits(self, iterations: u32) -> bool {
        match self {
            Self::None | Self::Key => iterations == 0,
            Self::Passphrase => (1..=ITERATIONS_MAX).contains(&iterations),
        }
    }
}

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Io(PathBuf, #[source] std::io::Error),
    /// The file holds no key.
    #[error(
        "{0} holds no key: a key file has 32 bytes, or 64 hexadecimal digits; make one with `head -c 32 /dev/urandom > FILE`"
    )]
    NoKey(PathBuf),
    /// The passphrase is soon guessed.
    #[error("a passphrase needs at least {PASSPHRASE_MIN} characters")]
    Short,
}

impl Secret {
    /// Reads a key file.
    pub fn key_file(path: &Path) -> Result<Self, SecretError> {
        let bytes = read(path)?;
        let key = match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(key) => key,
            Err(_) => hex::decode(bytes.trim_ascii())
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| SecretError::NoKey(path.to_owned()))?,
        };
        Ok(Self::Key(key))
    }

    /// Reads a passphrase file: its first line.
    pub fn passphrase_file(path: &Path) -> Result<Self, SecretError> {
        let bytes = read(path)?;
        let line = bytes.split(|byte| *byte == b'\n').next();
        Self::passphrase(line.unwrap_or_default().trim_ascii_end().to_vec())
    }

    /// A passphrase.
    pub fn passphrase(words: Vec<u8>) -> Result<Self, SecretError> {
        if words.len() < PASSPHRASE_MIN {
            return Err(SecretError::Short);
        }
        Ok(Self::Passphrase(words))
    }

    pub(crate) fn kind(&self) -> SecretKind {
        match self {
            Self::None => SecretKind::None,
            Self::Key(_) => SecretKind::Key,
            Self::Passphrase(_) => SecretKind::Passphrase,
        }
    }

    /// The rounds for a new file.
    pub(crate) fn iterations(&self) -> u32 {
        match self {
            Self::None | Self::Key(_) => 0,
            Self::Passphrase(_) => ITERATIONS,
        }
    }

    /// What keys are derived from.
    pub(crate) fn material(&self, salt: &[u8], iterations: u32) -> Option<[u8; 32]> {
        match self {
            Self::None => None,
            Self::Key(key) => Some(*key),
            Self::Passphrase(words) => {
                let mut key = [0; 32];
                let rounds = NonZeroU32::new(iterations)?;
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, words, &mut key);
                Some(key)
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SecretError> {
    use std::io::Read as _;
    let failed = |error| SecretError::Io(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_bytes_or_digits_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("key");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).expect("written");
            Secret::key_file(&path)
        };
        assert!(matches!(read(&[7; 32]), Ok(Secret::Key(key)) if key == [7; 32]));
        let digits = format!("{}\n", "07".repeat(32));
        assert!(matches!(read(digits.as_bytes()), Ok(Secret::Key(key)) if key == [7; 32]));
        for bad in [&b""[..], &[7; 31], &[7; 33], &[b'0'; 63], &[b'g'; 64]] {
            let error = read(bad).expect_err("no key").to_string();
            assert!(error.contains("32 bytes"), "{error}");
        }
        std::fs::write(&path, "short\n").expect("written");
        assert!(Secret::passphrase_file(&path).is_err());
        std::fs::write(&path, "long enough for us\nnot this\n").expect("written");
        let Ok(Secret::Passphrase(words)) = Secret::passphrase_file(&path) else {
            panic!("a passphrase");
        };
        assert_eq!(words, b"long enough for us");
        assert_eq!(format!("{:?}", Secret::Passphrase(words)), "passphrase");
    }
}
