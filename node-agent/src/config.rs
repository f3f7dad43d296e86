//! The agent's configuration: raw values from file and flags. Nothing is opened here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use corten_base::telemetry::TelemetryConfig;
use corten_client::ClientConfig;
use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this node in the cluster; the host's name when empty.
    pub node_name: String,
    /// Addresses shown for the node; found when empty.
    pub node_ips: Vec<IpAddr>,
    /// Labels put on the node when it registers.
    pub node_labels: BTreeMap<String, String>,
    /// Taints put on the node when it first registers, as `key=value:Effect`.
    pub register_taints: Vec<String>,
    /// Pods, containers, images: what survives a reboot.
    pub data_dir: PathBuf,
    /// Namespaces, runtime state: what does not.
    pub run_dir: PathBuf,
    /// Container logs, in the layout that log collectors expect.
    pub pod_log_dir: PathBuf,
    pub client: ClientConfig,
    /// OCI runtime executable; empty means crun, else runc.
    pub runtime: PathBuf,
    /// RuntimeClass handler to executable.
    pub runtime_handlers: BTreeMap<String, PathBuf>,
    /// Binary with the `supervise` command; empty means this one.
    pub supervisor: PathBuf,
    /// Parent of all pod groups; hosts that share one kernel need one each.
    pub cgroup_prefix: String,
    /// Address of the HTTPS server (logs, exec, port-forward).
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    pub admin_listen: SocketAddr,
    /// Certificate authority of clients, and our serving certificate; without them one is made in memory.
    pub tls_ca: Option<PathBuf>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Pod CIDRs used when the Node object has none (standalone use).
    pub pod_cidrs: Vec<ipnet::IpNet>,
    /// MTU of pod interfaces; room for VXLAN is taken off already.
    pub pod_mtu: u32,
    /// Folder with `<registry>/hosts.toml`, as containerd's `config_path`.
    pub registries: Option<PathBuf>,
    /// Percent of the image store's disk in use at which unused images go (100: never), and at which that ends.
    pub image_gc_high_threshold: u8,
    pub image_gc_low_threshold: u8,
    /// An image that was used within this time stays.
    pub image_age_min_seconds: u64,
    pub max_pods: u32,
    /// Processes per pod; 0 means unlimited.
    pub pod_pids_limit: u32,
    /// RuntimeDefault seccomp for pods that say nothing.
    pub seccomp_default: bool,
    /// Kernel settings that pods may change beside the safe ones; `*` at the end stands for anything.
    pub allowed_unsafe_sysctls: Vec<String>,
    pub log_max_bytes: u64,
    pub log_max_files: usize,
    /// Kept back from pods, in milli-CPU and bytes.
    pub reserved_cpu_milli: i64,
    pub reserved_memory_bytes: i64,
    /// With less memory available the node is under pressure and ends pods.
    pub eviction_memory_bytes: i64,
    /// With less left of the disk, its inodes, or the process ids, in percent, the node is under pressure.
    pub pressure_disk_percent: i64,
    pub pressure_inodes_percent: i64,
    pub pressure_pids_percent: i64,
    /// How long a pressure is shown after it is over.
    pub pressure_hold_seconds: u64,
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: String::new(),
            node_ips: Vec::new(),
            node_labels: BTreeMap::new(),
            register_taints: Vec::new(),
            data_dir: "/var/lib/corten/node".into(),
            run_dir: "/run/corten/node".into(),
            pod_log_dir: "/var/log/pods".into(),
            client: ClientConfig::default(),
            runtime: PathBuf::new(),
            runtime_handlers: BTreeMap::new(),
            supervisor: PathBuf::new(),
            cgroup_prefix: "/corten".to_owned(),
            listen: SocketAddr::from(([0, 0, 0, 0], 10250)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 10248)),
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            cluster_dns: vec![IpAddr::from([10, 96, 0, 10])],
            cluster_domain: "cluster.local".to_owned(),
            pod_cidrs: Vec::new(),
            pod_mtu: 1450,
            registries: None,
            image_gc_high_threshold: 85,
            image_gc_low_threshold: 80,
            image_age_min_seconds: 120,
            max_pods: 110,
            pod_pids_limit: 0,
            seccomp_default: false,
            allowed_unsafe_sysctls: Vec::new(),
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            reserved_cpu_milli: 0,
            reserved_memory_bytes: 0,
            eviction_memory_bytes: 100 << 20,
            pressure_disk_percent: 10,
            pressure_inodes_percent: 5,
            pressure_pids_percent: 5,
            pressure_hold_seconds: 300,
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Config {
    /// The node's name: as set, else the host's.
    pub fn resolved_node_name(&self) -> String {
        if !self.node_name.is_empty() {
            return self.node_name.clone();
        }
        let name = nix::unistd::gethostname().unwrap_or_default();
        name.to_string_lossy().to_lowercase()
    }

    /// The executables by RuntimeClass handler; "" is the default.
    pub fn resolved_runtimes(&self) -> BTreeMap<String, PathBuf> {
        let mut runtimes = self.runtime_handlers.clone();
        let default = if self.runtime.as_os_str().is_empty() {
            crate::runtime::find_default()
        } else {
            Some(self.runtime.clone())
        };
        if let Some(default) = default {
            if let Some(name) = default.file_name().and_then(|name| name.to_str()) {
                runtimes
                    .entry(name.to_owned())
                    .or_insert_with(|| default.clone());
            }
            runtimes.insert(String::new(), default);
        }
        runtimes
    }
}
