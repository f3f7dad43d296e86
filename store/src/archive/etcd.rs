//! The content of etcd's own snapshots: its keys with their history, and its leases.
//!
//! Not its members, alarms and log, which a new cluster does not want, nor its users (their passwords are hashed in another
//! way). Invariant: nothing is taken from a file whose SHA-256, which ends it, does not match.

use std::fs::File;
use std::io;

use bytes::{Buf as _, Bytes};
use corten_proto::etcd::mvccpb::KeyValue;
use corten_store_core::backend::{Backend, BackendError};
use corten_store_core::{Imported, Importer, LeaseId, LeaseRecord, Revision};
use prost::Message;
use sha2::{Digest as _, Sha256};

use super::bolt::{self, Bolt, BoltError, Source};

const HASH_LEN: u64 = 32;
/// The file itself is a multiple of this.
const BLOCK: u64 = 512;
const CHUNK: usize = 1 << 20;
/// A row's name: revision, `_`, number within it; and `t` when it deletes.
const NAME_LEN: usize = 17;
const DELETES: u8 = b't';

/// Why a snapshot of etcd is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The file cannot be read, or it is damaged.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// It was not made by `etcdctl snapshot save`.
    #[error(
        "the file does not end with a hash: it was copied and not made by `etcdctl snapshot save`, so nothing says that it is whole"
    )]
    NoHash,
    /// It was changed or cut short.
    #[error("the file's hash differs: it was changed or cut short")]
    Hash,
    /// Users and their passwords would be lost, and everybody let in.
    #[error(
        "the store had users with passwords (auth enabled), which cannot be taken over: disable auth, and save it again"
    )]
    Auth,
    /// A row that etcd does not write.
    #[error("the snapshot cannot be understood: {0}")]
    Row(&'static str),
    /// The new state cannot be written.
    #[error(transparent)]
    State(#[from] BackendError),
}

impl From<io::Error> for EtcdError {
    fn from(error: io::Error) -> Self {
        Self::Bolt(error.into())
    }
}

/// As in etcd's `lease.proto`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Lease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

/// Whether a file is one of etcd's.
pub(crate) fn is_snapshot(file: &File) -> io::Result<bool> {
    bolt::is_bolt(file)
}

/// Fills an empty backend. Gives the number of rows. Blocks.
pub(crate) fn import(file: &File, backend: &dyn Backend) -> Result<u64, EtcdError> {
    check_hash(file)?;
    read(file, backend)
}

fn check_hash(source: &dyn Source) -> Result<(), EtcdError> {
    let len = source.len()?;
    if len % BLOCK != HASH_LEN {
        return Err(EtcdError::NoHash);
    }
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < len - HASH_LEN {
        let left = usize::try_from(len - HASH_LEN - at).unwrap_or(CHUNK);
        let piece = source.read(at, left.min(CHUNK))?;
        hash.update(&piece);
        at += piece.len() as u64;
    }
    let wanted = source.read(len - HASH_LEN, 32)?;
    match hash.finalize().as_slice() == &wanted[..] {
        true => Ok(()),
        false => Err(EtcdError::Hash),
    }
}

pub(crate) fn read(source: &dyn Source, backend: &dyn Backend) -> Result<u64, EtcdError> {
    let bolt = Bolt::open(source)?;
    refuse_users(&bolt)?;
    let mut importer = Importer::new(backend);
    each(&bolt, "lease", |_, value| {
        let lease = Lease::decode(value).map_err(|_| EtcdError::Row("a lease"))?;
        let record = LeaseRecord {
            ttl: lease.ttl,
            remaining: lease.remaining_ttl,
        };
        Ok(importer.lease(LeaseId(lease.id), record)?)
    })?;
    let compacted = compacted(&bolt)?;
    let bucket = bolt.bucket("key")?;
    let bucket = bucket.ok_or(EtcdError::Row("it has no keys"))?;
    bolt.each(&bucket, |name, value| {
        let (revision, sub, deletes) = parse(&name)?;
        let kv = KeyValue::decode(value).map_err(|_| EtcdError::Row("a key"))?;
        let change = match deletes {
            true => Imported::Delete(kv.key),
            false => Imported::Put(kv),
        };
        Ok::<_, EtcdError>(importer.change(revision, sub, change)?)
    })?;
    Ok(importer.finish(compacted)?)
}

fn refuse_users(bolt: &Bolt<'_>) -> Result<(), EtcdError> {
    let mut enabled = false;
    each(bolt, "auth", |name, value| {
        enabled |= name == b"authEnabled"[..] && value == [1][..];
        Ok(())
    })?;
    match enabled {
        true => Err(EtcdError::Auth),
        false => Ok(()),
    }
}

/// What was to be compacted, whether or not that had been done.
fn compacted(bolt: &Bolt<'_>) -> Result<Revision, EtcdError> {
    let mut compacted = Revision::ZERO;
    each(bolt, "meta", |name, value| {
        if name == b"scheduledCompactRev"[..] || name == b"finishedCompactRev"[..] {
            compacted = compacted.max(parse(&value)?.0);
        }
        Ok(())
    })?;
    Ok(compacted)
}

fn each(
    bolt: &Bolt<'_>,
    name: &str,
    take: impl FnMut(Bytes, Bytes) -> Result<(), EtcdError>,
) -> Result<(), EtcdError> {
    match bolt.bucket(name)? {
        Some(bucket) => bolt.each(&bucket, take),
        None => Ok(()),
    }
}

/// Revision, number within it, and whether it deletes.
fn parse(name: &Bytes) -> Result<(Revision, u32, bool), EtcdError> {
    let odd = || EtcdError::Row("a revision");
    let (mut revision, rest) = name.split_at_checked(NAME_LEN).ok_or_else(odd)?;
    let main = i64::try_from(revision.get_u64()).map_err(|_| odd())?;
    if revision.get_u8() != b'_' {
        return Err(odd());
    }
    let sub = u32::try_from(revision.get_u64()).map_err(|_| odd())?;
    match rest {
        [] => Ok((Revision::new(main), sub, false)),
        [DELETES] => Ok((Revision::new(main), sub, true)),
        _ => Err(odd()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use corten_store_core::Store;
    use corten_store_core::memory::MemoryBackend;
    use std::sync::Arc;

    use super::*;

    fn name(revision: u64, sub: u64, deletes: bool) -> Vec<u8> {
        let mut name = revision.to_be_bytes().to_vec();
        name.push(b'_');
        name.extend_from_slice(&sub.to_be_bytes());
        name.extend(deletes.then_some(DELETES));
        name
    }

    fn kv(key: &str, created: i64, revision: i64, version: i64, lease: i64) -> Vec<u8> {
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            create_revision: created,
            mod_revision: revision,
            version,
            value: format!("{key} at {revision}").into(),
            lease,
        };
        kv.encode_to_vec()
    }

    /// A snapshot without its hash, as etcd would write it.
    pub(crate) fn snapshot(auth: bool) -> Vec<u8> {
        let gone = KeyValue {
            key: "b".into(),
            ..Default::default()
        };
        let keys = vec![
            (name(2, 0, false), kv("a", 2, 2, 1, 0)),
            (name(4, 0, false), kv("a", 2, 4, 2, 0)),
            (name(4, 1, false), kv("b", 4, 4, 1, 7)),
            (name(5, 0, true), gone.encode_to_vec()),
            (name(6, 0, false), kv("c", 6, 6, 1, 7)),
        ];
        let lease = Lease {
            id: 7,
            ttl: 60,
            remaining_ttl: 0,
        };
        let lease = vec![(7_i64.to_be_bytes().to_vec(), lease.encode_to_vec())];
        let meta = vec![
            (b"finishedCompactRev".to_vec(), name(2, 0, false)),
            (b"scheduledCompactRev".to_vec(), name(3, 0, false)),
        ];
        let auth = vec![(b"authEnabled".to_vec(), vec![u8::from(auth)])];
        let buckets = [
            ("key", keys),
            ("lease", lease),
            ("meta", meta),
            ("auth", auth),
        ];
        bolt::tests::file(&buckets)
    }

    #[test]
    fn keys_keep_their_history_and_their_leases() {
        let backend = Arc::new(MemoryBackend::new());
        let rows = read(&Bytes::from(snapshot(false)), backend.as_ref()).expect("read");
        // Two for each change, the lease, what hangs on it, and the head.
        assert_eq!(rows, 5 * 2 + 1 + 1 + 1);
        let (store, _) = Store::open(backend).expect("opened");
        assert_eq!(store.revision(), Revision::new(6));
        assert_eq!(store.compacted(), Revision::new(3));
    }

    #[test]
    fn a_store_with_passwords_is_refused() {
        let backend = MemoryBackend::new();
        let refused = read(&Bytes::from(snapshot(true)), &backend);
        assert!(matches!(refused, Err(EtcdError::Auth)));
    }

    #[test]
    fn only_a_whole_file_is_taken() {
        let mut file = snapshot(false);
        let whole = Bytes::from(file.clone());
        assert!(matches!(check_hash(&whole), Err(EtcdError::NoHash)));
        let hash = Sha256::digest(&file);
        file.extend_from_slice(&hash);
        check_hash(&Bytes::from(file.clone())).expect("whole");
        file[5000] ^= 1;
        let changed = Bytes::from(file);
        assert!(matches!(check_hash(&changed), Err(EtcdError::Hash)));
    }
}
