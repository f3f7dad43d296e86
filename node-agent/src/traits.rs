//! The seams of the node agent: what the pod life cycle asks of images, volumes, the pod network and the API.
//! No implementation lives here and nothing here does IO. Every method must be idempotent: the agent may be
//! killed between any two calls and will ask again with the same arguments.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnet::IpNet;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// Names one pod for logs, directories and clean-up; survives the pod object itself.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodRef {
    /// The reference of an API object; missing metadata becomes empty text, which admission never lets through.
    pub fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}({})", self.name, self.namespace, self.uid)
    }
}

// ---------------------------------------------------------------- images

/// When a pull may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The policy of a container, with the API's rule for an absent value: `:latest` or no tag means Always.
    pub fn of(policy: Option<&str>, image: &str) -> Self {
        match policy {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            Some("IfNotPresent") => Self::IfNotPresent,
            _ => {
                let last = image.rsplit('/').next().unwrap_or(image);
                let untagged = !last.contains(':') && !image.contains('@');
                if untagged || last.ends_with(":latest") {
                    Self::Always
                } else {
                    Self::IfNotPresent
                }
            }
        }
    }
}

/// One imagePullSecret as stored: the image service parses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullSecret {
    /// `kubernetes.io/dockerconfigjson`, the value of `.dockerconfigjson`.
    DockerConfigJson(Vec<u8>),
    /// `kubernetes.io/dockercfg`, the value of `.dockercfg`.
    DockerCfg(Vec<u8>),
}

/// What to have on disk before a container is created.
#[derive(Clone, Debug)]
pub struct ImageRequest {
    /// The reference as written in the pod.
    pub image: String,
    pub policy: PullPolicy,
    pub secrets: Vec<PullSecret>,
    /// For log lines only.
    pub pod: PodRef,
}

/// Told while `ensure_present` runs, so that events and status can say what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullProgress {
    /// The image is not there (or must be checked): a pull begins now.
    Started,
    /// Bytes done and, when known, bytes in total.
    Bytes { done: u64, total: Option<u64> },
}

/// The run configuration that an image carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value` pairs.
    pub env: Vec<String>,
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    pub user: String,
    /// `SIGTERM`, `15` ...; empty means SIGTERM.
    pub stop_signal: String,
}

/// One image on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageRecord {
    /// The config digest, `sha256:...`.
    pub id: String,
    /// What `status.containerStatuses[].imageID` shows: `repository@sha256:...` when known, else `id`.
    pub image_id: String,
    /// Tags and digests that point at it, normalised (`docker.io/library/busybox:1`).
    pub references: Vec<String>,
    pub size_bytes: u64,
    /// Unpacked layers, lowest first, each usable as an overlayfs lowerdir.
    pub layers: Vec<PathBuf>,
    pub config: ImageConfig,
}

/// The answer of `ensure_present`.
#[derive(Clone, Debug)]
pub struct EnsuredImage {
    pub record: ImageRecord,
    /// None when the image was there already.
    pub pulled: Option<PullOutcome>,
}

/// How long a pull took, for the `Pulled` event.
#[derive(Clone, Copy, Debug)]
pub struct PullOutcome {
    pub took: Duration,
    pub took_with_waiting: Duration,
    pub bytes: u64,
}

/// Why an image cannot be used. `reason()` is what the container's waiting state shows.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    #[error(
        "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {cause}"
    )]
    InvalidName { image: String, cause: String },
    #[error("Container image {image:?} is not present with pull policy of Never")]
    NeverPull { image: String },
    #[error("failed to pull and unpack image {image:?}: {cause}")]
    Pull { image: String, cause: String },
    #[error("registry is unavailable for image {image:?}: {cause}")]
    RegistryUnavailable { image: String, cause: String },
    #[error("failed to inspect image {image:?}: {cause}")]
    Inspect { image: String, cause: String },
    #[error("image store: {cause}")]
    Store { cause: String },
}

impl ImageError {
    /// The waiting reason of the first failure; later tries show `ImagePullBackOff` where `backs_off()`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::Pull { .. } | Self::Store { .. } => "ErrImagePull",
            Self::RegistryUnavailable { .. } => "RegistryUnavailable",
            Self::Inspect { .. } => "ImageInspectError",
        }
    }

    /// Whether the next state is `ImagePullBackOff`.
    pub fn backs_off(&self) -> bool {
        matches!(
            self,
            Self::Pull { .. } | Self::RegistryUnavailable { .. } | Self::Store { .. }
        )
    }
}

/// Images of this host.
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    /// Pulls when the policy asks for it; concurrent calls for one reference share one pull. Cancel-safe.
    async fn ensure_present(
        &self,
        request: &ImageRequest,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<EnsuredImage, ImageError>;
    /// The image by reference, id or digest, without any network.
    async fn find(&self, reference: &str) -> Result<Option<ImageRecord>, ImageError>;
    async fn list(&self) -> Result<Vec<ImageRecord>, ImageError>;
    /// Removes by id or reference; absent is not an error.
    async fn remove(&self, reference: &str) -> Result<(), ImageError>;
}

// ---------------------------------------------------------------- volumes

/// A failure to read an object that a pod refers to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    #[error("failed to read {kind} {name:?}: {cause}")]
    Read {
        kind: &'static str,
        name: String,
        cause: String,
    },
}

/// The API objects that pods on this node refer to. Reads may come from a cache; tokens are minted.
#[async_trait]
pub trait ObjectSource: Send + Sync + 'static {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, SourceError>;
    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, SourceError>;
    /// The handler of a RuntimeClass.
    async fn runtime_handler(&self, class: &str) -> Result<String, SourceError>;
    /// A bound token: the implementation fills `boundObjectRef` with the pod. Caching and renewal are the caller's.
    async fn service_account_token(
        &self,
        pod: &PodRef,
        service_account: &str,
        audiences: &[String],
        expiration_seconds: i64,
    ) -> Result<TokenRequest, SourceError>;
}

/// Everything the volumes of one pod need.
#[derive(Clone)]
pub struct VolumeRequest {
    pub pod: Arc<Pod>,
    pub pod_ref: PodRef,
    /// `<data>/pods/<uid>`; volumes live below `volumes/` in it.
    pub pod_dir: PathBuf,
    /// Known from the second call on (`refresh`), once the network is up.
    pub pod_ips: Vec<IpAddr>,
    pub host_ips: Vec<IpAddr>,
    pub node_name: String,
    /// For downwardAPI `limits.*` of containers without limits: name (`cpu`, `memory`) to base units
    /// (milli-CPU, bytes).
    pub node_allocatable: BTreeMap<String, i64>,
}

/// Where a volume is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedVolume {
    pub host_path: PathBuf,
    /// The volume itself is read-only (configMap, secret, projected, image): mounts are forced read-only.
    pub read_only: bool,
    /// The host path is a file, socket or device, not a directory.
    pub is_file: bool,
}

/// A volume that could not be prepared; the pod waits and the agent tries again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {cause}")]
pub struct VolumeError {
    pub volume: String,
    pub cause: String,
}

/// Volumes of pods on this host.
#[async_trait]
pub trait VolumeService: Send + Sync + 'static {
    /// Makes every volume of the pod ready; the map is by volume name.
    async fn setup(
        &self,
        request: &VolumeRequest,
    ) -> Result<BTreeMap<String, PreparedVolume>, VolumeError>;
    /// Brings changed ConfigMaps, Secrets, downward fields and expiring tokens into running pods.
    async fn refresh(&self, request: &VolumeRequest) -> Result<(), VolumeError>;
    /// Unmounts and deletes; absent is not an error. Called also for pods whose object is long gone.
    async fn teardown(&self, pod: &PodRef, pod_dir: &Path) -> Result<(), VolumeError>;
}

// ---------------------------------------------------------------- network

/// The addresses of a pod, primary first.
pub type PodIps = Vec<IpAddr>;

/// What a network needs to wire one sandbox.
#[derive(Clone)]
pub struct NetworkRequest {
    pub sandbox_id: String,
    /// A bind-mounted network namespace; `lo` is up in it.
    pub netns: PathBuf,
    pub pod: Arc<Pod>,
    pub pod_ref: PodRef,
}

/// A failure of the pod network; the sandbox is retried.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pod network: {cause}")]
pub struct NetworkError {
    pub cause: String,
}

/// The network of pods on this host (never called for hostNetwork pods).
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Told once the Node object has pod CIDRs, and again when they change.
    async fn configure(&self, pod_cidrs: &[IpNet]) -> Result<(), NetworkError>;
    /// Err with the reason while pods cannot be wired; becomes the message of the Node's Ready condition.
    fn ready(&self) -> Result<(), String>;
    /// Wires the sandbox (host ports included); again with the same id gives the same addresses.
    async fn setup(&self, request: &NetworkRequest) -> Result<PodIps, NetworkError>;
    /// The addresses of a sandbox that was set up by an earlier process; Err makes the agent rebuild it.
    async fn check(&self, request: &NetworkRequest) -> Result<PodIps, NetworkError>;
    /// Frees addresses, links and host ports; absent is not an error. `netns` may be gone already.
    async fn teardown(&self, sandbox_id: &str, netns: Option<&Path>) -> Result<(), NetworkError>;
}

// ---------------------------------------------------------------- streams (for the HTTP server)

/// Terminal size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// Which streams a client wants.
#[derive(Clone, Debug, Default)]
pub struct StreamRequest {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamExit {
    /// The exit code; a signal shows as 128 + number.
    Code(i32),
    /// The stream ended without an exit code (attach: the supervisor went away).
    Detached,
    Failed(String),
}

/// One exec or attach: bytes in, bytes out, one exit. Dropping it ends an exec'd process and detaches an attach.
pub struct StreamSession {
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// With a terminal everything comes here.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    pub exit: oneshot::Receiver<StreamExit>,
}

/// One container as the server needs it.
#[derive(Clone, Debug)]
pub struct ContainerView {
    pub name: String,
    /// Runtime id; empty when never created.
    pub id: String,
    pub running: bool,
    pub tty: bool,
    pub stdin: bool,
    /// CRI-format log of this attempt; rotated siblings are `<path>.<timestamp>`.
    pub log_path: PathBuf,
    /// The log of the attempt before, when it is still kept (`logs --previous`).
    pub previous_log_path: Option<PathBuf>,
    pub restart_count: i32,
    /// Set while waiting or terminated, for messages such as "container is waiting to start: ImagePullBackOff".
    pub reason: Option<String>,
}

/// One pod as the server needs it.
#[derive(Clone, Debug)]
pub struct PodView {
    pub pod_ref: PodRef,
    /// The object with the newest status of this agent.
    pub pod: Arc<Pod>,
    pub host_network: bool,
    /// None for hostNetwork pods and before the sandbox exists.
    pub netns: Option<PathBuf>,
    pub pod_ips: PodIps,
    /// Init, ephemeral and app containers.
    pub containers: Vec<ContainerView>,
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccessError {
    #[error("pod {0:?} not found")]
    PodNotFound(String),
    #[error("container {0:?} not found")]
    ContainerNotFound(String),
    #[error("container {0:?} is not running")]
    NotRunning(String),
    #[error("{0}")]
    Runtime(String),
}

/// Numbers of one container for `/stats/summary`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerStats {
    pub cpu_usage_nanos: u64,
    pub memory_usage_bytes: u64,
    pub memory_working_set_bytes: u64,
    pub pids: u64,
}

/// What the HTTP server may ask the agent for.
#[async_trait]
pub trait PodAccess: Send + Sync + 'static {
    fn pods(&self) -> Vec<PodView>;
    fn find(&self, namespace: &str, name: &str) -> Option<PodView>;
    async fn exec(
        &self,
        container_id: &str,
        command: &[String],
        request: &StreamRequest,
    ) -> Result<StreamSession, AccessError>;
    async fn attach(
        &self,
        container_id: &str,
        request: &StreamRequest,
    ) -> Result<StreamSession, AccessError>;
    async fn stats(&self, container_id: &str) -> Result<ContainerStats, AccessError>;
}
