//! The kernel's calls, one by one, and the answers to them.
//!
//! Invariant: each call is answered once, with what was done or with the error beneath.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, LockOwner, OpenAccMode,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::FallocateFlags;

use super::super::switches::Operation;
use super::{FOR_NOW, Files, GENERATION};

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
