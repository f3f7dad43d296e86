//! Holds the table files of an open database, so that their space is not freed all at once when the engine deletes them
//! (`crate::trickle` says why).
//!
//! The engine neither knows nor cares: it deletes names, and names are gone at once. Invariant: a file is freed when it has
//! no name any more, neither here nor in a checkpoint; until then it is only held.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

use crate::trickle;

/// How often the folder is looked at. Tables that come and go in between are small.
const LOOK: Duration = Duration::from_millis(250);
/// How the engine names its tables.
const TABLE: &str = "sst";

/// Holds the tables of a folder as long as it lives.
pub(super) struct Held {
    /// Dropping it ends the thread.
    _until: Option<Sender<()>>,
}

impl Held {
    /// Begins to hold what is in `dir` and what comes. Without a thread nothing is held, and nothing else is lost.
    pub(super) fn begin(dir: &Path) -> Self {
        let (until, ended) = channel();
        let tables = Tables {
            dir: dir.to_owned(),
            seen: None,
            again: false,
            held: BTreeMap::new(),
            elsewhere: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("corten-held".to_owned());
        match thread.spawn(move || run(tables, &ended)) {
            Ok(_) => Self {
                _until: Some(until),
            },
            Err(error) => {
                tracing::warn!(%error, "deleted tables are freed at once");
                Self { _until: None }
            }
        }
    }
}

fn run(mut tables: Tables, ended: &Receiver<()>) {
    loop {
        tables.look();
        if ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
            tables.end();
            return;
        }
    }
}

struct Tables {
    dir: PathBuf,
    /// When the folder had changed last, as of the last look.
    seen: Option<SystemTime>,
    /// It may have changed once more within the same tick of the file system's clock.
    again: bool,
    held: BTreeMap<OsString, File>,
    /// Gone from the folder, but not from all others.
    elsewhere: Vec<File>,
}

impl Tables {
    fn look(&mut self) {
        self.elsewhere.retain_mut(|file| {
            let gone = trickle::is_nameless(file);
            if gone && let Ok(file) = file.try_clone() {
                trickle::free(file);
            }
            !gone
        });
        let changed = std::fs::metadata(&self.dir).and_then(|meta| meta.modified());
        let Ok(changed) = changed else {
            return;
        };
        let same = self.seen == Some(changed);
        if same && !self.again {
            return;
        }
        self.again = !same;
        self.seen = Some(changed);
        self.compare();
    }

    fn compare(&mut self) {
        let Ok(items) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let mut before = std::mem::take(&mut self.held);
        for name in items.flatten().map(|item| item.file_name()) {
            if Path::new(&name).extension().is_none_or(|it| it != TABLE) {
                continue;
            }
            // The engine never uses a name twice.
            let file = before.remove(&name);
            if let Some(file) = file.or_else(|| open(&self.dir.join(&name))) {
                self.held.insert(name, file);
            }
        }
        for file in before.into_values() {
            match trickle::is_nameless(&file) {
                true => trickle::free(file),
                false => self.elsewhere.push(file),
            }
        }
    }

    /// The database is closed, and its folder deleted or not.
    fn end(self) {
        for file in self.held.into_values().chain(self.elsewhere) {
            trickle::free(file);
        }
    }
}

/// A file to hold; nothing when the file system does not count names, so that their end could not be seen.
fn open(path: &Path) -> Option<File> {
    let file = File::options().write(true).open(path).ok()?;
    (!trickle::is_nameless(&file)).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trickle::size;
    use crate::trickle::tests::{made, wait_until_freed};

    fn tables(dir: &Path) -> Tables {
        Tables {
            dir: dir.to_owned(),
            seen: None,
            again: false,
            held: BTreeMap::new(),
            elsewhere: Vec::new(),
        }
    }

    #[test]
    fn a_table_is_freed_bit_by_bit_when_its_last_name_is_gone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let copies = tempfile::tempdir().expect("temp dir");
        let (one, two) = (dir.path().join("1.sst"), dir.path().join("2.sst"));
        let (first, second) = (made(&one), made(&two));
        std::fs::write(dir.path().join("LOCK"), "").expect("written");
        let copy = copies.path().join("1.sst");
        std::fs::hard_link(&one, &copy).expect("linked");
        let mut tables = tables(dir.path());
        tables.look();
        assert_eq!(tables.held.len(), 2, "tables and nothing else");
        std::fs::remove_file(&one).expect("removed");
        std::fs::remove_file(&two).expect("removed");
        tables.look();
        assert!(tables.held.is_empty());
        wait_until_freed(&second);
        assert_eq!((tables.elsewhere.len(), size(&first)), (1, 5 << 20));
        std::fs::remove_file(&copy).expect("removed");
        tables.look();
        assert!(tables.elsewhere.is_empty());
        wait_until_freed(&first);
    }

    #[test]
    fn a_table_made_within_a_tick_of_the_clock_is_not_overlooked() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut tables = tables(dir.path());
        tables.look();
        let changed = tables.seen.expect("looked");
        let _file = made(&dir.path().join("1.sst"));
        File::open(dir.path())
            .and_then(|dir| dir.set_modified(changed))
            .expect("set back");
        tables.look();
        assert_eq!(tables.held.len(), 1);
    }

    #[test]
    fn tables_of_a_database_that_is_only_closed_stay() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = made(&dir.path().join("1.sst"));
        let mut tables = tables(dir.path());
        tables.look();
        tables.end();
        let gone = dir.path().join("2.sst");
        let behind = made(&gone);
        trickle::remove(&gone).expect("removed");
        wait_until_freed(&behind);
        assert_eq!(size(&file), 5 << 20);
    }
}
