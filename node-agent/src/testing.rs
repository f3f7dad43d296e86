//! Simple real services for tests and standalone tries: an unpacked directory as the only image, plain directories as
//! volumes, loopback as the network, and an API that only remembers. Nothing here is used by the agent itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus, Secret, Service};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::context::{ApiFailure, PodApi};
use crate::pod::types::Severity;
use crate::traits::{
    EnsuredImage, ImageError, ImageRecord, ImageRequest, ImageService, NetworkError,
    NetworkRequest, ObjectSource, PodIps, PodNetwork, PodRef, PreparedVolume, PullProgress,
    SourceError, VolumeError, VolumeRequest, VolumeService,
};

/// Every reference is this one root directory, except names that contain `missing`.
pub struct DirectoryImage(pub PathBuf);

#[async_trait]
impl ImageService for DirectoryImage {
    async fn ensure_present(
        &self,
        request: &ImageRequest,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<EnsuredImage, ImageError> {
        if request.image.contains("missing") {
            if let Some(progress) = progress {
                let _ = progress.send(PullProgress::Started).await;
            }
            let cause = "not found".to_owned();
            return Err(ImageError::Pull {
                image: request.image.clone(),
                cause,
            });
        }
        let record = ImageRecord {
            id: "sha256:test".to_owned(),
            image_id: "sha256:test".to_owned(),
            references: vec![request.image.clone()],
            layers: vec![self.0.clone()],
            ..ImageRecord::default()
        };
        Ok(EnsuredImage {
            record,
            pulled: None,
        })
    }
    async fn find(&self, _: &str) -> Result<Option<ImageRecord>, ImageError> {
        Ok(None)
    }
    async fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        Ok(Vec::new())
    }
    async fn remove(&self, _: &str) -> Result<(), ImageError> {
        Ok(())
    }
}

/// A directory per volume, whatever its source.
pub struct PlainVolumes;

#[async_trait]
impl VolumeService for PlainVolumes {
    async fn setup(
        &self,
        request: &VolumeRequest,
    ) -> Result<BTreeMap<String, PreparedVolume>, VolumeError> {
        let volumes = request
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.volumes.clone())
            .unwrap_or_default();
        let mut ready = BTreeMap::new();
        for volume in volumes {
            let host_path = request.pod_dir.join("volumes").join(&volume.name);
            std::fs::create_dir_all(&host_path).map_err(|error| VolumeError {
                volume: volume.name.clone(),
                cause: error.to_string(),
            })?;
            ready.insert(
                volume.name,
                PreparedVolume {
                    host_path,
                    read_only: false,
                    is_file: false,
                },
            );
        }
        Ok(ready)
    }
    async fn refresh(&self, _: &VolumeRequest) -> Result<(), VolumeError> {
        Ok(())
    }
    async fn teardown(&self, _: &PodRef, _: &Path) -> Result<(), VolumeError> {
        Ok(())
    }
}

/// Pods have their own loopback and nothing else.
pub struct LoopbackNetwork;

#[async_trait]
impl PodNetwork for LoopbackNetwork {
    async fn configure(&self, _: &[IpNet]) -> Result<(), NetworkError> {
        Ok(())
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    async fn setup(&self, _: &NetworkRequest) -> Result<PodIps, NetworkError> {
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
    async fn check(&self, request: &NetworkRequest) -> Result<PodIps, NetworkError> {
        self.setup(request).await
    }
    async fn teardown(&self, _: &str, _: Option<&Path>) -> Result<(), NetworkError> {
        Ok(())
    }
}

/// No objects at all.
pub struct NoObjects;

#[async_trait]
impl ObjectSource for NoObjects {
    async fn runtime_handler(&self, class: &str) -> Result<String, SourceError> {
        Err(SourceError::NotFound {
            kind: "runtimeclass",
            name: class.to_owned(),
        })
    }

    async fn config_map(&self, _: &str, name: &str) -> Result<Arc<ConfigMap>, SourceError> {
        Err(SourceError::NotFound {
            kind: "configmap",
            name: name.to_owned(),
        })
    }
    async fn secret(&self, _: &str, name: &str) -> Result<Arc<Secret>, SourceError> {
        Err(SourceError::NotFound {
            kind: "secret",
            name: name.to_owned(),
        })
    }
    async fn service_account_token(
        &self,
        _: &PodRef,
        name: &str,
        _: &[String],
        _: i64,
    ) -> Result<TokenRequest, SourceError> {
        Err(SourceError::NotFound {
            kind: "serviceaccount",
            name: name.to_owned(),
        })
    }
}

/// One event as it would go to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEvent {
    pub severity: Severity,
    pub reason: String,
    pub message: String,
}

/// Remembers statuses, events and deletions.
#[derive(Default)]
pub struct MemoryApi {
    pub statuses: Mutex<BTreeMap<String, PodStatus>>,
    pub events: Mutex<Vec<SeenEvent>>,
    pub deleted: Mutex<Vec<PodRef>>,
}

#[async_trait]
impl PodApi for MemoryApi {
    async fn write_status(&self, pod: &Pod, status: &PodStatus) -> Result<(), ApiFailure> {
        self.statuses
            .lock()
            .insert(PodRef::of(pod).uid, status.clone());
        Ok(())
    }
    async fn delete(&self, pod: &PodRef) -> Result<(), ApiFailure> {
        self.deleted.lock().push(pod.clone());
        Ok(())
    }
    fn event(&self, _: &Pod, _: Option<&str>, severity: Severity, reason: &str, message: &str) {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        self.events.lock().push(SeenEvent {
            severity,
            reason,
            message,
        });
    }
    fn services(&self, _: &str) -> Vec<Arc<Service>> {
        Vec::new()
    }
}
