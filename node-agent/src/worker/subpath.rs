//! Sub-paths of volumes, resolved so that no symbolic link inside the volume can lead out of it: each component is opened
//! beneath the one before by the kernel, and what was opened is pinned by a bind mount before the runtime sees a path.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// Opens `sub` below `root` (making missing directories) and binds it at `pin`.
pub(super) fn pin(root: &Path, sub: &str, pin: &Path) -> io::Result<()> {
    let found = open_beneath(root, Path::new(sub))?;
    let is_dir = rustix::fs::fstat(&found)
        .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode))?
        == rustix::fs::FileType::Directory;
    // A pin of an earlier try may be there.
    let _ = umount2(pin, MntFlags::MNT_DETACH);
    if let Some(parent) = pin.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if is_dir {
        std::fs::create_dir_all(pin)?;
    } else {
        File::create(pin)?;
    }
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    mount(
        Some(source.as_str()),
        pin,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(())
}

fn open_beneath(root: &Path, sub: &Path) -> io::Result<OwnedFd> {
    let base = rustix::fs::openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path| {
        rustix::fs::openat2(
            base.as_fd(),
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    };
    let mut known = std::path::PathBuf::new();
    let mut parent: Option<OwnedFd> = None;
    for component in sub.components() {
        let Component::Normal(name) = component else {
            return Err(io::Error::other(format!(
                "{} must not leave its volume",
                sub.display()
            )));
        };
        known.push(name);
        let next = match open(&known) {
            Ok(next) => next,
            Err(rustix::io::Errno::NOENT) => {
                let directory = parent.as_ref().map_or(base.as_fd(), AsFd::as_fd);
                match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => open(&known)?,
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        };
        parent = Some(next);
    }
    Ok(parent.unwrap_or(base))
}

/// Unmounts every pin of a pod. Absent is fine.
pub(super) fn unmount_all(directory: &Path) {
    for point in crate::mounts::below(directory) {
        let _ = umount2(&point, MntFlags::MNT_DETACH);
    }
}

/// Reads a small file of an image as seen from inside: links are resolved within the layer, never on the host.
pub(super) fn read_in_layers(layers: &[std::path::PathBuf], name: &str) -> String {
    for layer in layers.iter().rev() {
        let Ok(base) =
            rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        let opened = rustix::fs::openat2(
            &base,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        match opened {
            Ok(fd) => return io::read_to_string(File::from(fd)).unwrap_or_default(),
            Err(rustix::io::Errno::NOENT) => {}
            // Unreadable here hides what lower layers have.
            Err(_) => return String::new(),
        }
    }
    String::new()
}
