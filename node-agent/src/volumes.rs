//! Volumes of pods on this host: emptyDir, hostPath, configMap, secret, downwardAPI and projected. Content that comes from
//! the API is written so that readers see one version whole, never half of two.
//!
//! ```text
//!  <pod dir>/volumes/<volume>/        what containers mount (tmpfs for secrets, tokens and medium Memory)
//!     ..data -> ..<version>/          swapped by one rename; user-visible names are links through it
//! ```
//!
//! Every step may be done again after a crash. Kinds that are not built are refused with their name.

mod atomic;
mod content;
mod host_path;
mod tokens;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Volume};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::traits::{
    ObjectSource, PodRef, PreparedVolume, VolumeError, VolumeRequest, VolumeService,
};

use content::Payload;
use tokens::Tokens;

/// The volume service of this host.
pub struct Volumes {
    source: Arc<dyn ObjectSource>,
    tokens: Tokens,
}

impl Volumes {
    /// Volumes whose content comes from `source`.
    pub fn new(source: Arc<dyn ObjectSource>) -> Self {
        Self {
            source,
            tokens: Tokens::default(),
        }
    }

    async fn prepare(
        &self,
        request: &VolumeRequest,
        volume: &Volume,
    ) -> Result<PreparedVolume, String> {
        let dir = directory(&request.pod_dir, &volume.name);
        if let Some(host) = &volume.host_path {
            return host_path::prepare(host);
        }
        if let Some(empty) = &volume.empty_dir {
            let memory = empty.medium.as_deref() == Some("Memory");
            let limit = empty
                .size_limit
                .as_ref()
                .and_then(|q| crate::spec::quantity::whole(&q.0));
            let access = Access::of_empty_dir(fs_group(&request.pod));
            if memory {
                ensure_tmpfs(&dir, limit, access)?
            } else {
                make_once(&dir, access)?
            }
            return Ok(PreparedVolume {
                host_path: dir,
                read_only: false,
                is_file: false,
            });
        }
        let Some(payload) = self.content(request, volume).await? else {
            return Err(format!(
                "volume type {:?} is not supported by this version of Corten",
                kind_of(volume)
            ));
        };
        self.write(&dir, &request.pod, &payload).await?;
        Ok(PreparedVolume {
            host_path: dir,
            read_only: true,
            is_file: false,
        })
    }

    /// The files of an API-backed volume; `None` when it is not one.
    async fn content(
        &self,
        request: &VolumeRequest,
        volume: &Volume,
    ) -> Result<Option<Payload>, String> {
        content::Reader {
            source: &*self.source,
            tokens: &self.tokens,
            request,
        }
        .read(volume)
        .await
    }

    async fn write(&self, dir: &Path, pod: &Pod, payload: &Payload) -> Result<(), String> {
        let (dir, payload, group) = (dir.to_owned(), payload.clone(), fs_group(pod));
        let work = tokio::task::spawn_blocking(move || {
            if payload.sensitive {
                ensure_tmpfs(&dir, None, Access::CONTENT)?
            } else {
                make(&dir)?
            }
            atomic::write(&dir, &payload.files, group)
                .map_err(|error| format!("cannot write the files of {}: {error}", dir.display()))
        });
        work.await.map_err(|error| error.to_string())?
    }
}

#[async_trait]
impl VolumeService for Volumes {
    async fn setup(
        &self,
        request: &VolumeRequest,
    ) -> Result<BTreeMap<String, PreparedVolume>, VolumeError> {
        let mut prepared = BTreeMap::new();
        for volume in volumes(&request.pod) {
            let made = self
                .prepare(request, volume)
                .await
                .map_err(|cause| VolumeError {
                    volume: volume.name.clone(),
                    cause,
                })?;
            prepared.insert(volume.name.clone(), made);
        }
        Ok(prepared)
    }

    async fn refresh(&self, request: &VolumeRequest) -> Result<(), VolumeError> {
        // One that fails must not keep the others, such as tokens that run out, from being renewed.
        let mut failed: Vec<(&str, String)> = Vec::new();
        for volume in volumes(&request.pod) {
            let refreshed = async {
                match self.content(request, volume).await? {
                    Some(payload) => {
                        self.write(
                            &directory(&request.pod_dir, &volume.name),
                            &request.pod,
                            &payload,
                        )
                        .await
                    }
                    None => Ok(()),
                }
            };
            if let Err(cause) = refreshed.await {
                failed.push((&volume.name, cause));
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        let (names, causes): (Vec<&str>, Vec<String>) = failed.into_iter().unzip();
        Err(VolumeError {
            volume: names.join(", "),
            cause: causes.join("; "),
        })
    }

    async fn teardown(&self, pod: &PodRef, pod_dir: &Path) -> Result<(), VolumeError> {
        self.tokens.forget(&pod.uid);
        let root = pod_dir.join("volumes");
        let work = tokio::task::spawn_blocking(move || remove_all(&root));
        let done = work
            .await
            .map_err(|error| error.to_string())
            .and_then(|done| done);
        done.map_err(|cause| VolumeError {
            volume: "*".to_owned(),
            cause,
        })
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
}

fn directory(pod_dir: &Path, volume: &str) -> PathBuf {
    pod_dir.join("volumes").join(volume)
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    context.fs_group.and_then(|group| u32::try_from(group).ok())
}

/// The name of the source that a volume has, as its JSON calls it.
fn kind_of(volume: &Volume) -> String {
    let json = serde_json::to_value(volume).unwrap_or_default();
    let mut keys = json
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .filter(|key| *key != "name");
    keys.next().cloned().unwrap_or_else(|| "none".to_owned())
}

fn make(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, permissions)
        .map_err(|error| format!("cannot set the mode of {}: {error}", path.display()))
}

/// Who may do what in a directory when it is made; afterwards it is the pod's to change.
#[derive(Clone, Copy)]
struct Access {
    mode: u32,
    group: Option<u32>,
}

impl Access {
    /// Of a directory whose files the agent writes.
    const CONTENT: Self = Self {
        mode: 0o755,
        group: None,
    };

    /// Any user of the pod may write, as upstream has it; with a group of the pod's, new files are the group's too.
    fn of_empty_dir(group: Option<u32>) -> Self {
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        Self { mode, group }
    }
}

/// Makes a directory with its access in one step: one that has the name is complete, and is left as the pod has made it.
fn make_once(dir: &Path, access: Access) -> Result<(), String> {
    if dir.is_dir() {
        return Ok(());
    }
    // No volume's name begins with a dot.
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let aside = dir.with_file_name(format!(".{name}.new"));
    make(&aside)?;
    if let Some(group) = access.group {
        std::os::unix::fs::chown(&aside, None, Some(group)).map_err(|error| {
            format!("cannot give {} to group {group}: {error}", aside.display())
        })?;
    }
    set_mode(&aside, access.mode)?;
    std::fs::rename(&aside, dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))
}

/// Memory-backed directory; a mounted one is left alone.
fn ensure_tmpfs(dir: &Path, limit: Option<i64>, access: Access) -> Result<(), String> {
    make(dir)?;
    if is_mount_point(dir) {
        return Ok(());
    }
    let mut options = format!("mode={:o}", access.mode);
    if let Some(group) = access.group {
        options.push_str(&format!(",gid={group}"));
    }
    if let Some(bytes) = limit.filter(|bytes| *bytes > 0) {
        options.push_str(&format!(",size={bytes}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
    .map_err(|error| format!("cannot mount tmpfs at {}: {error}", dir.display()))
}

fn is_mount_point(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.symlink_metadata().map(|meta| meta.dev());
    match (device(dir), dir.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        _ => false,
    }
}

/// Unmounts and deletes everything below; links are not followed, and other file systems are not entered.
fn remove_all(root: &Path) -> Result<(), String> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot read {}: {error}", root.display())),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        while is_mount_point(&path) {
            umount2(&path, MntFlags::MNT_DETACH)
                .map_err(|error| format!("cannot unmount {}: {error}", path.display()))?;
        }
    }
    std::fs::remove_dir_all(root)
        .map_err(|error| format!("cannot remove {}: {error}", root.display()))
}

#[cfg(test)]
mod tests;
