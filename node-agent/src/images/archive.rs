//! Importing images from a file: docker archives (`manifest.json`) and OCI archives (`index.json`), for hosts without a
//! registry and for the demo. The archive is unpacked to scratch first, since its parts come in any order.

use std::path::{Path, PathBuf};

use oci_client::Reference;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::pull::{ParsedConfig, parse_config};
use super::store::Store;
use super::unpack::unpack;
use crate::traits::{ImageError, ImageRecord};

/// Why an archive could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not an image archive, or is damaged.
    #[error("not a usable image archive: {0}")]
    Content(String),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] ImageError),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// One image of an archive, by files below the scratch folder.
struct Found {
    config: PathBuf,
    layers: Vec<PathBuf>,
    names: Vec<String>,
}

pub(super) fn import(store: &Store, archive: &Path) -> Result<Vec<ImageRecord>, ImportError> {
    import_into(store, archive, &store.scratch())
}

fn import_into(
    store: &Store,
    archive: &Path,
    scratch: &Path,
) -> Result<Vec<ImageRecord>, ImportError> {
    let read = |source| ImportError::Read {
        path: archive.to_owned(),
        source,
    };
    std::fs::create_dir_all(scratch).map_err(read)?;
    let file = std::fs::File::open(archive).map_err(read)?;
    tar::Archive::new(std::io::BufReader::new(file))
        .unpack(scratch)
        .map_err(read)?;
    let found = if scratch.join("manifest.json").exists() {
        docker(scratch)?
    } else if scratch.join("index.json").exists() {
        oci(scratch)?
    } else {
        return Err(ImportError::Content(
            "it has neither manifest.json nor index.json".to_owned(),
        ));
    };
    found.into_iter().map(|image| keep(store, &image)).collect()
}

fn keep(store: &Store, image: &Found) -> Result<ImageRecord, ImportError> {
    let text = read(&image.config)?;
    let ParsedConfig { diff_ids, config } = parse_config(&text).map_err(ImportError::Content)?;
    if diff_ids.len() != image.layers.len() {
        return Err(ImportError::Content(
            "configuration and manifest disagree about the layers".to_owned(),
        ));
    }
    let mut layers = Vec::new();
    let mut size = 0;
    for (blob, diff_id) in image.layers.iter().zip(&diff_ids) {
        let file = std::fs::File::open(blob).map_err(|source| ImportError::Read {
            path: blob.clone(),
            source,
        })?;
        size += file.metadata().map(|m| m.len()).unwrap_or_default();
        let present = store.layer_path(diff_id);
        if present.is_dir() {
            layers.push(present);
            continue;
        }
        let into = store.scratch();
        unpack(file, &into, diff_id).map_err(|e| ImportError::Content(e.to_string()))?;
        layers.push(store.commit_layer(&into, diff_id)?);
    }
    let id = format!("sha256:{}", hex::encode(Sha256::digest(&text)));
    let references = image
        .names
        .iter()
        .filter_map(|n| n.parse::<Reference>().ok())
        .map(|r| r.whole())
        .collect();
    let record = ImageRecord {
        image_id: id.clone(),
        id,
        references,
        size_bytes: size,
        layers,
        config,
    };
    Ok(store.put(record)?)
}

fn docker(dir: &Path) -> Result<Vec<Found>, ImportError> {
    let entries: Vec<DockerEntry> = json(&dir.join("manifest.json"))?;
    let found = entries.into_iter().map(|entry| {
        Ok(Found {
            config: below(dir, &entry.config)?,
            layers: entry
                .layers
                .iter()
                .map(|layer| below(dir, layer))
                .collect::<Result<_, _>>()?,
            names: entry.repo_tags.unwrap_or_default(),
        })
    });
    found.collect()
}

fn oci(dir: &Path) -> Result<Vec<Found>, ImportError> {
    let index: Index = json(&dir.join("index.json"))?;
    let blob = |digest: &str| below(dir, &format!("blobs/{}", digest.replacen(':', "/", 1)));
    let found = index.manifests.into_iter().map(|descriptor| {
        let manifest: Manifest = json(&blob(&descriptor.digest)?)?;
        let name = [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ]
        .iter()
        .find_map(|key| descriptor.annotations.get(*key))
        .cloned();
        Ok(Found {
            config: blob(&manifest.config.digest)?,
            layers: manifest
                .layers
                .iter()
                .map(|layer| blob(&layer.digest))
                .collect::<Result<_, _>>()?,
            names: name.into_iter().collect(),
        })
    });
    found.collect()
}

/// A file of the archive by the name that the archive gives, never outside it.
fn below(dir: &Path, name: &str) -> Result<PathBuf, ImportError> {
    let content = |e: &dyn std::fmt::Display| ImportError::Content(format!("{name}: {e}"));
    let root = dir.canonicalize().map_err(|e| content(&e))?;
    let path = dir.join(name).canonicalize().map_err(|e| content(&e))?;
    if path.starts_with(&root) {
        Ok(path)
    } else {
        Err(content(&"leads out of the archive"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    std::fs::read(path).map_err(|source| ImportError::Read {
        path: path.to_owned(),
        source,
    })
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ImportError> {
    serde_json::from_slice(&read(path)?).map_err(|e| ImportError::Content(e.to_string()))
}
