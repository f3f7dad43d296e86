//! What every pod worker shares: services, paths, facts of the node, and the API as workers see it. No behaviour.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus, Service};

use crate::cgroup::Cgroups;
use crate::host::Capacity;
use crate::pod::types::{Now, Severity};
use crate::runtime::ContainerRuntime;
use crate::sandbox::DnsSettings;
use crate::spec::env::PodFacts;
use crate::spec::generate::HostFacts;
use crate::spec::sysctls::Allowed;
use crate::traits::{ImageService, ObjectSource, PodNetwork, PodRef, VolumeService};

/// Why a write to the API did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiFailure {
    #[error("the pod is gone from the API")]
    Gone,
    #[error("{0}")]
    Refused(String),
}

/// The API as pod workers need it.
#[async_trait]
pub trait PodApi: Send + Sync + 'static {
    /// Writes the status; retries belong to the caller.
    async fn write_status(&self, pod: &Pod, status: &PodStatus) -> Result<(), ApiFailure>;
    /// Deletes the object with grace 0, if it still is the same one.
    async fn delete(&self, pod: &PodRef) -> Result<(), ApiFailure>;
    fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: &str,
    );
    /// Services whose variables pods of this namespace get, `default/kubernetes` included.
    fn services(&self, namespace: &str) -> Vec<Arc<Service>>;
}

/// Settings and services of this node.
pub struct NodeContext {
    pub node_name: String,
    pub host_ips: Vec<IpAddr>,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub pod_log_dir: PathBuf,
    pub cgroup_prefix: String,
    pub pod_pids_limit: Option<i64>,
    /// The agent's own binary, for the process that holds a shared process namespace.
    pub binary: PathBuf,
    pub dns: DnsSettings,
    pub allocatable: Capacity,
    pub host: HostFacts,
    /// What pods may set in the kernel.
    pub sysctls: Allowed,
    pub cgroups: Cgroups,
    pub origin: Instant,
    pub runtime: Arc<dyn ContainerRuntime>,
    pub images: Arc<dyn ImageService>,
    pub volumes: Arc<dyn VolumeService>,
    pub network: Arc<dyn PodNetwork>,
    pub objects: Arc<dyn ObjectSource>,
    pub api: Arc<dyn PodApi>,
}

impl NodeContext {
    /// Both clocks; the monotonic one starts an hour in, so that "ten minutes ago" is always representable.
    pub fn now(&self) -> Now {
        Now {
            mono: self.origin.elapsed() + Duration::from_secs(3600),
            wall: Timestamp::now(),
        }
    }

    /// `<data>/pods/<uid>`.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// `<prefix>/pod<uid>`.
    pub fn pod_cgroup(&self, uid: &str) -> String {
        format!("{}/pod{uid}", self.cgroup_prefix.trim_end_matches('/'))
    }

    /// `<logs>/<namespace>_<name>_<uid>`.
    pub fn pod_logs(&self, pod: &PodRef) -> PathBuf {
        self.pod_log_dir
            .join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
    }

    /// The log of one attempt of a container.
    pub fn log_path(&self, pod: &PodRef, container: &str, attempt: u32) -> PathBuf {
        self.pod_logs(pod)
            .join(container)
            .join(format!("{attempt}.log"))
    }

    /// What downward fields say about a pod's place.
    pub fn pod_facts(&self, pod_ips: Vec<IpAddr>) -> PodFacts {
        PodFacts {
            node_name: self.node_name.clone(),
            host_ips: self.host_ips.clone(),
            pod_ips,
            allocatable: self.allocatable.clone(),
        }
    }
}
