//! Whether table files may be written past the page cache.
//!
//! Tables are written by the hundred MiB, and nobody reads most of what is written. Through the page cache these writes held up the
//! log's: 1.0 to 1.5 % of the puts beside a load of 30 MiB/s took longer than 100 ms, and 0.1 % do where they go to the disk directly.
//! Invariant: asking changes nothing in the folder.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Never the name of a table.
const PROBE: &str = "direct.probe";
/// Larger than the blocks of any disk, and aligned as much.
#[repr(align(4096))]
struct Block([u8; 4096]);

/// Whether the file system of a folder takes direct writes; some do not, and say so when a file is opened or written.
pub(super) fn is_possible(dir: &Path) -> bool {
    let path = dir.join(PROBE);
    let written = write(&path);
    // It may not have been made.
    let _ = std::fs::remove_file(&path);
    if let Err(error) = &written {
        tracing::info!(%error, dir = %dir.display(), "tables are written through the page cache");
    }
    written.is_ok()
}

fn write(path: &Path) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::DIRECT | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    let block = Box::new(Block([0; 4096]));
    match rustix::io::write(&file, &block.0)? {
        4096 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("temp dir");
        is_possible(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
        assert!(!is_possible(&dir.path().join("missing")));
        assert!(
            !is_possible(Path::new("/proc/self")),
            "no file can be made there"
        );
    }
}
