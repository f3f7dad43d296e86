//! Writing a set of files so that a reader sees one version whole: a new versioned directory, then one rename of the `..data`
//! link. The layout is upstream's, since programs watch for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

/// One file: content and mode bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
}

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `dir` show just these files (paths are relative and clean). Unchanged content is left as it is.
pub(super) fn write(
    dir: &Path,
    files: &BTreeMap<String, File>,
    group: Option<u32>,
) -> io::Result<()> {
    let current = fs::read_link(dir.join(DATA)).ok();
    if current
        .as_ref()
        .is_some_and(|version| same(&dir.join(version), files))
    {
        return links(dir, files); // a crash may have come between the swap and the links
    }
    let version = format!("..{}", uuid::Uuid::new_v4());
    let fresh = dir.join(&version);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.content)?;
        // With a group the files must be readable by it, whatever the mode says.
        let mode = if group.is_some() {
            file.mode | 0o440
        } else {
            file.mode
        };
        if let Some(group) = group {
            chown(&target, None, Some(group))?;
        }
        fs::set_permissions(&target, Permissions::from_mode(mode))?;
    }
    let swap = dir.join(DATA_NEW);
    let _ = fs::remove_file(&swap); // left by a crash
    symlink(&version, &swap)?;
    fs::rename(&swap, dir.join(DATA))?;
    links(dir, files)?;
    drop_old(dir, &version)
}

fn same(version: &Path, files: &BTreeMap<String, File>) -> bool {
    let mut found = BTreeSet::new();
    if list(version, version, &mut found).is_err() || !found.iter().eq(files.keys()) {
        return false;
    }
    files.iter().all(|(path, file)| {
        fs::read(version.join(path)).is_ok_and(|content| content == file.content)
    })
}

fn list(root: &Path, dir: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, found)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// The names that users see: links through `..data`, none for what is gone.
fn links(dir: &Path, files: &BTreeMap<String, File>) -> io::Result<()> {
    let tops: BTreeSet<&str> = files
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect();
    for top in &tops {
        let link = dir.join(top);
        if fs::read_link(&link).is_err() {
            symlink(Path::new(DATA).join(top), &link)?;
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(DATA));
        if ours && !name.starts_with("..") && !tops.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn drop_old(dir: &Path, current: &str) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") && name != current && name != DATA && entry.file_type()?.is_dir()
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
