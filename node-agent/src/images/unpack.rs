//! From a layer blob to a directory that overlayfs can use: tar with gzip, zstd or nothing around it, whiteouts turned into
//! overlayfs' own (character device 0/0, and the opaque attribute), owners, modes, times and attributes kept. Nothing is
//! written outside the directory, whatever the archive says.

use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sha2::{Digest, Sha256};

/// A layer may not unpack to more than this: a bound against archives made to fill disks.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;
/// Nor to more entries.
const ENTRIES_MAX: u64 = 4_000_000;

#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("cannot unpack {entry:?}: {source}")]
    Entry {
        entry: String,
        source: std::io::Error,
    },
    #[error("layer is not a readable archive: {0}")]
    Archive(#[from] std::io::Error),
    #[error("layer unpacks to {found}, the image says {expected}")]
    Digest { expected: String, found: String },
    #[error("layer is larger than {UNPACKED_BYTES_MAX} bytes or {ENTRIES_MAX} entries")]
    TooLarge,
}

/// Unpacks `blob` into the new directory `into`, and checks the digest of what was in it. Returns the unpacked size.
pub(super) fn unpack(blob: impl Read, into: &Path, diff_id: &str) -> Result<u64, UnpackError> {
    std::fs::create_dir_all(into)?;
    let mut hashed = Hashed {
        inner: decompressed(blob)?,
        hash: Sha256::new(),
        bytes: 0,
    };
    let mut archive = tar::Archive::new(&mut hashed);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    archive.set_overwrite(true);
    let root = into.canonicalize()?;
    for (count, entry) in (0_u64..).zip(archive.entries()?) {
        let mut entry = entry?;
        if count >= ENTRIES_MAX || entry.size() > UNPACKED_BYTES_MAX {
            return Err(UnpackError::TooLarge);
        }
        let path = entry.path()?.into_owned();
        unpack_entry(&mut entry, &path, &root).map_err(|source| UnpackError::Entry {
            entry: path.display().to_string(),
            source,
        })?;
    }
    // The digest is over the whole stream, the padding behind the last entry too.
    std::io::copy(&mut hashed, &mut std::io::sink())?;
    if hashed.bytes > UNPACKED_BYTES_MAX {
        return Err(UnpackError::TooLarge);
    }
    let found = format!("sha256:{}", hex::encode(hashed.hash.finalize()));
    if found != diff_id {
        return Err(UnpackError::Digest {
            expected: diff_id.to_owned(),
            found,
        });
    }
    Ok(hashed.bytes)
}

struct Hashed<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        if self.bytes > UNPACKED_BYTES_MAX {
            return Err(std::io::Error::other("layer is too large"));
        }
        Ok(count)
    }
}

/// By content rather than by media type: registries are known to name it wrong.
fn decompressed<'a>(blob: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let mut blob = BufReader::with_capacity(256 << 10, blob);
    let mut magic = [0_u8; 4];
    let mut have = 0;
    while have < magic.len() {
        match blob.read(&mut magic[have..])? {
            0 => break,
            count => have += count,
        }
    }
    let head = std::io::Cursor::new(magic[..have].to_vec());
    let whole = head.chain(blob);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(
            256 << 10,
            flate2::read::MultiGzDecoder::new(whole),
        )),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(whole)?),
        _ => Box::new(whole),
    })
}

fn unpack_entry<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    root: &Path,
) -> std::io::Result<()> {
    let Some(relative) = clean(path) else {
        return Ok(());
    }; // the root itself, or a way out of it
    let name = relative
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default()
        .to_owned();
    if let Some(hidden) = name.strip_prefix(".wh.") {
        let parent = inside(root, relative.parent().unwrap_or(Path::new("")))?;
        return whiteout(&parent, hidden);
    }
    let kind = entry.header().entry_type();
    if kind.is_character_special() || kind.is_block_special() || kind.is_fifo() {
        return special(entry, root, &relative);
    }
    if relative
        .parent()
        .is_some_and(|parent| !parent.as_os_str().is_empty())
    {
        inside(root, relative.parent().unwrap_or(Path::new("")))?;
    }
    entry.unpack_in(root).map(drop)
}

/// Only normal components; `None` when nothing is left or the path climbs.
fn clean(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => out.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!out.as_os_str().is_empty()).then_some(out)
}

/// The directory `relative` below `root`, made if absent, proven to be below it after every link is followed.
fn inside(root: &Path, relative: &Path) -> std::io::Result<PathBuf> {
    let mut current = root.to_owned();
    for component in relative.components() {
        let next = current.join(component);
        match next.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir(&next)?
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        current = next.canonicalize()?;
        if !current.starts_with(root) {
            return Err(std::io::Error::other("a link leads out of the layer"));
        }
    }
    Ok(current)
}

/// `.wh..wh..opq` hides what lower layers have in this directory; `.wh.NAME` hides NAME.
fn whiteout(parent: &Path, hidden: &str) -> std::io::Result<()> {
    if hidden == ".wh..opq" {
        return xattr::set(parent, "trusted.overlay.opaque", b"y");
    }
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(std::io::Error::other("not a whiteout"));
    }
    let path = parent.join(hidden);
    if let Ok(meta) = path.symlink_metadata() {
        if meta.is_dir() {
            std::fs::remove_dir_all(&path)?
        } else {
            std::fs::remove_file(&path)?
        }
    }
    Ok(mknod(&path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?)
}

fn special<R: Read>(
    entry: &tar::Entry<'_, R>,
    root: &Path,
    relative: &Path,
) -> std::io::Result<()> {
    let header = entry.header();
    let parent = inside(root, relative.parent().unwrap_or(Path::new("")))?;
    let path = parent.join(relative.file_name().unwrap_or_default());
    let kind = match header.entry_type() {
        kind if kind.is_character_special() => SFlag::S_IFCHR,
        kind if kind.is_block_special() => SFlag::S_IFBLK,
        _ => SFlag::S_IFIFO,
    };
    let device = makedev(
        header.device_major()?.unwrap_or_default().into(),
        header.device_minor()?.unwrap_or_default().into(),
    );
    if path.symlink_metadata().is_ok() {
        std::fs::remove_file(&path)?;
    }
    mknod(
        &path,
        kind,
        Mode::from_bits_truncate(header.mode()? & 0o7777),
        device,
    )?;
    let owner = |id: u64| u32::try_from(id).ok();
    std::os::unix::fs::lchown(&path, owner(header.uid()?), owner(header.gid()?))
}

#[cfg(test)]
mod tests;
