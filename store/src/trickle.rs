//! Gives the space of deleted files back in small steps.
//!
//! The last close of a deleted file frees all of it at once. On a file system that tells its disk of freed blocks (ext4 with
//! `discard`, as images for clouds have it) the journal's next commit waits until the disk has dealt with all of them, and
//! with the commit waits the sync of the log: compactions that deleted some 100 MiB stopped every write for 0.3 to 0.6 s.
//!
//! Does not delete names. Invariant: only files without a name are ever made shorter.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// What is freed at a time.
pub(crate) const STEP: u64 = 1 << 20;
/// Between two steps when little waits: about 150 MiB/s, a part of what disks can do.
const PAUSE: Duration = Duration::from_millis(5);
/// The more waits the shorter the pause. From here on there is none: a disk that is written faster than it is freed would
/// fill up with what nobody sees.
const WAITING_BYTES_MAX: u64 = 512 << 20;
/// Files that wait. Those beyond it are freed at once.
const WAITING_MAX: usize = 4096;

/// Bytes of files that wait.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// Closes a file whose name is gone, bit by bit and on a thread of its own. One that still has a name is just closed.
pub(crate) fn free(file: File) {
    if !is_nameless(&file) {
        return;
    }
    static QUEUE: OnceLock<Option<SyncSender<(File, u64)>>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("corten-free".to_owned());
        match thread.spawn(move || run(&receiver)) {
            Ok(_) => Some(sender),
            Err(error) => {
                tracing::warn!(%error, "deleted files are freed at once");
                None
            }
        }
    });
    let size = size(&file);
    WAITING.fetch_add(size, Ordering::Relaxed);
    let queued = queue.as_ref().is_some_and(|queue| {
        // A full queue gives the file back, and dropping it frees it.
        queue.try_send((file, size)).is_ok()
    });
    if !queued {
        WAITING.fetch_sub(size, Ordering::Relaxed);
    }
}

/// Removes a name, and frees the file behind it bit by bit when that was its last one.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    let file = File::options().write(true).open(path);
    std::fs::remove_file(path)?;
    if let Ok(file) = file {
        free(file);
    }
    Ok(())
}

/// Whether no name leads to a file any more. One that cannot be asked counts as having one.
pub(crate) fn is_nameless(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() == 0)
}

pub(crate) fn size(file: &File) -> u64 {
    file.metadata().map_or(0, |meta| meta.len())
}

fn run(files: &Receiver<(File, u64)>) {
    for (file, size) in files {
        shrink(&file, size);
    }
}

/// `left` is what was counted as waiting.
fn shrink(file: &File, mut left: u64) {
    while left > STEP && file.set_len(left - STEP).is_ok() {
        left -= STEP;
        let waiting = WAITING.fetch_sub(STEP, Ordering::Relaxed);
        std::thread::sleep(pause(waiting));
    }
    WAITING.fetch_sub(left, Ordering::Relaxed);
}

/// How long to wait before the next step, when so many bytes wait.
fn pause(waiting: u64) -> Duration {
    let room = WAITING_BYTES_MAX.saturating_sub(waiting);
    PAUSE.mul_f64(room as f64 / WAITING_BYTES_MAX as f64)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Instant;

    use super::*;

    /// A file of some steps, and another handle on it.
    pub(crate) fn made(path: &Path) -> File {
        std::fs::write(path, vec![7; 5 << 20]).expect("written");
        File::open(path).expect("opened")
    }

    /// Waits until what is left is freed by the last close.
    pub(crate) fn wait_until_freed(file: &File) {
        let until = Instant::now() + Duration::from_secs(30);
        while size(file) > STEP {
            assert!(Instant::now() < until, "{} bytes are left", size(file));
            std::thread::sleep(PAUSE);
        }
    }

    #[test]
    fn what_waits_does_not_pile_up() {
        assert_eq!(pause(0), PAUSE);
        assert_eq!(pause(WAITING_BYTES_MAX / 2), PAUSE / 2);
        assert_eq!(pause(WAITING_BYTES_MAX), Duration::ZERO);
        assert_eq!(pause(u64::MAX), Duration::ZERO);
    }

    #[test]
    fn a_file_without_a_name_goes_step_by_step() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a");
        let file = made(&path);
        remove(&path).expect("removed");
        assert!(!path.exists());
        wait_until_freed(&file);
    }

    #[test]
    fn a_file_with_another_name_stays_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (one, other) = (dir.path().join("a"), dir.path().join("b"));
        let file = made(&one);
        std::fs::hard_link(&one, &other).expect("linked");
        remove(&one).expect("removed");
        // Whoever is behind it in the queue has had its turn.
        let last = dir.path().join("c");
        let behind = made(&last);
        remove(&last).expect("removed");
        wait_until_freed(&behind);
        assert_eq!(size(&file), 5 << 20);
        assert!(remove(&last).is_err(), "it is gone");
    }
}
