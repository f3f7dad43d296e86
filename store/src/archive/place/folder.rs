//! Backups in a folder.
//!
//! Invariant: a name appears by a rename of a synced file, and the folder is synced after; so neither a crash nor a power
//! cut leaves half a file under a name, and none takes back what was reported as written.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Item, PlaceError};
use crate::raft::snapshot::sync_dir;

fn failed(what: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> PlaceError {
    move |source| PlaceError::Folder { what, path, source }
}

pub(super) fn list(dir: &Path) -> Result<Vec<Item>, PlaceError> {
    let fail = |error| failed("list", dir.to_owned())(error);
    let mut items = Vec::new();
    for item in std::fs::read_dir(dir).map_err(fail)? {
        let item = item.map_err(fail)?;
        // Not what symbolic links lead to, and not what has gone meanwhile.
        let Ok(meta) = item.metadata() else { continue };
        let Ok(name) = item.file_name().into_string() else {
            continue;
        };
        if !meta.is_file() {
            continue;
        }
        let modified = meta.modified().ok();
        items.push(Item {
            name,
            bytes: meta.len(),
            modified: modified.and_then(|at| Timestamp::try_from(at).ok()),
        });
    }
    Ok(items)
}

pub(super) fn adopt(dir: &Path, file: &Path, name: &str) -> Result<(), PlaceError> {
    let target = dir.join(name);
    std::fs::rename(file, &target).map_err(failed("rename to", target))?;
    sync_dir(dir).map_err(failed("sync", dir.to_owned()))
}

pub(super) fn put(dir: &Path, name: &str, content: &[u8]) -> Result<(), PlaceError> {
    let new = dir.join(format!(".{name}.new"));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(failed("write", new.clone()))?;
    adopt(dir, &new, name)
}

pub(super) fn open(dir: &Path, name: &str) -> Result<impl Read + Send + use<>, PlaceError> {
    let path = dir.join(name);
    let file = File::open(&path).map_err(failed("open", path))?;
    // What was just written is to be read from the disk, not from memory. Only advice: nothing depends on it.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(file)
}

pub(super) fn remove(dir: &Path, name: &str) -> Result<(), PlaceError> {
    let path = dir.join(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => sync_dir(dir).map_err(failed("sync", dir.to_owned())),
    }
}
