//! Sub-paths of volumes, resolved so that no symbolic link inside the volume can lead out of it: each component is opened
//! beneath the one before by the kernel, and what was opened is pinned by a bind mount before the runtime sees a path.

use std::fs::File;
use std::io::{self, Read};
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

/// Most that is read of one file of an image.
const IMAGE_FILE_BYTES_MAX: u64 = 1 << 20;

/// The beginning of a regular file; images are free to hold devices and endless files under any name.
fn read_small(found: &OwnedFd) -> io::Result<String> {
    let stat = rustix::fs::fstat(found)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(IMAGE_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a small file of an image as seen from inside: links are resolved within the layer, never on the host.
pub(super) fn read_in_layers(layers: &[std::path::PathBuf], name: &str) -> String {
    for layer in layers.iter().rev() {
        let Ok(base) =
            rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        // Not opened for reading yet: opening a device can do things.
        let found = rustix::fs::openat2(
            &base,
            name,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        match found {
            Ok(fd) => return read_small(&fd).unwrap_or_default(),
            Err(rustix::io::Errno::NOENT) => {}
            // Unreadable here hides what lower layers have.
            Err(_) => return String::new(),
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_passwd_of_an_image_is_not_read_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let layer = dir.path().join("layer");
        std::fs::create_dir_all(layer.join("etc")).expect("etc");
        let passwd = layer.join("etc/passwd");
        let read = || read_in_layers(std::slice::from_ref(&layer), "etc/passwd");
        std::fs::write(&passwd, "root:x:0:0::/:/bin/sh\n").expect("file");
        assert_eq!(read(), "root:x:0:0::/:/bin/sh\n");
        let endless = File::create(&passwd).expect("file");
        endless.set_len(1 << 40).expect("a sparse file");
        assert_eq!(read().len() as u64, IMAGE_FILE_BYTES_MAX);
        std::fs::remove_file(&passwd).expect("remove");
        let zero = nix::sys::stat::makedev(1, 5);
        nix::sys::stat::mknod(
            &passwd,
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::from_bits_truncate(0o666),
            zero,
        )
        .expect("/dev/zero in an image (tests run as root)");
        assert_eq!(read(), "");
    }
}
