//! Where a pod's things are on disk, its records, and the view that the server gets.
//!
//! ```text
//! <data>/pods/<uid>/pod.json                       the newest object seen
//! <data>/pods/<uid>/allocation.json                what it was promised, once it has asked for something else
//! <data>/pods/<uid>/sandbox.json                   boot, addresses
//! <data>/pods/<uid>/waits.json                     back-offs: see `waits`
//! <data>/pods/<uid>/containers/<name>/<attempt>/   one run: see supervisor::record
//! <data>/pods/<uid>/{etc,volumes,subpaths}/
//! ```

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Shared;
use crate::pod::PodMachine;
use crate::pod::container::State;
use crate::pod::machine::Part;
use crate::pod::resize::Allocation;
use crate::runtime::Container;
use crate::sandbox::Sandbox;
use crate::supervisor::record::{ContainerDir, read_json, write_json, write_json_durably};
use crate::traits::{ContainerView, ImageRecord, PodRef, PodView};

/// The sandbox as it was last set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) boot_id: String,
    pub(super) ips: Vec<IpAddr>,
}

/// What the agent must know again about a run; beside the supervisor's own records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub(super) image: ImageRecord,
    /// What the container has now; runs that an older agent began have what they were promised.
    #[serde(default)]
    pub(super) resources: Option<ResourceRequirements>,
}

/// The container of one attempt. The id is derived, so that a step that is repeated after a crash meets itself.
pub fn container_of(pod_dir: &Path, uid: &str, name: &str, attempt: u32) -> Container {
    let id = hex::encode(Sha256::digest(format!("{uid}/{name}/{attempt}")));
    let dir = pod_dir
        .join("containers")
        .join(name)
        .join(attempt.to_string());
    Container {
        id,
        dir: ContainerDir(dir),
    }
}

impl Shared {
    pub(super) fn pod_dir(&self) -> PathBuf {
        self.context.pod_dir(&self.pod_ref.uid)
    }

    pub(super) fn container(&self, name: &str, attempt: u32) -> Container {
        container_of(&self.pod_dir(), &self.pod_ref.uid, name, attempt)
    }

    pub(super) fn sandbox(&self, pod: &Pod) -> Sandbox {
        Sandbox::new(
            &self.context.run_dir,
            &self.pod_dir(),
            &self.pod_ref.uid,
            pod,
        )
    }

    pub(super) fn sandbox_record(&self) -> Option<SandboxRecord> {
        read_json(&self.pod_dir().join("sandbox.json")).ok()
    }

    pub(super) fn write_sandbox_record(&self, record: &SandboxRecord) -> io::Result<()> {
        write_json(&self.pod_dir().join("sandbox.json"), record)
    }

    pub(super) fn forget_sandbox(&self) {
        let _ = std::fs::remove_file(self.pod_dir().join("sandbox.json"));
    }
}

/// Keeps the newest object on disk, so that a pod can be taken down without the API.
pub(super) fn write_record(shared: &Shared, pod: &Pod) {
    let dir = shared.pod_dir();
    let path = dir.join("pod.json");
    // The first record must survive a power cut: without it nobody would give the pod's address back.
    let write: fn(&Path, &Pod) -> io::Result<()> = if path.exists() {
        write_json
    } else {
        write_json_durably
    };
    let written = std::fs::create_dir_all(&dir).and_then(|()| write(&path, pod));
    if let Err(error) = written {
        tracing::error!(pod = %shared.pod_ref, %error, "the pod's record could not be written");
    }
}

/// The object that an earlier agent kept.
pub fn read_record(pod_dir: &Path) -> Option<Pod> {
    read_json(&pod_dir.join("pod.json")).ok()
}

/// Keeps what a pod was promised. It must survive a power cut as the object does: more was asked for than was given.
pub fn write_allocation(pod_dir: &Path, allocation: &Allocation) -> io::Result<()> {
    std::fs::create_dir_all(pod_dir)?;
    write_json_durably(&pod_dir.join("allocation.json"), allocation)
}

/// What a pod was promised by an earlier agent; None when that is what its object asks for.
pub fn read_allocation(pod_dir: &Path) -> Option<Allocation> {
    read_json(&pod_dir.join("allocation.json")).ok()
}

/// Pod directories of earlier agents.
pub fn stored_pods(data_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data_dir.join("pods"))
        .into_iter()
        .flatten();
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// Config ids of the images that containers of this host have, running or not. Fails rather than leaving any out.
pub fn images_in_use(data_dir: &Path) -> io::Result<HashSet<String>> {
    let mut found = HashSet::new();
    for pod in stored_pods(data_dir) {
        let containers = pod.join("containers");
        for (name, attempt) in attempts(&containers) {
            let record = containers
                .join(name)
                .join(attempt.to_string())
                .join("run.json");
            match read_json::<RunRecord>(&record) {
                Ok(run) => found.extend([run.image.id]),
                // Not written yet: its image was asked for a moment ago.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Removes everything of a pod whose containers, sandbox and volumes are gone.
pub(super) async fn erase(shared: &Shared) {
    let containers = shared.pod_dir().join("containers");
    for (name, attempt) in attempts(&containers) {
        if let Err(error) = shared
            .context
            .runtime
            .remove(&shared.container(&name, attempt))
            .await
        {
            tracing::warn!(pod = %shared.pod_ref, container = name, %error, "container not removed");
        }
    }
    super::subpath::unmount_all(&shared.pod_dir().join("subpaths"));
    let cgroup = shared.context.pod_cgroup(&shared.pod_ref.uid);
    if let Err(error) = shared.context.cgroups.remove(&cgroup) {
        tracing::warn!(pod = %shared.pod_ref, %error, "the pod's cgroup was not removed");
    }
    let dir = shared.pod_dir();
    let mounted = crate::mounts::below(&dir);
    if !mounted.is_empty() {
        // Deleting now would delete what is mounted: volumes of the host, in the worst case.
        tracing::error!(pod = %shared.pod_ref, ?mounted, "mounts are left; the pod's directory stays");
        return;
    }
    for dir in [shared.context.pod_logs(&shared.pod_ref), dir] {
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(pod = %shared.pod_ref, dir = %dir.display(), %error, "not removed");
            }
            _ => {}
        }
    }
}

/// All runs under `containers/`, by name and attempt.
pub(super) fn attempts(containers: &Path) -> Vec<(String, u32)> {
    let list = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    };
    let mut found: Vec<(String, u32)> = list(containers)
        .into_iter()
        .flat_map(|name| {
            let numbers = list(&containers.join(&name));
            numbers
                .into_iter()
                .filter_map(move |n| Some((name.clone(), n.parse().ok()?)))
        })
        .collect();
    found.sort();
    found
}

/// The pod for the server.
pub(super) fn view(shared: &Shared, machine: &PodMachine, status: Option<&PodStatus>) -> PodView {
    let mut pod = (*machine.pod).clone();
    if let Some(status) = status {
        pod.status = Some(status.clone());
    }
    let sandbox = shared.sandbox(&machine.pod);
    let containers = machine.containers.iter().map(|container| {
        let attempt = container.restart_count;
        let (id, reason) = match &container.state {
            State::Running(run) => (run.id.clone(), None),
            State::Ended(ended) => (ended.id.clone(), Some(ended.reason.clone())),
            State::Waiting { reason, .. } => (String::new(), Some(reason.clone())),
            State::Pulling | State::Creating => {
                (String::new(), Some("ContainerCreating".to_owned()))
            }
        };
        let log = |attempt| {
            shared
                .context
                .log_path(&shared.pod_ref, container.name(), attempt)
        };
        ContainerView {
            name: container.name().to_owned(),
            id,
            running: container.run().is_some(),
            tty: container.spec.tty == Some(true),
            stdin: container.spec.stdin == Some(true),
            log_path: log(attempt),
            previous_log_path: attempt.checked_sub(1).map(log).filter(|path| path.exists()),
            restart_count: i32::try_from(attempt).unwrap_or(i32::MAX),
            reason,
        }
    });
    PodView {
        pod_ref: PodRef::of(&machine.pod),
        host_network: sandbox.host_network,
        netns: sandbox.netns().filter(|_| machine.sandbox == Part::Ready),
        pod_ips: if sandbox.host_network {
            machine.host_ips.clone()
        } else {
            machine.ips.clone()
        },
        containers: containers.collect(),
        pod: Arc::new(pod),
    }
}
