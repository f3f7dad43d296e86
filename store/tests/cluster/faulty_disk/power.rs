//! What a loss of power would take from log files: the pages that were written and not synced since.
//!
//! As Linux has it: after a sync that failed, the pages that it should have written count as clean, later syncs say nothing
//! of them, and readers see them until the power goes. Invariant: a page is here exactly when what is read differs, or may
//! differ, from what is durable; with the durable content.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

const PAGE: u64 = 4096;

#[derive(Default)]
pub(super) struct Power {
    files: Mutex<HashMap<u64, Pages>>,
}

#[derive(Default)]
struct Pages {
    path: PathBuf,
    pages: BTreeMap<u64, Page>,
}

struct Page {
    durable: Vec<u8>,
    /// The next sync writes it; unless one has failed since.
    dirty: bool,
}

impl Power {
    /// Called before `len` bytes at `offset` are written to the file of this inode.
    pub(super) fn writes(&self, ino: u64, path: &Path, file: &File, offset: u64, len: usize) {
        let mut files = self.files.lock();
        let of = files.entry(ino).or_default();
        path.clone_into(&mut of.path);
        for number in offset / PAGE..(offset + len as u64).div_ceil(PAGE) {
            let page = of.pages.entry(number).or_insert_with(|| Page {
                durable: read(file, number * PAGE),
                dirty: true,
            });
            page.dirty = true;
        }
    }

    pub(super) fn synced(&self, ino: u64, well: bool) {
        if let Some(of) = self.files.lock().get_mut(&ino) {
            match well {
                true => of.pages.retain(|_, page| !page.dirty),
                false => of.pages.values_mut().for_each(|page| page.dirty = false),
            }
        }
    }

    pub(super) fn lose(&self) {
        for of in std::mem::take(&mut *self.files.lock()).into_values() {
            // Deleted meanwhile, if it is not there.
            let Ok(file) = File::options().write(true).open(&of.path) else {
                continue;
            };
            for (number, page) in of.pages {
                file.write_all_at(&page.durable, number * PAGE)
                    .expect("taken back");
            }
        }
    }
}

/// A page as it is; what is beyond the end of the file counts as zeros.
fn read(file: &File, offset: u64) -> Vec<u8> {
    let mut page = vec![0; usize::try_from(PAGE).expect("small")];
    let mut at = 0;
    while at < page.len() {
        let read = file.read_at(&mut page[at..], offset + at as u64);
        match read.expect("read beneath") {
            0 => break,
            read => at += read,
        }
    }
    page
}
