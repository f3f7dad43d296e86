//! What goes wrong now, for which operation, on which files.
//!
//! No IO. Invariant: an operation that hangs looks again when anything changes, so that healing the disk frees it.

use std::path::Path;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What reaches a disk. Looking up names and sizes does not: the host knows those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    /// Of contents, names and sizes.
    Write,
    Sync,
}

impl Operation {
    pub(super) const ALL: [Operation; 3] = [Operation::Read, Operation::Write, Operation::Sync];
}

/// What may become of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    Slow(Duration),
    /// At random, up to this.
    SlowUpTo(Duration),
    /// EIO.
    Fails,
    Hangs,
}

/// Shared by the test and the file system's threads.
pub(super) struct Switches {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    set: Vec<(&'static str, Operation, Trouble)>,
    asked: [u64; 3],
    failed: [u64; 3],
    rng: StdRng,
}

impl Default for Switches {
    fn default() -> Self {
        let state = State {
            set: Vec::new(),
            asked: [0; 3],
            failed: [0; 3],
            rng: StdRng::seed_from_u64(0),
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

impl Switches {
    pub(super) fn set(&self, part: &'static str, operation: Operation, trouble: Trouble) {
        let mut state = self.state.lock();
        let other = |(p, o, _): &(&str, Operation, Trouble)| (*p, *o) != (part, operation);
        state.set.retain(other);
        state.set.push((part, operation, trouble));
        self.changed.notify_all();
    }

    pub(super) fn clear(&self) {
        self.state.lock().set.clear();
        self.changed.notify_all();
    }

    pub(super) fn asked(&self, operation: Operation) -> u64 {
        self.state.lock().asked[operation as usize]
    }

    pub(super) fn failed(&self, operation: Operation) -> u64 {
        self.state.lock().failed[operation as usize]
    }

    /// Returns when the operation may go on, or with the error that it is to have.
    pub(super) fn pass(&self, operation: Operation, path: &Path) -> std::io::Result<()> {
        let path = path.to_string_lossy();
        let mut state = self.state.lock();
        state.asked[operation as usize] += 1;
        let delay = loop {
            let mut set = state.set.iter();
            let found = set.find(|(part, of, _)| *of == operation && path.contains(part));
            match found.map(|(_, _, trouble)| *trouble) {
                None => return Ok(()),
                Some(Trouble::Slow(delay)) => break delay,
                Some(Trouble::SlowUpTo(most)) => {
                    break most.mul_f64(state.rng.random_range(0.0..1.0));
                }
                Some(Trouble::Fails) => {
                    state.failed[operation as usize] += 1;
                    return Err(std::io::Error::from_raw_os_error(libc::EIO));
                }
                Some(Trouble::Hangs) => self.changed.wait(&mut state),
            }
        };
        drop(state);
        std::thread::sleep(delay);
        Ok(())
    }
}
