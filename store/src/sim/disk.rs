//! A disk that knows which bytes are durable, and what may become of the others.
//!
//! Only the log's files; the tables have their own model (`tables`). Invariant: what a sync has covered survives every
//! crash unchanged; what no sync has covered may be lost, kept, or kept in part, sector by sector.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disk::{Disk, DiskFile};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One host's storage; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: StdRng,
    files: BTreeMap<u64, File>,
    /// Names as the running process sees them, and as a crash would leave them.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    next_file: u64,
    faults: Faults,
    /// Something was done to it since the process started that may stop it.
    harmed: bool,
    dead: bool,
    log: Vec<String>,
}

/// What goes wrong while the process runs.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Faults {
    /// No file may be made or grow.
    pub(super) full: bool,
    /// The host stops at the n-th operation from now.
    pub(super) fuse: Option<u32>,
    /// The next sync fails.
    pub(super) sync_fails: bool,
}

#[derive(Debug, Default)]
struct File {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Grow(usize),
}

fn gone() -> io::Error {
    io::Error::other("the host is gone")
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            next_file: 0,
            faults: Faults::default(),
            harmed: false,
            dead: false,
            log: Vec::new(),
        })))
    }

    /// Changes what goes wrong.
    pub(super) fn fault(&self, change: impl FnOnce(&mut Faults)) {
        let mut state = self.0.lock();
        change(&mut state.faults);
        state.harmed = true;
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.lock().faults.full
    }

    /// Whether something was done to it since the process started that may stop it.
    pub(super) fn is_harmed(&self) -> bool {
        self.0.lock().harmed
    }

    /// Whether the host has stopped in the middle of an operation.
    pub(super) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// One operation of the host's: fails when it stops here.
    pub(super) fn step(&self) -> io::Result<()> {
        self.0.lock().step()
    }

    /// Nothing is written from here on.
    pub(super) fn kill(&self) {
        self.0.lock().dead = true;
    }

    /// What is on the disk after power was lost; or, with `kept`, after the process alone was.
    pub(super) fn restart(&self, kept: bool) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.dead = false;
        state.faults.fuse = None;
        state.faults.sync_fails = false;
        state.harmed = state.faults.full;
        if !kept {
            state.lose();
        }
    }

    /// Flips a bit of a log file, between its first byte and the last one that is not zero. Gives how to undo it.
    pub(super) fn flip(&self) -> Option<(PathBuf, usize, u8)> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let logs = state.durable_names.iter();
        let logs: Vec<_> = logs
            .filter(|(path, _)| path.extension().is_some())
            .collect();
        let (path, id) = logs.get(state.rng.random_range(0..logs.len().max(1)))?;
        let file = state.files.get_mut(id)?;
        let end = file.durable.iter().rposition(|byte| *byte != 0)?;
        let (at, bit) = (
            state.rng.random_range(0..=end),
            1 << state.rng.random_range(0..8),
        );
        file.durable[at] ^= bit;
        file.data = file.durable.clone();
        Some(((*path).clone(), at, bit))
    }

    /// Flips a bit back.
    pub(super) fn unflip(&self, (path, at, bit): &(PathBuf, usize, u8)) {
        let mut state = self.0.lock();
        let state = &mut *state;
        let id = state.durable_names.get(path);
        if let Some(file) = id.and_then(|id| state.files.get_mut(id)) {
            file.durable[*at] ^= bit;
            file.data = file.durable.clone();
        }
    }

    /// What happened since the last call.
    pub(super) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().log)
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(gone());
        }
        if let Some(left) = &mut self.faults.fuse {
            if *left == 0 {
                self.dead = true;
                return Err(gone());
            }
            *left -= 1;
        }
        Ok(())
    }

    /// Decides what becomes of everything that is not durable.
    fn lose(&mut self) {
        let names: Vec<PathBuf> = self.names.keys().cloned().collect();
        let lost: Vec<PathBuf> = self.durable_names.keys().cloned().collect();
        for path in names {
            let id = self.names[&path];
            if self.durable_names.get(&path) != Some(&id) && self.rng.random_bool(0.5) {
                self.durable_names.insert(path, id);
            }
        }
        for path in lost {
            if !self.names.contains_key(&path) && self.rng.random_bool(0.5) {
                self.durable_names.remove(&path);
            }
        }
        self.names = self.durable_names.clone();
        let Self { files, rng, .. } = self;
        for file in files.values_mut() {
            // One crash is mostly clean in one way: the writes in flight were lost, or kept, or anything.
            let mood = rng.random_range(0..3);
            for pending in std::mem::take(&mut file.pending) {
                let keep = match mood {
                    0 => false,
                    1 => true,
                    _ => rng.random_bool(0.5),
                };
                match pending {
                    Pending::Grow(len) if keep => grow(&mut file.durable, len),
                    Pending::Grow(_) => {}
                    Pending::Write(at, data) => {
                        let torn = mood == 2 && rng.random_bool(0.7);
                        put(&mut file.durable, at, &data, |_| {
                            if torn { rng.random_bool(0.5) } else { keep }
                        });
                    }
                }
            }
            file.data = file.durable.clone();
        }
        let live: std::collections::BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| live.contains(id));
    }

    fn file(&mut self, id: u64) -> io::Result<&mut File> {
        self.files.get_mut(&id).ok_or_else(gone)
    }
}

fn grow(data: &mut Vec<u8>, len: usize) {
    if data.len() < len {
        data.resize(len, 0);
    }
}

/// Writes the sectors of `bytes` at `at` that `keep` wants.
fn put(data: &mut Vec<u8>, at: usize, bytes: &[u8], mut keep: impl FnMut(usize) -> bool) {
    let mut from = at;
    while from < at + bytes.len() {
        let to = ((from / SECTOR + 1) * SECTOR).min(at + bytes.len());
        if keep(from / SECTOR) {
            grow(data, to);
            data[from..to].copy_from_slice(&bytes[from - at..to - at]);
        }
        from = to;
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        self.step()
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send + Sync>> {
        // One process per host is the simulation's own doing.
        self.step()?;
        Ok(Box::new(()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.step()?;
        let names = state
            .names
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(names.collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.step()?;
        if state.faults.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A new file under the old name: nothing of the old contents can come back but with the old name.
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, File::default());
        state.names.insert(path.to_owned(), id);
        Ok(Box::new(SimFile(self.clone(), id)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.step()?;
        let id = state.names.get(path).copied();
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile(self.clone(), id)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock();
        state.step()?;
        let id = state.names.get(path).copied();
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        Ok(state.file(id)?.data.clone())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

struct SimFile(SimDisk, u64);

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.0.0.lock();
        Ok(state.file(self.1)?.data.len() as u64)
    }

    fn read_exact_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.0.0.lock();
        state.step()?;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let file = state.file(self.1)?;
        let found = file.data.get(at..at + data.len());
        data.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.0.0.lock();
        state.step()?;
        let full = state.faults.full;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let file = state.file(self.1)?;
        if full && at + data.len() > file.data.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        put(&mut file.data, at, data, |_| true);
        file.pending.push(Pending::Write(at, data.to_vec()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.0.lock();
        state.step()?;
        if std::mem::take(&mut state.faults.sync_fails) {
            state.log.push("sync failed".to_owned());
            // As Linux has it: what was to be written counts as clean, is still read, and is gone with the power.
            state.file(self.1)?.pending.clear();
            return Err(io::Error::other("the disk reports an error"));
        }
        let file = state.file(self.1)?;
        for pending in std::mem::take(&mut file.pending) {
            match pending {
                Pending::Grow(len) => grow(&mut file.durable, len),
                Pending::Write(at, data) => put(&mut file.durable, at, &data, |_| true),
            }
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.0.0.lock();
        state.step()?;
        if state.faults.full {
            // As the host's disk: the log goes on without.
            return Ok(());
        }
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        let file = state.file(self.1)?;
        grow(&mut file.data, len);
        file.pending.push(Pending::Grow(len));
        Ok(())
    }

    fn wipe(&self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut state = self.0.0.lock();
        state.step()?;
        let from = usize::try_from(from).map_err(io::Error::other)?;
        let to = usize::try_from(to).map_err(io::Error::other)?;
        let zeros = vec![0; to - from];
        let file = state.file(self.1)?;
        put(&mut file.data, from, &zeros, |_| true);
        file.pending.push(Pending::Write(from, zeros));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use bytes::Bytes;
    use openraft::EntryPayload;

    use super::*;
    use crate::raft::types::{Command, Entry, LogId};
    use crate::raft::wal::{Wal, WalOptions};

    fn open(disk: &SimDisk) -> Wal {
        let options = WalOptions {
            disk: Arc::new(disk.clone()),
            segment_bytes: 64 << 10,
            ..WalOptions::new("/wal")
        };
        Wal::open(options).expect("open")
    }

    /// Appends an entry of several sectors; gives whether it became durable.
    fn append(wal: &Wal, index: u64) -> bool {
        let (done, durable) = mpsc::channel();
        let entry = Entry {
            log_id: LogId::new_term_index(1, index),
            payload: EntryPayload::Normal(Command(Bytes::from(vec![7; 3000]))),
        };
        let done = Box::new(move |result: io::Result<()>| {
            done.send(result.is_ok()).expect("the test waits");
        });
        wal.append([entry], done).expect("accepted");
        durable.recv().expect("answered")
    }

    #[test]
    fn a_restart_after_a_failed_sync_took_what_the_disk_had_lost_for_written() {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            let wal = open(&disk);
            assert!(append(&wal, 0));
            disk.fault(|faults| faults.sync_fails = true);
            assert!(!append(&wal, 1));
            drop(wal);
            disk.restart(true);
            // The process alone has ended: what it wrote last is still read. So a leader may count it as stored here.
            let wal = open(&disk);
            assert_eq!(wal.bounds().1, Some(LogId::new_term_index(1, 1)));
            assert!(append(&wal, 2));
            drop(wal);
            disk.restart(false);
            let last = open(&disk).bounds().1;
            assert_eq!(last, Some(LogId::new_term_index(1, 2)), "seed {seed}");
        }
    }
}
