//! From a pod to an OCI runtime configuration. Pure: everything that must be read from the host or the API comes in as
//! arguments, and the same inputs give the same bytes. It creates no files and calls no runtime.

pub mod quantity;

pub mod env;
pub mod expand;
pub mod resources;
pub mod user;

pub mod capabilities;
pub mod generate;
pub mod mounts;
pub mod seccomp;
pub mod sysctls;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

/// Which list of the pod a container stands in.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum ContainerKind {
    Init,
    /// An init container with restartPolicy Always: runs beside the app containers.
    Sidecar,
    App,
    Ephemeral,
}

/// An ephemeral container seen as an ordinary one; the two types differ in the target only.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        name: e.name,
        resources: e.resources,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
        ..Container::default()
    }
}

/// All containers of a pod in starting order, with their kind.
pub fn containers(pod: &Pod) -> Vec<(ContainerKind, Container)> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        (
            if sidecar {
                ContainerKind::Sidecar
            } else {
                ContainerKind::Init
            },
            container.clone(),
        )
    });
    let app = spec
        .containers
        .iter()
        .map(|container| (ContainerKind::App, container.clone()));
    let ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| (ContainerKind::Ephemeral, as_container(container)));
    init.chain(app).chain(ephemeral).collect()
}

/// Why a container's configuration cannot be made. The text is shown in the container's waiting state.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    #[error("{0}")]
    Config(String),
    /// `CreateContainerError` instead of `CreateContainerConfigError`.
    #[error("{0}")]
    Create(String),
}

impl SpecError {
    /// The waiting reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "CreateContainerConfigError",
            Self::Create(_) => "CreateContainerError",
        }
    }
}
