//! What the file system's operations do, each in the folder beneath; `calls` takes them from the kernel.
//!
//! Decides nothing but where a name lies beneath. Inode numbers are those beneath, so that two names of one file are one
//! file here too. Invariant: the kernel is told to remember neither names nor attributes nor contents.

mod calls;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{FileAttr, FileHandle, FileType, Generation, INodeNo};
use parking_lot::Mutex;

use super::power::Power;
use super::switches::{Operation, Switches};

/// How long the kernel may rely on an answer.
const FOR_NOW: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);

pub(super) struct Files {
    root: PathBuf,
    root_ino: u64,
    /// A present name of each inode that the kernel has asked for; each look-up brings it up to date.
    paths: Mutex<HashMap<u64, PathBuf>>,
    open: Mutex<HashMap<u64, Arc<Open>>>,
    folders: Mutex<HashMap<u64, Arc<Vec<Item>>>>,
    next: AtomicU64,
    switches: Arc<Switches>,
    power: Arc<Power>,
}

struct Open {
    file: File,
    path: PathBuf,
    ino: u64,
}

/// One name in a folder, as it was when the folder was opened.
struct Item {
    ino: INodeNo,
    kind: FileType,
    name: OsString,
}

impl Open {
    /// Whether it is one that a loss of power takes from.
    fn is_log(&self) -> bool {
        self.path.extension().is_some_and(|end| end == "wal")
    }
}

impl Files {
    pub(super) fn new(root: &Path, switches: Arc<Switches>, power: Arc<Power>) -> Files {
        let root_ino = root.metadata().expect("the folder beneath").ino();
        Files {
            root: root.to_owned(),
            root_ino,
            paths: Mutex::default(),
            open: Mutex::default(),
            folders: Mutex::default(),
            next: AtomicU64::new(1),
            switches,
            power,
        }
    }

    fn path(&self, ino: INodeNo) -> io::Result<PathBuf> {
        if ino == INodeNo::ROOT {
            return Ok(self.root.clone());
        }
        let path = self.paths.lock().get(&ino.0).cloned();
        path.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn ino(&self, meta: &Metadata) -> INodeNo {
        match meta.ino() == self.root_ino {
            true => INodeNo::ROOT,
            false => INodeNo(meta.ino()),
        }
    }

    /// What lies at a path, remembered as being there.
    fn entry(&self, path: PathBuf) -> io::Result<FileAttr> {
        let meta = path.symlink_metadata()?;
        let attr = self.attr(&meta);
        self.paths.lock().insert(attr.ino.0, path);
        Ok(attr)
    }

    fn attr(&self, meta: &Metadata) -> FileAttr {
        FileAttr {
            ino: self.ino(meta),
            size: meta.len(),
            blocks: meta.blocks(),
            atime: meta.accessed().unwrap_or(UNIX_EPOCH),
            mtime: meta.modified().unwrap_or(UNIX_EPOCH),
            ctime: meta.modified().unwrap_or(UNIX_EPOCH),
            crtime: UNIX_EPOCH,
            kind: kind(meta.file_type()),
            perm: u16::try_from(meta.mode() & 0o7777).expect("twelve bits"),
            nlink: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn opened(&self, handle: FileHandle) -> io::Result<Arc<Open>> {
        let open = self.open.lock().get(&handle.0).cloned();
        open.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// By its handle, or its name, or, if that is gone, any handle.
    fn meta(&self, ino: INodeNo, handle: Option<FileHandle>) -> io::Result<Metadata> {
        if let Some(handle) = handle {
            return self.opened(handle)?.file.metadata();
        }
        let named = self.path(ino).and_then(|path| path.symlink_metadata());
        if let Ok(meta) = named.as_ref()
            && self.ino(meta) == ino
        {
            return named;
        }
        let open = self.open.lock();
        match open.values().find(|open| open.ino == ino.0) {
            Some(open) => open.file.metadata(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn keep_open(&self, file: File, path: PathBuf) -> io::Result<FileHandle> {
        let ino = file.metadata()?.ino();
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let open = Arc::new(Open { file, path, ino });
        self.open.lock().insert(handle, open);
        Ok(FileHandle(handle))
    }

    fn resize(&self, ino: INodeNo, handle: Option<FileHandle>, size: u64) -> io::Result<()> {
        let path = self.path(ino)?;
        self.switches.pass(Operation::Write, &path)?;
        match handle {
            Some(handle) => self.opened(handle)?.file.set_len(size),
            None => File::options().write(true).open(path)?.set_len(size),
        }
    }

    fn write_at(&self, handle: FileHandle, offset: u64, data: &[u8]) -> io::Result<u32> {
        let open = self.opened(handle)?;
        self.switches.pass(Operation::Write, &open.path)?;
        if open.is_log() {
            let (ino, path) = (open.ino, &open.path);
            self.power.writes(ino, path, &open.file, offset, data.len());
        }
        open.file.write_all_at(data, offset)?;
        u32::try_from(data.len()).map_err(io::Error::other)
    }

    fn read_at(&self, handle: FileHandle, offset: u64, size: u32) -> io::Result<Vec<u8>> {
        let open = self.opened(handle)?;
        self.switches.pass(Operation::Read, &open.path)?;
        let mut data = vec![0; size as usize];
        let mut at = 0;
        while at < data.len() {
            match open.file.read_at(&mut data[at..], offset + at as u64)? {
                0 => break,
                read => at += read,
            }
        }
        data.truncate(at);
        Ok(data)
    }

    fn sync(&self, handle: FileHandle, data_alone: bool) -> io::Result<()> {
        let open = self.opened(handle)?;
        if let Err(error) = self.switches.pass(Operation::Sync, &open.path) {
            self.power.synced(open.ino, false);
            return Err(error);
        }
        match data_alone {
            true => open.file.sync_data()?,
            false => open.file.sync_all()?,
        }
        self.power.synced(open.ino, true);
        Ok(())
    }

    fn list(&self, ino: INodeNo) -> io::Result<FileHandle> {
        let path = self.path(ino)?;
        self.switches.pass(Operation::Read, &path)?;
        let mut items = Vec::new();
        for item in path.read_dir()? {
            let item = item?;
            let Ok(meta) = item.path().symlink_metadata() else {
                continue;
            };
            items.push(Item {
                ino: self.ino(&meta),
                kind: kind(meta.file_type()),
                name: item.file_name(),
            });
        }
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.folders.lock().insert(handle, Arc::new(items));
        Ok(FileHandle(handle))
    }

    /// A change of names in a folder, allowed by the switches.
    fn change(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        let path = self.child(parent, name)?;
        self.switches.pass(Operation::Write, &path)?;
        Ok(path)
    }
}

fn kind(kind: std::fs::FileType) -> FileType {
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_socket() {
        FileType::Socket
    } else {
        FileType::RegularFile
    }
}
