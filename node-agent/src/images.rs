//! Images of this host: pulled from OCI registries or imported from archives, unpacked once per layer, usable as overlayfs
//! lower directories. A CRI runtime is not involved.
//!
//! ```text
//!  <root>/layers/<diff id>/        one unpacked layer, complete as soon as it has this name
//!  <root>/images/<config id>.json  one image: its layers, run configuration and names
//!  <root>/tmp/                     what is being downloaded or unpacked; emptied at start
//! ```
//!
//! Invariant: a layer directory is complete or absent, and its content had the digest that the image's manifest and
//! configuration name.

mod archive;
mod auth;
mod collect;
mod pull;
mod registries;
mod store;
mod unpack;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use oci_client::Reference;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::traits::{
    EnsuredImage, ImageError, ImageRecord, ImageRequest, ImageService, PullOutcome, PullPolicy,
    PullProgress,
};

pub use archive::ImportError;
pub use collect::{Collector, InUse, Thresholds};
use registries::Registries;
use store::Store;

/// Where images are kept and how registries are reached.
#[derive(Clone, Debug)]
pub struct ImagesConfig {
    /// The root of the image store.
    pub root: PathBuf,
    /// Folder with `<registry>/hosts.toml`, as containerd's `config_path`.
    pub registries: Option<PathBuf>,
    /// Pulls under way at once.
    pub pulls_max: usize,
}

/// The image service of this host.
pub struct Images {
    store: Arc<Store>,
    registries: Registries,
    slots: tokio::sync::Semaphore,
    /// One pull per reference: later callers wait for the first and then find the image.
    flights: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Held for reading while images are looked up or pulled, for writing while they are collected.
    gate: tokio::sync::RwLock<()>,
    /// When images were last asked for, by config id; since this process began.
    last_used: Mutex<HashMap<String, Instant>>,
}

impl Images {
    /// Opens (or makes) the store.
    pub fn open(config: ImagesConfig) -> Result<Self, ImageError> {
        corten_base::tls::install_provider();
        Ok(Self {
            store: Arc::new(Store::open(&config.root)?),
            registries: Registries::new(config.registries),
            slots: tokio::sync::Semaphore::new(config.pulls_max.max(1)),
            flights: Mutex::new(HashMap::new()),
            gate: tokio::sync::RwLock::new(()),
            last_used: Mutex::new(HashMap::new()),
        })
    }

    /// Imports a docker or OCI archive; returns what was imported.
    pub async fn import(&self, archive: PathBuf) -> Result<Vec<ImageRecord>, ImportError> {
        let store = Arc::clone(&self.store);
        let work = tokio::task::spawn_blocking(move || archive::import(&store, &archive));
        work.await
            .map_err(|error| ImportError::Content(error.to_string()))?
    }

    fn flight(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock();
        flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        Arc::clone(flights.entry(key.to_owned()).or_default())
    }
}

/// Imports an archive into the store at `root` from beside a running agent, which finds it when it is asked for it.
pub async fn import_archive(
    root: &std::path::Path,
    archive: &std::path::Path,
) -> Result<Vec<ImageRecord>, ImportError> {
    let (root, archive) = (root.to_owned(), archive.to_owned());
    let work =
        tokio::task::spawn_blocking(move || archive::import(&Store::attach(&root)?, &archive));
    work.await
        .map_err(|error| ImportError::Content(error.to_string()))?
}

/// Parses a reference as written in a pod: Docker Hub and `latest` are understood.
fn parse(image: &str) -> Result<Reference, ImageError> {
    image.parse().map_err(|error| ImageError::InvalidName {
        image: image.to_owned(),
        cause: format!("{error}"),
    })
}

impl Images {
    async fn ensure(
        &self,
        request: &ImageRequest,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<EnsuredImage, ImageError> {
        let reference = parse(&request.image)?;
        let name = reference.whole();
        if request.policy != PullPolicy::Always
            && let Some(record) = self.store.find(&name)
        {
            return Ok(EnsuredImage {
                record,
                pulled: None,
            });
        }
        if request.policy == PullPolicy::Never {
            return Err(ImageError::NeverPull {
                image: request.image.clone(),
            });
        }
        let asked = Instant::now();
        if let Some(progress) = &progress {
            // Nobody listening any more is no reason to stop.
            let _ = progress.send(PullProgress::Started).await;
        }
        let flight = self.flight(&name);
        let guard = flight.lock().await;
        if request.policy == PullPolicy::IfNotPresent
            && let Some(record) = self.store.find(&name)
        {
            return Ok(EnsuredImage {
                record,
                pulled: None,
            }); // the pull before ours brought it
        }
        let slot = self.slots.acquire().await.map_err(|e| ImageError::Store {
            cause: e.to_string(),
        })?;
        let began = Instant::now();
        let auth = auth::Credentials::from_secrets(&request.secrets);
        let puller = pull::Puller {
            store: &self.store,
            registries: &self.registries,
            auth: &auth,
            progress,
        };
        let (record, bytes) = puller.pull(&request.image, &reference).await?;
        drop(slot);
        drop(guard);
        let pulled = PullOutcome {
            took: began.elapsed(),
            took_with_waiting: asked.elapsed(),
            bytes,
        };
        Ok(EnsuredImage {
            record,
            pulled: Some(pulled),
        })
    }
}

#[async_trait]
impl ImageService for Images {
    async fn ensure_present(
        &self,
        request: &ImageRequest,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<EnsuredImage, ImageError> {
        let _gate = self.gate.read().await;
        let ensured = self.ensure(request, progress).await?;
        self.note(&ensured.record.id);
        Ok(ensured)
    }

    async fn find(&self, reference: &str) -> Result<Option<ImageRecord>, ImageError> {
        if let Some(record) = self.store.find(reference) {
            return Ok(Some(record));
        }
        Ok(parse(reference)
            .ok()
            .and_then(|reference| self.store.find(&reference.whole())))
    }

    async fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        Ok(self.store.list())
    }

    async fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let store = Arc::clone(&self.store);
        let name = parse(reference)
            .map(|r| r.whole())
            .unwrap_or_else(|_| reference.to_owned());
        let reference = reference.to_owned();
        let work = tokio::task::spawn_blocking(move || {
            let name = if store.find(&reference).is_some() {
                reference
            } else {
                name
            };
            store.remove(&name)
        });
        work.await.map_err(|e| ImageError::Store {
            cause: e.to_string(),
        })?
    }
}

#[cfg(test)]
mod tests;
