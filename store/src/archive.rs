//! Backups as an operator keeps them: taken from a running member, compressed, encrypted when asked, checked by reading
//! them back, in a folder or an S3-compatible bucket; and opened again for a restore.
//!
//! Not the content, which is what `Maintenance.Snapshot` streams (`replica::backup`), nor the making of a data folder
//! (`restore`). Invariant: a backup has its manifest only after it was read back from where it lies, decrypted, every row
//! checked and the hash over all keys found equal to the member's; what has no manifest is no backup.
//!
//! ```text
//!   member ── Snapshot ──▶ zstd ──▶ seal ──▶ temporary file ──▶ NAME.corten ──▶ NAME.corten.json
//!                                               └── read back, HashKV ──┘         (the manifest, last)
//! ```

mod bolt;
pub(crate) mod etcd;
mod file;
mod key;
mod manifest;
mod place;
mod retention;
mod seal;
mod take;

pub use bolt::BoltError;
pub use etcd::EtcdError;
pub use file::{OpenError, open};
#[cfg(test)]
pub(crate) use file::{pack_for_tests, seal_for_tests};
pub use key::{Secret, SecretError};
pub use manifest::{Manifest, ManifestError};
#[cfg(test)]
pub(crate) use place::s3::read_for_tests as read_bucket_for_tests;
pub use place::s3::{Credentials, S3, S3Error, S3Options};
pub use place::{Place, PlaceError};
pub use retention::{Kept, Retained, found, retain};
pub use seal::SealError;
pub use take::{
    Login, Source, SourceError, TakeError, TakeOptions, Taken, VerifyError, fetch, take, verify,
    verify_file,
};
