//! One node without an API: real supervisors, runtime, cgroups and namespaces over a busybox root, pods fed by hand. Needs
//! root and busybox, and says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_node_agent::cgroup::Cgroups;
use corten_node_agent::context::NodeContext;
use corten_node_agent::host;
use corten_node_agent::pod::Event;
use corten_node_agent::runtime::{OciRuntime, OciSettings, find_default};
use corten_node_agent::sandbox::{DnsSettings, share_mounts_of};
use corten_node_agent::testing::{
    DirectoryImage, LoopbackNetwork, MemoryApi, NoObjects, PlainVolumes, SeenEvent,
};
use corten_node_agent::worker::{self, WorkerHandle};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use serde_json::{Value, json};

pub struct Node {
    pub dir: PathBuf,
    pub prefix: String,
    pub context: Arc<NodeContext>,
    pub api: Arc<MemoryApi>,
}

impl Node {
    /// A node in a fresh directory.
    pub fn new(name: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests run real containers and must run as root"
        );
        let dir = std::env::temp_dir().join(format!("ct-{name}-{}", std::process::id()));
        let root = dir.join("image");
        std::fs::create_dir_all(root.join("bin")).expect("a directory");
        for sub in ["etc", "tmp", "proc", "sys", "dev"] {
            std::fs::create_dir_all(root.join(sub)).expect("a directory");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("busybox-static must be installed (apt-get install busybox-static)");
        let status = Command::new("chroot")
            .arg(&root)
            .args(["/bin/busybox", "--install", "-s", "/bin"])
            .status();
        assert!(
            status.expect("chroot").success(),
            "busybox could not be installed"
        );
        Self::again(name, dir)
    }

    /// The node after its agent was killed and started again: same disk, nothing in memory.
    pub fn again(name: &str, dir: PathBuf) -> Self {
        let cgroups = Cgroups::detect().expect("cgroups");
        let prefix = format!("/corten-test-{name}-{}", std::process::id());
        let runtime = std::env::var_os("CORTEN_TEST_RUNTIME")
            .map(PathBuf::from)
            .or_else(find_default);
        let runtime = runtime.expect("crun or runc must be installed");
        let settings = OciSettings {
            runtimes: [(String::new(), runtime)].into(),
            root: dir.join("run/oci"),
            supervisor: env!("CARGO_BIN_EXE_corten-node-agent").into(),
            supervisor_cgroup: format!("{prefix}/supervisors"),
            log_max_bytes: 10 << 20,
            log_max_files: 5,
        };
        for sub in ["data", "run"] {
            // As the agent makes them: users of pods must manage with it.
            use std::os::unix::fs::PermissionsExt;
            let path = dir.join(sub);
            std::fs::create_dir_all(&path).expect("a directory");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("a mode");
        }
        for sub in ["data/pods", "run/pods"] {
            share_mounts_of(&dir.join(sub)).expect("a shared mount");
        }
        let api = Arc::new(MemoryApi::default());
        let context = NodeContext {
            node_name: "test".to_owned(),
            host_ips: vec![[192, 0, 2, 1].into()],
            data_dir: dir.join("data"),
            run_dir: dir.join("run"),
            pod_log_dir: dir.join("logs"),
            cgroup_prefix: prefix.clone(),
            pod_pids_limit: None,
            binary: env!("CARGO_BIN_EXE_corten-node-agent").into(),
            dns: DnsSettings {
                servers: vec![[10, 96, 0, 10].into()],
                domain: "cluster.local".to_owned(),
            },
            allocatable: host::capacity(Path::new("/"), 110),
            host: host::facts(&cgroups, true),
            sysctls: corten_node_agent::spec::sysctls::Allowed::default(),
            cgroups: cgroups.clone(),
            origin: Instant::now(),
            runtime: Arc::new(OciRuntime::new(settings, cgroups)),
            images: Arc::new(DirectoryImage(dir.join("image"))),
            volumes: Arc::new(PlainVolumes),
            network: Arc::new(LoopbackNetwork),
            objects: Arc::new(NoObjects),
            api: api.clone(),
        };
        Self {
            dir,
            prefix,
            context: Arc::new(context),
            api,
        }
    }

    pub fn start(&self, pod: &Pod) -> WorkerHandle {
        worker::start(self.context.clone(), Arc::new(pod.clone()), None)
    }

    pub fn status(&self, pod: &Pod) -> Option<PodStatus> {
        self.api
            .statuses
            .lock()
            .get(pod.metadata.uid.as_deref().unwrap_or(""))
            .cloned()
    }

    /// Waits until the pod's status is as wanted.
    pub async fn wait(
        &self,
        pod: &Pod,
        what: &str,
        wanted: impl Fn(&PodStatus) -> bool,
    ) -> PodStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status(pod);
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            let shown = serde_json::to_string_pretty(&status).expect("json");
            assert!(
                Instant::now() < deadline,
                "never {what}: {shown}\nevents: {:#?}",
                self.api.events.lock()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn events(&self, reason: &str) -> Vec<SeenEvent> {
        self.api
            .events
            .lock()
            .iter()
            .filter(|event| event.reason == reason)
            .cloned()
            .collect()
    }

    /// Deletes the pod as the API would show it, and waits for the worker's end.
    pub async fn delete(&self, worker: &WorkerHandle, pod: &Pod, grace: i64) -> Duration {
        let mut pod = pod.clone();
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        let begun = Instant::now();
        worker.send(Event::Updated(Arc::new(pod.clone()))).await;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        while !self.api.deleted.lock().iter().any(|gone| gone.uid == uid) || worker.view().is_some()
        {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "never deleted: {:#?}",
                self.status(&pod)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    /// Everything must be gone by now.
    pub fn clean_up(self) {
        for sub in ["data/pods", "run/pods"] {
            let left: Vec<_> = std::fs::read_dir(self.dir.join(sub))
                .expect("a directory")
                .collect();
            assert!(left.is_empty(), "left in {sub}: {left:?}");
            nix::mount::umount2(&self.dir.join(sub), nix::mount::MntFlags::MNT_DETACH)
                .expect("unmount");
        }
        // A supervisor gives its lock back just before it ends; whoever saw that may be here first.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.context.cgroups.pids(&self.prefix);
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "processes left: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.context
            .cgroups
            .remove(&self.prefix)
            .expect("cgroups removed");
        std::fs::remove_dir_all(&self.dir).expect("directory removed");
    }
}

/// A pod with these fields in its spec.
pub fn pod(name: &str, spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "test", "uid": format!("uid-{name}"), "generation": 1},
        "spec": spec,
    }))
    .expect("a pod")
}

/// A container that runs a shell line.
pub fn shell(name: &str, line: &str) -> Value {
    json!({"name": name, "image": "busybox:1", "command": ["sh", "-c", line]})
}

pub fn first(status: &PodStatus) -> &ContainerStatus {
    &status
        .container_statuses
        .as_ref()
        .expect("container statuses")[0]
}

pub fn is_running(status: &PodStatus) -> bool {
    status.phase.as_deref() == Some("Running")
        && first(status)
            .state
            .as_ref()
            .is_some_and(|state| state.running.is_some())
}

/// Pid of the first process of a container's run.
pub fn pid_of(node: &Node, pod: &Pod, container: &str, attempt: u32) -> i32 {
    let uid = pod.metadata.uid.as_deref().expect("a uid");
    let dir = node.context.pod_dir(uid);
    worker::container_of(&dir, uid, container, attempt)
        .dir
        .started()
        .expect("a started record")
        .pid
}
