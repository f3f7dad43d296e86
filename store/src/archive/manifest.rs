//! What is written beside a backup: enough to choose one, and to find it changed, without reading it.
//!
//! Not needed to decrypt. Invariant: it is written last, so a backup that has one was whole and verified; and that of an
//! encrypted backup is authenticated with the same secret, so nobody can pass an old backup off as a new one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::ManifestKey;

/// What a manifest's name adds to that of the backup.
pub(crate) const SUFFIX: &str = ".json";
/// What the name of a backup ends with.
pub(crate) const FILE_SUFFIX: &str = ".corten";
/// What it begins with; other files of a folder are none of ours.
pub(crate) const FILE_PREFIX: &str = "corten-";
/// A manifest has some hundred bytes.
pub(crate) const BYTES_MAX: usize = 64 << 10;
const FORMAT: u32 = 1;

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this message: 1.
    pub format: u32,
    /// Name of the file that it is about.
    pub file: String,
    /// The cluster, in hexadecimal as etcdctl shows it.
    pub cluster_id: String,
    /// The member that it was taken from, likewise.
    pub member_id: String,
    /// When it was begun, by the clock of the host that took it.
    pub taken_at: Timestamp,
    /// The newest revision in it.
    pub revision: i64,
    /// Everything before it had been compacted.
    pub compacted_revision: i64,
    /// Rows in it.
    pub rows: u64,
    /// Keys that live at its revision.
    pub keys: u64,
    /// The member's `HashKV` at `revision`, and the same found in the backup after it was written.
    pub hash_kv: u32,
    /// The compacted revision that `hash_kv` was made with.
    pub hash_kv_compacted_revision: i64,
    /// Bytes before compression.
    pub content_bytes: u64,
    /// Bytes of the file.
    pub stored_bytes: u64,
    /// SHA-256 of the file.
    pub stored_sha256: String,
    /// How it is compressed.
    pub compression: String,
    /// What it is encrypted with: `nothing`, `key file` or `passphrase`.
    pub encryption: String,
    /// The etcd version whose API the member speaks.
    pub etcd_version: String,
    /// The version of Corten that took it.
    pub corten_version: String,
    /// HMAC-SHA-256 over the rest, if it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Why a manifest cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("the manifest is damaged")]
    Damaged(#[source] serde_json::Error),
    /// It is of another version.
    #[error("the manifest is of format {0}, this version knows {FORMAT}")]
    Format(u32),
    /// It was changed, or is of another backup.
    #[error("the manifest does not belong to this backup: it was changed, or the backup was")]
    Code,
    /// The file is another one.
    #[error("the file has not the {what} that its manifest says: {found}, not {expected}")]
    Differs {
        /// What differs.
        what: &'static str,
        /// In the file.
        found: String,
        /// In the manifest.
        expected: String,
    },
}

impl Manifest {
    pub(crate) fn new_format() -> u32 {
        FORMAT
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Damaged)?;
        if manifest.format == FORMAT {
            Ok(manifest)
        } else {
            Err(ManifestError::Format(manifest.format))
        }
    }

    /// The bytes as they are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("numbers and text are JSON");
        bytes.push(b'\n');
        bytes
    }

    fn authenticated(&self) -> Vec<u8> {
        Self {
            code: None,
            ..self.clone()
        }
        .encode()
    }

    pub(crate) fn sign(&mut self, key: &ManifestKey) {
        self.code = Some(key.sign(&self.authenticated()));
    }

    pub(crate) fn check_code(&self, key: Option<&ManifestKey>) -> Result<(), ManifestError> {
        let good = match (key, &self.code) {
            (None, None) => true,
            (Some(key), Some(code)) => key.verify(&self.authenticated(), code),
            _ => false,
        };
        if good {
            Ok(())
        } else {
            Err(ManifestError::Code)
        }
    }

    pub(crate) fn compare<T: PartialEq + ToString>(
        what: &'static str,
        found: &T,
        expected: &T,
    ) -> Result<(), ManifestError> {
        if found == expected {
            return Ok(());
        }
        Err(ManifestError::Differs {
            what,
            found: found.to_string(),
            expected: expected.to_string(),
        })
    }
}

/// The name of a new backup. Readable in order within a cluster, but nothing goes by that order: clocks step back.
pub(crate) fn file_name(cluster: u64, at: Timestamp, revision: i64, salt: u16) -> String {
    let at = at.strftime("%Y%m%dT%H%M%SZ");
    format!("{FILE_PREFIX}{cluster:x}-{at}-r{revision}-{salt:04x}{FILE_SUFFIX}")
}

/// The manifest of a backup.
pub(crate) fn name_of(file: &str) -> String {
    format!("{file}{SUFFIX}")
}

/// The backup of a manifest, if the name is one.
pub(crate) fn file_of(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX).filter(|file| is_backup(file))
}

/// Whether a name is one of ours.
pub(crate) fn is_backup(name: &str) -> bool {
    name.starts_with(FILE_PREFIX) && name.ends_with(FILE_SUFFIX)
}
