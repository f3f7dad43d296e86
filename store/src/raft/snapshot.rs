//! A snapshot on disk: a folder with the files of a RocksDB checkpoint.
//!
//! Not responsible for making or sending one. Invariant: a folder is deleted when its last holder lets go, unless it
//! was installed; so snapshots never pile up, and a restart clears what a crash left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Handle on a snapshot's folder; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotDir {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    installed: AtomicBool,
}

impl SnapshotDir {
    /// Takes charge of `path`, which may not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            inner: Arc::new(Inner {
                path,
                installed: AtomicBool::new(false),
            }),
        }
    }

    /// A fresh name under `parent`, which must be a folder of this process alone.
    pub(crate) fn fresh(parent: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        std::fs::create_dir_all(parent)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self::new(
            parent.join(format!("{}-{number}", std::process::id())),
        ))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Lets the folder live on: somebody else owns it now.
    pub(crate) fn keep(&self) {
        self.inner.installed.store(true, Ordering::Relaxed);
    }

    /// Names and sizes of the files, in order of name.
    pub(crate) fn files(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for item in std::fs::read_dir(self.path())? {
            let item = item?;
            let name = item.file_name().into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("file name {name:?} in a snapshot"),
                )
            })?;
            files.push((name, item.metadata()?.len()));
        }
        files.sort();
        Ok(files)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.installed.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot delete a snapshot that is no longer needed");
        }
    }
}

/// Empties a folder of snapshots that an earlier process left behind.
pub(crate) fn clear(parent: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(parent) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(parent),
    }
}

/// Writes a small file of a folder, synced: whole, or as it was before.
pub(crate) fn write_whole(dir: &Path, name: &str, data: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let mut file = std::fs::File::create(&new)?;
    io::Write::write_all(&mut file, data)?;
    file.sync_all()?;
    std::fs::rename(new, dir.join(name))?;
    sync_dir(dir)
}

/// Makes names created or renamed in `dir` survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_goes_with_its_last_holder_unless_kept() {
        let parent = tempfile::tempdir().expect("temp dir");
        let dropped = SnapshotDir::fresh(parent.path()).expect("name");
        std::fs::create_dir(dropped.path()).expect("create");
        std::fs::write(dropped.path().join("a"), b"x").expect("write");
        assert_eq!(dropped.files().expect("list"), vec![("a".to_owned(), 1)]);
        let path = dropped.path().to_owned();
        let second = dropped.clone();
        drop(dropped);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());

        let kept = SnapshotDir::fresh(parent.path()).expect("name");
        std::fs::create_dir(kept.path()).expect("create");
        let path = kept.path().to_owned();
        kept.keep();
        drop(kept);
        assert!(path.exists());
    }
}
