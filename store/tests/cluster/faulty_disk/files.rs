//! The file system's operations, each passed on to the folder beneath.
//!
//! Decides nothing but where a name lies beneath. Inode numbers are those beneath, so that two names of one file are one
//! file here too. Invariant: the kernel is told to remember neither names nor attributes nor contents.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

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

/// Answers with what was done, or why not.
macro_rules! answer {
    ($reply:ident, $result:expr, $done:expr) => {
        match $result {
            Ok(value) => $done(value),
            Err(error) => $reply.error(Errno::from(error)),
        }
    };
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.child(parent, name).and_then(|path| self.entry(path));
        answer!(reply, found, |attr| reply
            .entry(&FOR_NOW, &attr, GENERATION));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.meta(ino, handle), |meta| reply
            .attr(&FOR_NOW, &self.attr(&meta)));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = || {
            if let Some(size) = size {
                self.resize(ino, handle, size)?;
            }
            if let Some(mode) = mode {
                let mode = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(self.path(ino)?, mode)?;
            }
            self.meta(ino, handle)
        };
        answer!(reply, changed(), |meta| reply
            .attr(&FOR_NOW, &self.attr(&meta)));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.change(parent, name).and_then(|path| {
            let mut builder = std::fs::DirBuilder::new();
            builder.mode(mode & !umask).create(&path)?;
            self.entry(path)
        });
        answer!(reply, made, |attr| reply.entry(&FOR_NOW, &attr, GENERATION));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let gone = self.change(parent, name).and_then(std::fs::remove_file);
        answer!(reply, gone, |()| reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let gone = self.change(parent, name).and_then(std::fs::remove_dir);
        answer!(reply, gone, |()| reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let moved = || {
            if !flags.is_empty() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let to = self.child(new_parent, new_name)?;
            std::fs::rename(self.change(parent, name)?, &to)?;
            self.entry(to).map(drop)
        };
        answer!(reply, moved(), |()| reply.ok());
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = || {
            let to = self.change(new_parent, new_name)?;
            std::fs::hard_link(self.path(ino)?, &to)?;
            self.entry(to)
        };
        answer!(reply, linked(), |attr| reply
            .entry(&FOR_NOW, &attr, GENERATION));
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = || {
            let path = self.path(ino)?;
            let mut options = File::options();
            // Also read where only writing was asked for: what a loss of power gives back must be known.
            let write = flags.acc_mode() != OpenAccMode::O_RDONLY;
            let file = options.read(true).write(write).open(&path)?;
            self.keep_open(file, path)
        };
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, opened(), |handle| reply.opened(handle, direct));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let created = || {
            let path = self.change(parent, name)?;
            let mut options = File::options();
            options.read(true).write(true).mode(mode & !umask);
            match flags & libc::O_EXCL {
                0 => options.create(true),
                _ => options.create_new(true),
            };
            let file = options.open(&path)?;
            let attr = self.entry(path.clone())?;
            Ok::<_, io::Error>((attr, self.keep_open(file, path)?))
        };
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, created(), |(attr, handle)| reply
            .created(&FOR_NOW, &attr, GENERATION, handle, direct));
    }

    fn read(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.read_at(handle, offset, size);
        answer!(reply, read, |data: Vec<u8>| reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _how: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.write_at(handle, offset, data);
        answer!(reply, written, |len| reply.written(len));
    }

    fn flush(
        &self,
        _: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.open.lock().remove(&handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        data_alone: bool,
        reply: ReplyEmpty,
    ) {
        answer!(reply, self.sync(handle, data_alone), |()| reply.ok());
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let none = FopenFlags::empty();
        answer!(reply, self.list(ino), |handle| reply.opened(handle, none));
    }

    fn readdir(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let items = self.folders.lock().get(&handle.0).cloned();
        let items = items.unwrap_or_default();
        for (next, item) in (1..)
            .zip(items.iter())
            .skip(usize::try_from(offset).unwrap_or(0))
        {
            if reply.add(item.ino, next, item.kind, &item.name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.folders.lock().remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _data_alone: bool,
        reply: ReplyEmpty,
    ) {
        let synced = || {
            let path = self.path(ino)?;
            self.switches.pass(Operation::Sync, &path)?;
            File::open(path)?.sync_all()
        };
        answer!(reply, synced(), |()| reply.ok());
    }

    fn statfs(&self, _: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let stat = rustix::fs::statvfs(&self.root).map_err(io::Error::from);
        answer!(reply, stat, |stat: rustix::fs::StatVfs| {
            let small = |value: u64| u32::try_from(value).unwrap_or(4096);
            let (free, mine) = (stat.f_bfree, stat.f_bavail);
            let (size, unit) = (small(stat.f_bsize), small(stat.f_frsize));
            reply.statfs(
                stat.f_blocks,
                free,
                mine,
                stat.f_files,
                stat.f_ffree,
                size,
                255,
                unit,
            );
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let reserved = || {
            let open = self.opened(handle)?;
            self.switches.pass(Operation::Write, &open.path)?;
            let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
            Ok::<_, io::Error>(rustix::fs::fallocate(&open.file, mode, offset, length)?)
        };
        answer!(reply, reserved(), |()| reply.ok());
    }
}
