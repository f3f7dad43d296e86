//! The image store on disk. Names point at images, images at layers; a layer goes when no image names it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;

use crate::traits::{ImageError, ImageRecord};

pub(super) struct Store {
    root: PathBuf,
    /// Images by config id.
    images: RwLock<BTreeMap<String, ImageRecord>>,
}

fn failed(what: &str, path: &Path, error: &dyn std::fmt::Display) -> ImageError {
    ImageError::Store {
        cause: format!("cannot {what} {}: {error}", path.display()),
    }
}

/// Whether this is a directory right below `layers`: records must not make the store hand out, or delete, anything else.
fn is_layer(path: &Path, layers: &Path) -> bool {
    let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
    parent.as_deref() == Some(layers)
        && path.file_name().is_some()
        && path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

impl Store {
    /// Opens the store as its only owner: what was left half-done is removed.
    pub(super) fn open(root: &Path) -> Result<Self, ImageError> {
        let store = Self::attach(root)?;
        let tmp = root.join("tmp");
        for entry in std::fs::read_dir(&tmp)
            .map_err(|e| failed("read", &tmp, &e))?
            .flatten()
        {
            // Left by a process that died; what cannot be removed now only costs space.
            let _ = std::fs::remove_dir_all(entry.path())
                .or_else(|_| std::fs::remove_file(entry.path()));
        }
        Ok(store)
    }

    /// Opens the store beside its owner, to add to it.
    pub(super) fn attach(root: &Path) -> Result<Self, ImageError> {
        for sub in ["layers", "images", "tmp"] {
            let dir = root.join(sub);
            std::fs::create_dir_all(&dir).map_err(|e| failed("make", &dir, &e))?;
        }
        let store = Self {
            root: root.to_owned(),
            images: RwLock::new(BTreeMap::new()),
        };
        store.reload()?;
        Ok(store)
    }

    /// Reads the records on disk: another process may have imported images.
    fn reload(&self) -> Result<(), ImageError> {
        let dir = self.root.join("images");
        let layers = self.root.join("layers");
        let layers = layers
            .canonicalize()
            .map_err(|e| failed("read", &layers, &e))?;
        let mut images = BTreeMap::new();
        for entry in std::fs::read_dir(&dir)
            .map_err(|e| failed("read", &dir, &e))?
            .flatten()
        {
            let record = std::fs::read(entry.path())
                .ok()
                .and_then(|text| serde_json::from_slice::<ImageRecord>(&text).ok());
            match record {
                Some(record) if record.layers.iter().all(|layer| is_layer(layer, &layers)) => {
                    images.insert(record.id.clone(), record);
                }
                _ => {
                    tracing::warn!(path = %entry.path().display(), "dropping an image whose record or layers are damaged");
                    std::fs::remove_file(entry.path())
                        .map_err(|e| failed("remove", &entry.path(), &e))?;
                }
            }
        }
        *self.images.write() = images;
        Ok(())
    }

    /// An image by config id, by normalised name, or by `repository@digest`.
    pub(super) fn find(&self, key: &str) -> Option<ImageRecord> {
        if let Some(found) = self.find_known(key) {
            return Some(found);
        }
        if let Err(error) = self.reload() {
            tracing::warn!(%error, "cannot read the image store again");
        }
        self.find_known(key)
    }

    fn find_known(&self, key: &str) -> Option<ImageRecord> {
        let images = self.images.read();
        let by_name = |record: &&ImageRecord| {
            record.image_id == key || record.references.iter().any(|reference| reference == key)
        };
        images
            .get(key)
            .or_else(|| images.values().find(by_name))
            .cloned()
    }

    pub(super) fn list(&self) -> Vec<ImageRecord> {
        self.images.read().values().cloned().collect()
    }

    /// Where the layer of this diff id is, or will be.
    pub(super) fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.root.join("layers").join(diff_id.replace(':', "-"))
    }

    /// A fresh path for work in progress, on the same file system as the rest.
    pub(super) fn scratch(&self) -> Scratch {
        Scratch(self.root.join("tmp").join(uuid::Uuid::new_v4().to_string()))
    }

    /// Gives a complete directory its final name. Another worker may have been first: its layer is as good.
    pub(super) fn commit_layer(
        &self,
        scratch: &Scratch,
        diff_id: &str,
    ) -> Result<PathBuf, ImageError> {
        self.publish(scratch, diff_id, sync_files)
    }

    /// What has its final name counts as complete for ever, so its content must be on the disk first: thousands of files,
    /// for which one sync of the file system is far cheaper than one of each.
    fn publish(
        &self,
        scratch: &Scratch,
        diff_id: &str,
        sync: fn(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, ImageError> {
        let path = self.layer_path(diff_id);
        sync(scratch).map_err(|e| failed("sync layer", scratch, &e))?;
        match std::fs::rename(&**scratch, &path) {
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(failed("keep layer", &path, &error)),
            Ok(()) => sync_names(&path).map_err(|e| failed("sync layer", &path, &e))?,
        }
        Ok(path)
    }

    /// Keeps an image under its names; a name leaves the image that had it before.
    pub(super) fn put(&self, mut record: ImageRecord) -> Result<ImageRecord, ImageError> {
        let mut images = self.images.write();
        if let Some(known) = images.get(&record.id) {
            let new: Vec<String> = known
                .references
                .iter()
                .filter(|name| !record.references.contains(name))
                .cloned()
                .collect();
            record.references.extend(new);
        }
        self.write(&record)?;
        let mut changed = Vec::new();
        for other in images.values_mut().filter(|other| other.id != record.id) {
            let before = other.references.len();
            other
                .references
                .retain(|name| !record.references.contains(name));
            if other.references.len() != before {
                changed.push(other.clone());
            }
        }
        for other in changed {
            self.write(&other)?;
        }
        images.insert(record.id.clone(), record.clone());
        Ok(record)
    }

    /// Removes a name (or, by id, the whole image); layers that nothing names go with it.
    pub(super) fn remove(&self, key: &str) -> Result<(), ImageError> {
        let mut images = self.images.write();
        let by_name = |r: &&ImageRecord| {
            r.id == key || r.image_id == key || r.references.iter().any(|name| name == key)
        };
        let Some(mut record) = images.values().find(by_name).cloned() else {
            return Ok(());
        };
        record.references.retain(|name| name != key);
        if !record.references.is_empty() && record.id != key {
            self.write(&record)?;
            images.insert(record.id.clone(), record);
            return Ok(());
        }
        images.remove(&record.id);
        let path = self.record_path(&record.id);
        std::fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
        let used: HashSet<&PathBuf> = images.values().flat_map(|r| &r.layers).collect();
        for layer in record.layers.iter().filter(|layer| !used.contains(layer)) {
            std::fs::remove_dir_all(layer).map_err(|e| failed("remove", layer, &e))?;
        }
        Ok(())
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.root
            .join("images")
            .join(format!("{}.json", id.replace([':', '/'], "-")))
    }

    fn write(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let path = self.record_path(&record.id);
        let aside = self.scratch();
        let text = serde_json::to_vec_pretty(record).map_err(|e| failed("encode", &path, &e))?;
        let write = || {
            let mut file = std::fs::File::create(&*aside)?;
            io::Write::write_all(&mut file, &text)?;
            file.sync_all()
        };
        write().map_err(|e| failed("write", &aside, &e))?;
        std::fs::rename(&*aside, &path)
            .and_then(|()| sync_names(&path))
            .map_err(|e| failed("keep", &path, &e))
    }
}

/// Everything of the file system that holds this directory.
fn sync_files(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(directory)?)?)
}

/// The names in the directory that holds `path`.
fn sync_names(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// A path for work in progress. What is there goes with this value: a pull may fail or be given up at any point. Nothing is
/// there any more once it was renamed.
pub(super) struct Scratch(PathBuf);

impl std::ops::Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is at the next start.
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_not_on_the_disk_yet_is_not_published() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("store");
        let id = format!("sha256:{}", "0".repeat(64));
        let scratch = store.scratch();
        std::fs::create_dir(&*scratch).expect("layer");
        let unsynced = store.publish(&scratch, &id, |_| Err(io::Error::other("disk")));
        assert!(unsynced.is_err() && !store.layer_path(&id).exists());
        let kept = store.commit_layer(&scratch, &id).expect("kept");
        drop(scratch);
        assert!(kept.is_dir());
        let late = store.scratch();
        std::fs::create_dir(&*late).expect("layer");
        let left = late.to_path_buf();
        assert_eq!(store.commit_layer(&late, &id).expect("as good"), kept);
        drop(late);
        assert!(!left.exists() && kept.is_dir());
    }
}
