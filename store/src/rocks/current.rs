//! Which folder holds the state: the one that `CURRENT` names.
//!
//! Opens nothing. Invariant: folders are deleted only beside the one that `CURRENT` names; so a `CURRENT` that was changed
//! or lost costs no state.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use corten_store_core::backend::{BackendError, Result};

use super::io_failed;
use crate::raft::snapshot::sync_dir;
use crate::repair::mark::Damaged;

/// Names the folder with the state.
const CURRENT: &str = "CURRENT";
/// Where a new `CURRENT` is written before it replaces the old one.
const CURRENT_NEW: &str = "CURRENT.new";
/// Prefix of folders with a state.
const STATE_PREFIX: &str = "db-";
/// Of the first state.
const FIRST: u64 = 1;

/// Finds out which folder holds the state, and clears away those that do not. None at all is a state that begins.
pub(crate) fn settle(dir: &Path) -> Result<u64> {
    let named = |what: &str, path: &Path| io_failed(format!("{what} {}", path.display()));
    let found = numbers(dir).map_err(named("list", dir))?;
    let number = match current(dir).map_err(|error| failed(dir, error))? {
        Some(number) if found.is_empty() || found.contains(&number) => number,
        Some(number) => {
            let what = format!("CURRENT names state {number}, and there is only {found:?}");
            return Err(failed(dir, invalid(what)));
        }
        None => {
            let number = match found.as_slice() {
                [] => FIRST,
                [only] => *only,
                // One of them is newer, and nothing else says which.
                several => {
                    let what = format!("CURRENT is gone, and there are states {several:?}");
                    return Err(failed(dir, invalid(what)));
                }
            };
            set_current(dir, number).map_err(named("write", &dir.join(CURRENT)))?;
            number
        }
    };
    let others = found.into_iter().filter(|found| *found != number);
    for other in others {
        let path = state_path(dir, other);
        std::fs::remove_dir_all(&path).map_err(named("clear away", &path))?;
    }
    Ok(number)
}

/// Where the state of a number lies.
pub(super) fn state_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{STATE_PREFIX}{number}"))
}

/// What `CURRENT` says.
pub(super) fn current(dir: &Path) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(dir.join(CURRENT)) {
        Ok(text) => number(text.trim())
            .map(Some)
            .ok_or_else(|| invalid(format!("CURRENT says {text:?}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes another folder the state.
pub(super) fn set_current(dir: &Path, number: u64) -> io::Result<()> {
    let new = dir.join(CURRENT_NEW);
    let mut file = std::fs::File::create(&new)?;
    writeln!(file, "{number}")?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(CURRENT))?;
    sync_dir(dir)
}

/// A number that has a next one.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number < u64::MAX)
}

/// Numbers of the states that are there.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir)? {
        let name = item?.file_name();
        let name = name.to_str();
        found.extend(name.and_then(|name| number(name.strip_prefix(STATE_PREFIX)?)));
    }
    found.sort_unstable();
    Ok(found)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A `CURRENT` that says nothing, or what cannot be, is damage like any other.
fn failed(dir: &Path, error: io::Error) -> BackendError {
    let what = format!("read {}", dir.join(CURRENT).display());
    match error.kind() {
        io::ErrorKind::InvalidData => BackendError::new(what, Damaged(error.to_string())),
        _ => BackendError::new(what, error),
    }
}
