//! A member whose log is damaged or gone, at its start: it comes back as a new member.
//!
//! The vote that it gave and the entries that it said it has may be gone. Invariant: from the moment that this is known it
//! never takes part under its old id; the leader has put the new one in its place before anything is set aside.

use std::io;
use std::path::Path;

use super::{Refusal, ask, ledger, mark};
use crate::config::Settings;
use crate::disk::{Disk as _, HostDisk};
use crate::metrics::Metrics;
use crate::raft::identity::{self, Identity};
use crate::raft::snapshot::write_whole;
use crate::raft::types::MemberId;

/// Folder of the log.
pub(crate) const WAL: &str = "wal";
/// Names the member that a log was made for. Beside the log, so that it is there when the log is gone.
const MADE: &str = "log-made";

/// Gives the member a new identity and an empty folder.
pub(crate) async fn repair(
    settings: &Settings,
    old: Identity,
    what: &str,
    metrics: &Metrics,
) -> Result<Identity, Refusal> {
    let dir = &settings.config.data_dir;
    tracing::error!(what, member = %old.member, "this member's log is damaged: it may have lost its vote, and what it acknowledged");
    ask::possible(settings)?;
    let wal = dir.join(WAL);
    std::fs::create_dir_all(&wal).map_err(Refusal::disk(&wal))?;
    // Nobody else may find the folder half moved.
    let lock = HostDisk
        .lock(&wal.join("LOCK"))
        .map_err(Refusal::disk(&wal))?;
    mark::set(&wal, what).map_err(Refusal::disk(&wal))?;
    let help = ask::for_help(settings, old, what, true).await?;
    let new = Identity {
        member: help.member,
        ..old
    };
    identity::save(dir, new, &settings.config.name).map_err(Refusal::disk(dir))?;
    ledger::begin(dir, ledger::LOG).map_err(Refusal::disk(dir))?;
    // The mark goes last: until then a start comes here again.
    ledger::set_aside(dir, super::tables::STATE, ledger::TABLES)?;
    ledger::set_aside(dir, WAL, ledger::LOG)?;
    drop(lock);
    ledger::note(dir).map_err(Refusal::disk(dir))?;
    metrics.repaired("log");
    tracing::warn!(old = %old.member, new = %new.member, "this member starts anew, without a vote until it has caught up");
    Ok(new)
}

/// Notes that the member has a log from now on.
pub(crate) fn note_made(data_dir: &Path, identity: Identity) -> io::Result<()> {
    let text = noted(identity.member);
    if std::fs::read(data_dir.join(MADE)).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    write_whole(data_dir, MADE, text.as_bytes())
}

/// The note on a member's log. The checksum tells the note of another member from a damaged one.
fn noted(member: MemberId) -> String {
    let id = member.to_string();
    format!("{id} {:08x}\n", crc32c::crc32c(id.as_bytes()))
}

/// Whether the member has had a log. Only a whole note of another member says that it has not: one that cannot be read, or
/// was changed, may be this member's.
pub(crate) fn was_made(data_dir: &Path, identity: Identity) -> bool {
    match std::fs::read_to_string(data_dir.join(MADE)) {
        Ok(text) => {
            let id = text.split_whitespace().next();
            let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
            let other = id.map(MemberId).filter(|id| *id != identity.member);
            other.is_none_or(|other| text != noted(other))
        }
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether there is a log at all.
pub(crate) fn is_there(data_dir: &Path) -> bool {
    let files = std::fs::read_dir(data_dir.join(WAL));
    files.is_ok_and(|files| {
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        names.into_iter().any(|name| name.ends_with(".wal"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was taken for the note of a member that was here before; without its log the member voted a second time.
    #[test]
    fn a_changed_note_was_taken_for_that_of_another_member() {
        let dir = tempfile::tempdir().expect("temp dir");
        let of = |member| Identity {
            cluster: 7,
            member: MemberId(member),
        };
        assert!(!was_made(dir.path(), of(0xab)), "nothing is noted");
        note_made(dir.path(), of(0xab)).expect("noted");
        assert!(was_made(dir.path(), of(0xab)));
        assert!(
            !was_made(dir.path(), of(0xac)),
            "a new member after a repair"
        );
        // As it is, cut short, and as earlier versions wrote it.
        for text in ["aa 00000000\n", "a", "ab", "ac\n", ""] {
            std::fs::write(dir.path().join(MADE), text).expect("changed");
            assert!(was_made(dir.path(), of(0xab)), "{text:?}");
        }
    }
}
