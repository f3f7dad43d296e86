//! The mark on a folder whose files are damaged: it outlives a restart, and moves away with the folder.
//!
//! Says nothing of what is done about it. Invariant: a mark is on the disk before anything is done about the damage.

use std::io::{self, Write as _};
use std::path::Path;

use corten_store_core::backend::BackendError;

use crate::raft::snapshot::sync_dir;

/// The file that is the mark; it holds what was found.
const MARK: &str = "DAMAGED";

/// What a marked folder is said to have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(crate) String);

/// Marks a folder. One that is marked keeps its first mark.
pub(crate) fn set(dir: &Path, what: &str) -> io::Result<()> {
    let path = dir.join(MARK);
    let mut file = match std::fs::File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    };
    writeln!(file, "{what}")?;
    file.sync_all()?;
    sync_dir(dir)
}

/// What the mark says, if there is one. One that cannot be read is one.
pub(crate) fn get(dir: &Path) -> Option<String> {
    match std::fs::read_to_string(dir.join(MARK)) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("a mark that cannot be read: {error}")),
    }
}

/// Whether a failure of RocksDB means that its files are damaged or gone; a full disk or a taken lock does not.
pub(crate) fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => true,
        rocksdb::ErrorKind::IOError => error.to_string().contains("No such file"),
        _ => false,
    }
}

/// What is damaged, if that is why the tables failed. Rows that this version cannot read are no damage of the disk: another
/// version may have written them.
pub(crate) fn of(error: &BackendError) -> Option<String> {
    let source = error.cause.as_ref()?;
    let rocks = source.downcast_ref::<rocksdb::Error>();
    let damaged = source.is::<Damaged>() || rocks.is_some_and(is_damage);
    damaged.then(|| format!("{}: {source}", error.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_and_keeps_its_first_words() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(get(dir.path()), None);
        set(dir.path(), "first").expect("set");
        set(dir.path(), "second").expect("set again");
        assert_eq!(get(dir.path()).as_deref(), Some("first"));
    }

    #[test]
    fn only_damage_counts_as_damage() {
        let damaged = BackendError::new("open", Damaged("marked".to_owned()));
        assert_eq!(of(&damaged).as_deref(), Some("open: marked"));
        let full = BackendError::new("write", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(of(&full), None);
        assert_eq!(of(&BackendError::corrupt("a row of another version")), None);
    }
}
