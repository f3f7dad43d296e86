//! When this member was repaired, and what lies set aside: so that bad memory or a bad disk is not repaired for ever.
//!
//! Invariant: nothing is set aside over something else, and nothing that was set aside is removed.

use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;

use super::Refusal;
use crate::config::{Repair, Settings};
use crate::raft::snapshot::sync_dir;

/// Times of repairs, one a line, in seconds since 1970.
const FILE: &str = "repairs";
/// Between two repairs of a member.
const APART_SECONDS: i64 = 3600;
/// Sets of damaged files beyond which none is added: each may be as large as the store.
const SETS_MAX: usize = 3;

/// There while a repair has something set aside and is not done.
const UNDER_WAY: &str = "repairing";

/// Whether a repair may begin, as far as this member itself can tell.
pub(crate) fn allow(settings: &Settings) -> Result<(), Refusal> {
    if settings.config.repair == Repair::Off {
        return Err(Refusal::Off);
    }
    let dir = &settings.config.data_dir;
    if under_way(dir).is_some() {
        return Ok(());
    }
    let sets = numbers(dir).map_err(Refusal::disk(dir))?;
    if sets.len() >= SETS_MAX {
        return Err(Refusal::TooMany(sets.len()));
    }
    let now = Timestamp::now().as_second();
    match last(dir).and_then(|at| now.checked_sub(at)) {
        // Neither a clock that was set back nor a damaged note must keep a member from its repair.
        Some(ago) if (0..APART_SECONDS).contains(&ago) => Err(Refusal::TooSoon(ago / 60)),
        _ => Ok(()),
    }
}

/// From here on the repair of `kind` must come to its end: the bounds are not asked about it again.
pub(crate) fn begin(dir: &Path, kind: &str) -> io::Result<()> {
    let mut file = std::fs::File::create(dir.join(UNDER_WAY))?;
    writeln!(file, "{kind}")?;
    file.sync_all()?;
    sync_dir(dir)
}

/// What a repair was begun of that ended half way.
pub(crate) fn under_way(dir: &Path) -> Option<String> {
    let kind = std::fs::read_to_string(dir.join(UNDER_WAY)).ok()?;
    Some(kind.trim().to_owned())
}

/// Notes a repair that is done.
pub(crate) fn note(dir: &Path) -> io::Result<()> {
    let mut options = std::fs::File::options();
    let mut file = options.create(true).append(true).open(dir.join(FILE))?;
    writeln!(file, "{}", Timestamp::now().as_second())?;
    file.sync_all()?;
    match std::fs::remove_file(dir.join(UNDER_WAY)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_dir(dir)
}

fn last(dir: &Path) -> Option<i64> {
    let text = std::fs::read_to_string(dir.join(FILE)).ok()?;
    text.lines().rev().find_map(|line| line.trim().parse().ok())
}

/// Where `kind` (as in `tables`) goes next, as in `tables.corrupt-2`.
pub(crate) fn aside(dir: &Path, kind: &str) -> io::Result<std::path::PathBuf> {
    let next = numbers(dir)?.last().map_or(1, |last| last + 1);
    // The second half of one repair goes with its first, also after a kill.
    let last = next.saturating_sub(1);
    let beside = dir.join(format!("{kind}.corrupt-{last}"));
    if last > 0 && kind == LOG && !beside.exists() {
        return Ok(beside);
    }
    Ok(dir.join(format!("{kind}.corrupt-{next}")))
}

/// The log, as it is called when it is set aside.
pub(crate) const LOG: &str = "log";
/// Likewise the tables.
pub(crate) const TABLES: &str = "tables";

/// Moves a folder out of the way; one that is not there is fine.
pub(crate) fn set_aside(dir: &Path, name: &str, kind: &str) -> Result<(), Refusal> {
    let from = dir.join(name);
    let to = aside(dir, kind).map_err(Refusal::disk(dir))?;
    match std::fs::rename(&from, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        moved => moved.map_err(Refusal::disk(&to))?,
    }
    sync_dir(dir).map_err(Refusal::disk(dir))?;
    tracing::warn!(to = %to.display(), "damaged files were set aside");
    Ok(())
}

/// Numbers of the sets that lie there, in order.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir)? {
        let name = item?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.split_once(".corrupt-")?.1.parse().ok());
        // One that has a next one.
        found.extend(number.filter(|number| *number < u64::MAX));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_member_is_not_repaired_for_ever() {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = |repair| Config {
            data_dir: dir.path().to_owned(),
            repair,
            ..Config::default()
        };
        let settings = config(Repair::Auto).check().expect("usable");
        allow(&settings).expect("the first one");
        note(dir.path()).expect("noted");
        assert_eq!(allow(&settings), Err(Refusal::TooSoon(0)));
        std::fs::write(dir.path().join(FILE), "1000\n").expect("long ago");
        allow(&settings).expect("the next one");
        let off = config(Repair::Off).check().expect("usable");
        assert_eq!(allow(&off), Err(Refusal::Off));
        for number in 1..=3 {
            allow(&settings).expect("there is room");
            std::fs::create_dir(dir.path().join("state")).expect("made");
            set_aside(dir.path(), "state", TABLES).expect("set aside");
            assert!(dir.path().join(format!("tables.corrupt-{number}")).exists());
        }
        assert_eq!(allow(&settings), Err(Refusal::TooMany(3)));
    }

    #[test]
    fn a_damaged_note_of_repairs_ended_the_member() {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = Config {
            data_dir: dir.path().to_owned(),
            ..Config::default()
        };
        let settings = config.check().expect("usable");
        let least = i64::MIN.to_string();
        std::fs::write(dir.path().join(FILE), least).expect("damaged");
        allow(&settings).expect("it says nothing");
        let most = format!("tables.corrupt-{}", u64::MAX);
        std::fs::create_dir(dir.path().join(most)).expect("made");
        let next = aside(dir.path(), TABLES).expect("a name");
        assert!(next.ends_with("tables.corrupt-1"), "{}", next.display());
    }

    #[test]
    fn the_bounds_stopped_a_repair_half_way() {
        let dir = tempfile::tempdir().expect("temp dir");
        let config = Config {
            data_dir: dir.path().to_owned(),
            ..Config::default()
        };
        let settings = config.check().expect("usable");
        begin(dir.path(), TABLES).expect("begun");
        assert_eq!(under_way(dir.path()).as_deref(), Some(TABLES));
        for number in 1..=3 {
            std::fs::create_dir(dir.path().join(format!("tables.corrupt-{number}"))).expect("made");
        }
        allow(&settings).expect("what was begun goes on");
        note(dir.path()).expect("noted");
        assert_eq!(allow(&settings), Err(Refusal::TooMany(3)));
    }

    #[test]
    fn log_and_tables_of_one_repair_have_one_number() {
        let dir = tempfile::tempdir().expect("temp dir");
        for number in 1..=2 {
            for (name, kind) in [("state", TABLES), ("wal", LOG)] {
                std::fs::create_dir(dir.path().join(name)).expect("made");
                set_aside(dir.path(), name, kind).expect("set aside");
                // After a kill it is done again.
                set_aside(dir.path(), name, kind).expect("nothing there");
                assert!(dir.path().join(format!("{kind}.corrupt-{number}")).exists());
            }
        }
    }
}
