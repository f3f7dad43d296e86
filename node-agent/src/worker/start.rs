//! Starting one container: writes its directory, starts its supervisor, and has it followed to its end.
//!
//! What its configuration needs is gathered by `inputs`.

use std::net::IpAddr;
use std::sync::Arc;

use corten_base::tasks::{self, TaskKind};
use corten_base::trace;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use tracing::Instrument;

use super::Shared;
use super::exit::{follow, report_exit};
use super::inputs::configuration;
use super::layout::RunRecord;
use crate::pod::container::ContainerMachine;
use crate::pod::{Event, PodMachine};
use crate::runtime::{Container, StartOutcome, StartRequest};
use crate::spec::{ContainerKind, SpecError};
use crate::supervisor::record::write_json;
use crate::traits::ImageRecord;

/// One start.
pub(super) struct Request {
    pub(super) pod: Arc<Pod>,
    pub(super) kind: ContainerKind,
    pub(super) spec: ContainerSpec,
    pub(super) attempt: u32,
    pub(super) image: ImageRecord,
    pub(super) ips: Vec<IpAddr>,
    /// First process of the container whose processes an ephemeral container wants to see.
    pub(super) target: Option<(String, u32)>,
}

/// The container that an ephemeral container is aimed at.
pub(super) fn target_process(machine: &PodMachine, name: &str) -> Option<(String, u32)> {
    let ephemeral = machine.pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
    let target = ephemeral
        .iter()
        .find(|c| c.name == name)?
        .target_container_name
        .clone()?;
    let found = machine.containers.iter().find(|c| c.name() == target)?;
    Some((target, found.restart_count))
}

/// The signal that asks a container to stop.
pub(super) fn stop_signal(container: Option<&ContainerMachine>) -> i32 {
    let own = container
        .and_then(|c| c.spec.lifecycle.as_ref())
        .and_then(|l| l.stop_signal.clone());
    let image = container
        .and_then(|c| c.image.as_ref())
        .map(|image| image.config.stop_signal.clone());
    let text = own.or(image).unwrap_or_default();
    let number = text.parse::<i32>().ok();
    let name = || {
        let full = if text.starts_with("SIG") {
            text.clone()
        } else {
            format!("SIG{text}")
        };
        full.parse::<nix::sys::signal::Signal>()
            .ok()
            .map(|signal| signal as i32)
    };
    number.or_else(name).unwrap_or(15)
}

/// The run of a container that has this id.
pub(super) fn container_with_id(shared: &Shared, name: &str, id: &str) -> Option<Container> {
    let runs = super::layout::attempts(&shared.pod_dir().join("containers"));
    runs.into_iter()
        .filter(|(known, _)| known == name)
        .map(|(_, attempt)| shared.container(name, attempt))
        .find(|container| container.id == id)
}

/// Starts the container in the background and reports how it goes.
pub(super) fn spawn(shared: Arc<Shared>, request: Request) {
    tasks::spawn("container-start", TaskKind::Background, async move {
        let (name, attempt) = (request.spec.name.clone(), request.attempt);
        let span = trace::run("agent", "start container", &shared.pod_ref);
        match start(&shared, &request).instrument(span).await {
            Ok(StartOutcome::Running(started)) => {
                let container = shared.container(&name, attempt);
                let event = Event::Started {
                    container: name.clone(),
                    attempt,
                    id: container.id,
                    at: started.started_at,
                };
                let _ = shared.sender.send(event).await;
                follow(shared, request.spec, attempt).await;
            }
            Ok(StartOutcome::Ended(exit)) => {
                report_exit(&shared, &request.spec, attempt, exit).await
            }
            Err(error) => {
                let event = Event::CreateFailed {
                    container: name,
                    attempt,
                    reason: error.reason(),
                    message: error.to_string(),
                };
                let _ = shared.sender.send(event).await;
            }
        }
    });
}

async fn start(shared: &Arc<Shared>, request: &Request) -> Result<StartOutcome, SpecError> {
    let container = shared.container(&request.spec.name, request.attempt);
    // A directory from before a crash: take what runs, forget what never ran.
    let create = |error: &dyn std::fmt::Display| SpecError::Create(error.to_string());
    match shared
        .context
        .runtime
        .recover(&container)
        .await
        .map_err(|error| create(&error))?
    {
        Some(outcome) => return Ok(outcome),
        None => {
            shared
                .context
                .runtime
                .remove(&container)
                .await
                .map_err(|error| create(&error))?;
        }
    }
    let config = configuration(shared, request, &container).await?;
    let log_path = shared
        .context
        .log_path(&shared.pod_ref, &request.spec.name, request.attempt);
    let run = RunRecord {
        image: request.image.clone(),
        resources: request.spec.resources.clone(),
    };
    write_json(&container.dir.path("run.json"), &run).map_err(|error| create(&error))?;
    let start = StartRequest {
        cgroup_path: cgroup_path(shared, &container),
        handler: handler(shared, request).await?,
        config,
        layers: request.image.layers.clone(),
        tty: request.spec.tty == Some(true),
        stdin: request.spec.stdin == Some(true),
        stdin_once: request.spec.stdin_once == Some(true),
        log_path,
        container,
    };
    shared
        .context
        .runtime
        .start(start)
        .await
        .map_err(|error| create(&error))
}

/// The handler of the pod's RuntimeClass; empty for the default.
async fn handler(shared: &Shared, request: &Request) -> Result<String, SpecError> {
    let spec = request.pod.spec.as_ref();
    let Some(class) = spec.and_then(|spec| spec.runtime_class_name.as_deref()) else {
        return Ok(String::new());
    };
    let found = shared.context.objects.runtime_handler(class).await;
    found.map_err(|error| SpecError::Create(error.to_string()))
}

/// Where the container is counted and bounded.
pub(super) fn cgroup_path(shared: &Shared, container: &Container) -> String {
    format!(
        "{}/{}",
        shared.context.pod_cgroup(&shared.pod_ref.uid),
        container.id
    )
}
