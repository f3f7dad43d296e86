//! A data folder for a member of a new cluster, filled from a backup.
//!
//! Not a way back into the old cluster: every member of the new one is restored from the same file, with the same
//! `--initial-cluster`, and they have new ids. Invariant: the folder appears under its name only when it is whole, synced
//! and read back.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use corten_store_core::backend::{Backend, BackendError};
use corten_store_core::{FOUNDING, Refounding, Store};
use openraft::Membership;
use prost::Message;

use crate::archive::{self, EtcdError, OpenError, Secret, etcd};
use crate::config::{Config, ConfigError, Settings};
use crate::raft::codec;
use crate::raft::identity;
use crate::raft::snapshot::sync_dir;
use crate::raft::tables::Tables as _;
use crate::raft::types::{LogId, StoredMembership};
use crate::raft::wal::{Wal, WalError, WalOptions};
use crate::replica::backup;
use crate::rocks::{Rocks, RocksOptions};

/// What the name of a folder in the making adds to that of the data folder.
pub(crate) const BUILDING: &str = ".restoring";

/// Why a member cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The configuration is faulty.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder has something in it.
    #[error("the data folder {0} is not empty; a member is never restored over another")]
    NotEmpty(PathBuf),
    /// The copy cannot be used.
    #[error("the backup {0} cannot be restored")]
    Backup(PathBuf, #[source] backup::RestoreError),
    /// The copy cannot be opened.
    #[error("the backup {0} cannot be opened")]
    Open(PathBuf, #[source] OpenError),
    /// The copy is etcd's, and cannot be used.
    #[error("the snapshot {0} cannot be restored")]
    Etcd(PathBuf, #[source] EtcdError),
    /// The state cannot be written or read back.
    #[error(transparent)]
    State(#[from] BackendError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The founding members make no membership.
    #[error("--initial-cluster makes no cluster: {0}")]
    Membership(String),
    /// What was written does not read back as it was read.
    #[error("what was restored does not read back: {0}")]
    ReadBack(String),
    /// The file system refused something.
    #[error("cannot restore to {0}")]
    Io(PathBuf, #[source] io::Error),
}

/// What a restored member starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster's id: the same on all its members.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The revision at which the cluster begins.
    pub revision: i64,
    /// Hash of the keys at that revision: the same on all members.
    pub hash: u32,
    /// Rows in the backup.
    pub rows: u64,
}

/// Restores the member that `config` describes from a backup: a file of `corten backup`, opened with `secret`, or what
/// `etcdctl snapshot save` stored, of this store or of etcd itself. Blocks for as long as copying the data takes.
pub fn restore(
    config: &Config,
    backup: &Path,
    secret: &Secret,
    how: Refounding,
) -> Result<Restored, RestoreError> {
    let settings = config.check()?;
    check_empty(&config.data_dir)?;
    let unusable = |error| RestoreError::Open(backup.to_owned(), error);
    let file = File::open(backup).map_err(|error| unusable(error.into()))?;
    if etcd::is_snapshot(&file).map_err(|error| unusable(error.into()))? {
        return fill(&settings, how, |rocks| {
            let rows = etcd::import(&file, rocks);
            rows.map_err(|error| RestoreError::Etcd(backup.to_owned(), error))
        });
    }
    let mut copy = archive::open(file, secret).map_err(unusable)?;
    fill(&settings, how, |rocks| {
        let rows = backup::restore(rocks, &mut copy);
        rows.map_err(|error| RestoreError::Backup(backup.to_owned(), error))
    })
}

/// Makes the data folder with the rows that `rows` writes.
fn fill(
    settings: &Settings,
    how: Refounding,
    rows: impl FnOnce(&Rocks) -> Result<u64, RestoreError>,
) -> Result<Restored, RestoreError> {
    build(&settings.config.data_dir, |dir| {
        found(settings, dir, how, |state| {
            let rocks = Arc::new(Rocks::open(state, RocksOptions::default())?);
            let rows = rows(&rocks);
            if rows.is_err() {
                // Its files are about to be removed.
                rocks.close();
            }
            Ok((rocks, rows?))
        })
    })
}

/// Refuses a folder that holds anything.
pub fn check_empty(dir: &Path) -> Result<(), RestoreError> {
    match is_empty(dir) {
        Ok(true) => Ok(()),
        Ok(false) => Err(RestoreError::NotEmpty(dir.to_owned())),
        Err(error) => Err(RestoreError::Io(dir.to_owned(), error)),
    }
}

/// Makes a folder beside `target` with `fill`, and gives it that name once it is whole. Nothing is left of a failure.
fn build<T>(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<T, RestoreError>,
) -> Result<T, RestoreError> {
    let failed = |error| RestoreError::Io(target.to_owned(), error);
    let (building, filled) = build_beside(target, fill)?;
    std::fs::rename(&building, target).map_err(failed)?;
    sync_dir(parent(target)).map_err(failed)?;
    Ok(filled)
}

/// Makes a folder beside `target` with `fill`. Nothing is left of a failure.
pub(crate) fn build_beside<T, E: From<RestoreError>>(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<(PathBuf, T), E> {
    let failed = |error| RestoreError::Io(target.to_owned(), error);
    std::fs::create_dir_all(parent(target)).map_err(failed)?;
    let mut building = target.to_owned().into_os_string();
    building.push(BUILDING);
    let building = PathBuf::from(building);
    // What an interrupted attempt has left.
    remove(&building).map_err(failed)?;
    match fill(&building) {
        Ok(filled) => Ok((building, filled)),
        Err(error) => {
            remove(&building).map_err(failed)?;
            Err(error)
        }
    }
}

/// The folder that a folder is in.
pub(crate) fn parent(dir: &Path) -> &Path {
    let parent = dir.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// Makes `dir` the folder of a member that founds a cluster on the state that `fill` makes: the open state and its rows.
pub(crate) fn found<E: From<RestoreError>>(
    settings: &Settings,
    dir: &Path,
    how: Refounding,
    fill: impl FnOnce(&Path) -> Result<(Arc<Rocks>, u64), E>,
) -> Result<Restored, E> {
    let failed = |error| RestoreError::Io(dir.to_owned(), error);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let (rocks, rows) = fill(&dir.join("state"))?;
    Ok(complete(settings, dir, how, &rocks, rows)?)
}

fn complete(
    settings: &Settings,
    dir: &Path,
    how: Refounding,
    rocks: &Rocks,
    rows: u64,
) -> Result<Restored, RestoreError> {
    let failed = |error| RestoreError::Io(dir.to_owned(), error);
    let membership = membership(settings)?;
    let revision = corten_store_core::refound(rocks, membership.clone(), how)?;
    rocks.flush()?;
    rocks.close();
    let hash = read_back(&dir.join("state"), &membership)?;
    found_log(&dir.join("wal")).map_err(failed)??;
    let identity = identity::founding(settings);
    identity::save(dir, identity, &settings.config.name).map_err(failed)?;
    sync_dir(dir).map_err(failed)?;
    Ok(Restored {
        cluster_id: identity.cluster,
        member_id: identity.member.0,
        revision: revision.get(),
        hash,
        rows,
    })
}

/// The members of the new cluster, as if founding them had been the first entry of the log.
fn membership(settings: &Settings) -> Result<Bytes, RestoreError> {
    let members = identity::founding_members(settings);
    let voters = members.keys().copied().collect();
    let membership = Membership::new(vec![voters], members)
        .map_err(|error| RestoreError::Membership(error.to_string()))?;
    let stored = StoredMembership::new(Some(founding_entry()), membership);
    Ok(codec::stored_membership_to_pb(&stored)
        .encode_to_vec()
        .into())
}

fn founding_entry() -> LogId {
    LogId::new_term_index(FOUNDING.term, FOUNDING.index)
}

/// A log in which everything up to the founding entry has been purged.
fn found_log(dir: &Path) -> io::Result<Result<(), WalError>> {
    let wal = match Wal::open(WalOptions::new(dir)) {
        Ok(wal) => wal,
        Err(error) => return Ok(Err(error)),
    };
    wal.purge(founding_entry())?;
    let (done, synced) = std::sync::mpsc::sync_channel(1);
    // The receiver waits below.
    wal.append([], Box::new(move |result| drop(done.send(result))))?;
    synced.recv().map_err(io::Error::other)??;
    wal.close();
    Ok(Ok(()))
}

/// Opens the state as a member will, and reads all of it.
fn read_back(state: &Path, membership: &Bytes) -> Result<u32, RestoreError> {
    let rocks = Arc::new(Rocks::open(state, RocksOptions::default())?);
    let (store, writer) = Store::open(Arc::clone(&rocks) as Arc<dyn Backend>)?;
    if writer.membership() != Some(membership) || writer.applied() != Some(FOUNDING) {
        return Err(RestoreError::ReadBack("another head".to_owned()));
    }
    let hash = store.hash_kv(0);
    rocks.close();
    match hash {
        Ok(hash) => Ok(hash.hash),
        Err(error) => Err(RestoreError::ReadBack(error.to_string())),
    }
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut items) => Ok(items.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Removes a folder; one that is not there is fine.
fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
