//! Mounts that belong to one supervisor: a private mount namespace, the cover over a hybrid cgroup tree, and the
//! container's overlay root. They vanish with the process, so nothing is left behind by a crash. Host mounts are never changed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// Gives this process a mount namespace of its own that still follows the host's mounts and unmounts.
pub fn own_mount_namespace() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        None::<&str>,
    )?;
    Ok(())
}

/// Mounts of the host that stay the host's own in our namespace: detached clones, of the same groups as the originals.
pub struct Shared(Vec<(OwnedFd, PathBuf)>);

/// Clones the mounts at these paths. Only before `own_mount_namespace`: that one cuts the way from us to the host.
pub fn take_along(paths: &[PathBuf]) -> io::Result<Shared> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let clones = paths.iter().map(|path| {
        let clone = open_tree(rustix::fs::CWD, path, flags)?;
        Ok((clone, path.clone()))
    });
    clones.collect::<io::Result<_>>().map(Shared)
}

impl Shared {
    /// Lays the clones over the paths that they came from; what is mounted in them shows on the host, and the other way.
    pub fn put_back(self) -> io::Result<()> {
        for (clone, path) in self.0 {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&clone, "", rustix::fs::CWD, &path, flags)?;
        }
        Ok(())
    }
}

/// Hides a mount point under an empty tmpfs. Only after `own_mount_namespace`.
pub fn cover(path: &Path) -> io::Result<()> {
    mount(
        Some("none"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=4k"),
    )?;
    Ok(())
}

/// Mounts the container's root at `<dir>/rootfs`: the layers below, `<dir>/upper` on top.
///
/// The layers are named through short links in `<dir>/l`, because mount options must fit one page.
pub fn mount_overlay(dir: &Path, layers: &[PathBuf]) -> io::Result<()> {
    let links = dir.join("l");
    for name in ["upper", "work", "rootfs", "l"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    let mut lower = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().rev().enumerate() {
        let link = links.join(index.to_string());
        match std::os::unix::fs::symlink(layer, &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => lower.push(index.to_string()),
        }
    }
    std::env::set_current_dir(&links)?;
    let options = format!(
        "lowerdir={},upperdir=../upper,workdir=../work",
        lower.join(":")
    );
    let rootfs = dir.join("rootfs");
    mount(
        Some("overlay"),
        &rootfs,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    std::env::set_current_dir(dir)
}
