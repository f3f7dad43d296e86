//! What the log asks of a disk: files written in place, made durable on demand, in one folder.
//!
//! Not a file system: only what the log needs, so that a simulation can say which bytes a crash keeps. Invariant: a file
//! is durable up to its last `sync_data`, its name after `sync_dir` of its folder, and nothing before.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;

/// A place for files.
pub(crate) trait Disk: Debug + Send + Sync + 'static {
    /// Makes a folder and those above it, where they are missing.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Takes `path` for this process, as long as what comes back lives.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Names of the files in a folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// A new file, or an old one made empty.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file, to read and write.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The whole of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Removes a file's name. Its space may come back later.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names created or removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile: Send + Sync {
    /// Bytes, with those that were only reserved.
    fn size(&self) -> io::Result<u64>;
    /// Fills `data` from `offset` on, or fails.
    fn read_exact_at(&self, data: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the contents and all that is known of the file durable.
    fn sync_all(&self) -> io::Result<()>;
    /// Reserves space ahead, so that a sync has less of the file's own bookkeeping to write. Where that is not to be had, the
    /// file grows as it is written: a disk that is nearly full must not keep a member from starting, or from writing the
    /// deletions that free it.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
    /// Makes everything in `from..to` zero without giving back its space.
    fn wipe(&self, from: u64, to: u64) -> io::Result<()>;
}

/// The host's disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HostDisk;

impl Disk for HostDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&file, operation).map_err(|error| {
            let kind = io::Error::from(error).kind();
            io::Error::new(kind, "another process uses this log")
        })?;
        Ok(Box::new(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in std::fs::read_dir(dir)? {
            // A name that is no text is none of ours.
            names.extend(item?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        let file = options.create(true).truncate(true).read(true).write(true);
        Ok(Box::new(HostFile(file.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Box::new(HostFile(file)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        File::open(path)?.read_to_end(&mut data)?;
        Ok(data)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        crate::trickle::remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// An open file of the host.
struct HostFile(File);

impl DiskFile for HostFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(data, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error @ rustix::io::Errno::NOSPC) => {
                tracing::warn!(%error, bytes, "no space to reserve for the log");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn wipe(&self, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.0, FallocateFlags::ZERO_RANGE, from, to - from) {
            // Some file systems cannot; then the space goes and is reserved anew.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                self.0.set_len(from)?;
                self.reserve(to)
            }
            wiped => Ok(wiped?),
        }
    }
}
