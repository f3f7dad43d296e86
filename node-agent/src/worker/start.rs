//! Starting one container: gathers what its configuration needs, writes its directory, starts its supervisor and follows it
//! to its end. The configuration itself is `spec::generate`'s.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_base::tasks::{self, TaskKind};
use corten_base::trace;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use serde_json::Value;
use tracing::Instrument;

use super::layout::RunRecord;
use super::{Shared, subpath};
use crate::pod::container::ContainerMachine;
use crate::pod::types::Exit;
use crate::pod::{Event, PodMachine};
use crate::runtime::{Container, StartOutcome, StartRequest};
use crate::sandbox::hostname;
use crate::spec::env::{self, EnvSources};
use crate::spec::expand::expand_strictly;
use crate::spec::generate::{self, ContainerInputs, PidNamespace};
use crate::spec::mounts::{BindMount, Propagation};
use crate::spec::{ContainerKind, SpecError, user};
use crate::supervisor::record::{ExitRecord, write_json};
use crate::traits::{ImageRecord, SourceError};

/// Longest termination message, in bytes.
const MESSAGE_MAX: u64 = 4096;
/// Where the end of a log is looked for, in bytes: the lines in it carry their times.
const LOG_TAIL_READ: u64 = 64 * 1024;
/// What is taken from the end of a log instead, in bytes and lines.
const LOG_TAIL: (usize, usize) = (2048, 80);

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

/// Waits for the end of a running container and reports it.
pub(super) async fn follow(shared: Arc<Shared>, spec: ContainerSpec, attempt: u32) {
    let container = shared.container(&spec.name, attempt);
    match shared.context.runtime.wait(&container).await {
        Ok(exit) => report_exit(&shared, &spec, attempt, exit).await,
        Err(error) => {
            tracing::error!(pod = %shared.pod_ref, container = spec.name, %error, "lost sight of it");
        }
    }
}

async fn report_exit(shared: &Shared, spec: &ContainerSpec, attempt: u32, record: ExitRecord) {
    let container = shared.container(&spec.name, attempt);
    let exit = exit_of(shared, spec, attempt, &container, record);
    let event = Event::Exited {
        container: spec.name.clone(),
        attempt,
        id: container.id,
        exit,
    };
    let _ = shared.sender.send(event).await;
}

/// The record of a run with its termination message.
pub(super) fn exit_of(
    shared: &Shared,
    spec: &ContainerSpec,
    attempt: u32,
    container: &Container,
    record: ExitRecord,
) -> Exit {
    let text = read_slice(
        &container.dir.termination_log(),
        SeekFrom::Start(0),
        MESSAGE_MAX,
    );
    let mut message = String::from_utf8_lossy(&text).into_owned();
    let falls_back = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if message.is_empty() && falls_back && record.exit_code != 0 {
        message = log_tail(
            &shared
                .context
                .log_path(&shared.pod_ref, &spec.name, attempt),
        );
    }
    Exit {
        exit_code: record.exit_code,
        signal: record.signal,
        oom_killed: record.oom_killed,
        started_at: record.started_at,
        finished_at: record.finished_at,
        start_error: record.start_error,
        lost: record.lost,
        message: (!message.is_empty()).then_some(message),
    }
}

/// At most `limit` bytes of a file from a position on; a container may have made it as large as the disk, or larger.
fn read_slice(path: &Path, from: SeekFrom, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.seek(from)?;
        file.take(limit).read_to_end(&mut bytes)
    });
    // A file that cannot be read says as much as an empty one.
    read.map(|_| bytes).unwrap_or_default()
}

fn log_tail(path: &Path) -> String {
    let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let from = SeekFrom::Start(length.saturating_sub(LOG_TAIL_READ));
    let text = String::from_utf8_lossy(&read_slice(path, from, LOG_TAIL_READ)).into_owned();
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .collect();
    let mut tail = lines[lines.len().saturating_sub(LOG_TAIL.1)..].join("\n");
    if !tail.is_empty() {
        tail.push('\n');
    }
    let mut from = tail.len().saturating_sub(LOG_TAIL.0);
    while !tail.is_char_boundary(from) {
        from += 1;
    }
    tail.split_off(from)
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
    };
    write_json(&container.dir.path("run.json"), &run).map_err(|error| create(&error))?;
    let start = StartRequest {
        cgroup_path: cgroup_path(shared, &container),
        handler: request
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.runtime_class_name.clone())
            .unwrap_or_default(),
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

fn cgroup_path(shared: &Shared, container: &Container) -> String {
    format!(
        "{}/{}",
        shared.context.pod_cgroup(&shared.pod_ref.uid),
        container.id
    )
}

async fn configuration(
    shared: &Arc<Shared>,
    request: &Request,
    container: &Container,
) -> Result<Value, SpecError> {
    let context = &shared.context;
    let host_network = request.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let pod_ips = if host_network {
        context.host_ips.clone()
    } else {
        request.ips.clone()
    };
    let sources = env_sources(shared, &request.spec).await?;
    let facts = context.pod_facts(pod_ips);
    let env = env::resolve(&request.pod, &request.spec, &sources, &facts)?;
    let passwd = subpath::read_in_layers(&request.image.layers, "etc/passwd");
    let group = subpath::read_in_layers(&request.image.layers, "etc/group");
    let image = &request.image.config;
    let user = user::resolve(&request.pod, &request.spec, &image.user, &passwd, &group)?;
    std::fs::create_dir_all(&container.dir.0)
        .map_err(|error| SpecError::Create(error.to_string()))?;
    let volumes = bind_mounts(shared, request, &env)?;
    make_termination_log(container)?;
    let sandbox = shared.sandbox(&request.pod);
    let privileged = request
        .spec
        .security_context
        .as_ref()
        .and_then(|c| c.privileged)
        == Some(true);
    let devices = if privileged {
        crate::host::devices()
    } else {
        Vec::new()
    };
    generate::oci_config(&ContainerInputs {
        pod: &request.pod,
        container: &request.spec,
        image,
        env: &env,
        user: &user,
        volumes: &volumes,
        files: &sandbox.pod_files(),
        termination_log: container.dir.termination_log(),
        namespaces: &sandbox.namespaces(),
        pid_namespace: pid_namespace(shared, request, &sandbox),
        hostname: &hostname(&request.pod, &context.dns.domain, &context.node_name),
        cgroup_path: &cgroup_path(shared, container),
        host: &context.host,
        devices: &devices,
        localhost_seccomp: localhost_seccomp(shared, request)?,
    })
}

fn pid_namespace(
    shared: &Shared,
    request: &Request,
    sandbox: &crate::sandbox::Sandbox,
) -> PidNamespace {
    let spec = request.pod.spec.as_ref();
    if spec.and_then(|s| s.host_pid) == Some(true) {
        return PidNamespace::Host;
    }
    if spec.and_then(|s| s.share_process_namespace) == Some(true) {
        return PidNamespace::Path(sandbox.pid_pin());
    }
    let target = request
        .target
        .as_ref()
        .filter(|_| request.kind == ContainerKind::Ephemeral);
    let started = target.and_then(|(name, attempt)| shared.container(name, *attempt).dir.started());
    match started {
        Some(started) => PidNamespace::Path(PathBuf::from(format!("/proc/{}/ns/pid", started.pid))),
        None => PidNamespace::Own,
    }
}

fn localhost_seccomp(shared: &Shared, request: &Request) -> Result<Option<Value>, SpecError> {
    let profile = generate::effective_seccomp(&request.pod, &request.spec);
    let Some(name) = profile
        .filter(|p| p.type_ == "Localhost")
        .and_then(|p| p.localhost_profile)
    else {
        return Ok(None);
    };
    let path = shared.context.data_dir.join("seccomp").join(&name);
    let text = std::fs::read(&path).map_err(|error| {
        SpecError::Create(format!(
            "cannot load seccomp profile {}: {error}",
            path.display()
        ))
    })?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| SpecError::Create(format!("seccomp profile {}: {error}", path.display())))
}

/// A file that any user of the container may write.
fn make_termination_log(container: &Container) -> Result<(), SpecError> {
    use std::os::unix::fs::PermissionsExt;
    let path = container.dir.termination_log();
    std::fs::write(&path, b"")
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)))
        .map_err(|error| SpecError::Create(format!("making the termination log: {error}")))
}

async fn env_sources(shared: &Shared, spec: &ContainerSpec) -> Result<EnvSources, SpecError> {
    let (maps, secrets) = env::references(spec);
    let namespace = &shared.pod_ref.namespace;
    let objects = &shared.context.objects;
    let mut sources = EnvSources {
        services: shared.context.api.services(namespace),
        ..EnvSources::default()
    };
    // Absent objects are left out: `env::resolve` knows whether they were optional.
    let tolerate = |error: SourceError| match error {
        SourceError::NotFound { .. } => Ok(()),
        SourceError::Read { .. } => Err(SpecError::Config(error.to_string())),
    };
    for name in maps {
        match objects.config_map(namespace, &name).await {
            Ok(map) => {
                sources.config_maps.insert(name, map);
            }
            Err(error) => tolerate(error)?,
        }
    }
    for name in secrets {
        match objects.secret(namespace, &name).await {
            Ok(secret) => {
                sources.secrets.insert(name, secret);
            }
            Err(error) => tolerate(error)?,
        }
    }
    Ok(sources)
}

fn bind_mounts(
    shared: &Shared,
    request: &Request,
    env: &[(String, String)],
) -> Result<Vec<BindMount>, SpecError> {
    let volumes = shared.volumes.lock().clone();
    let vars: BTreeMap<&str, &str> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut mounts = Vec::new();
    for (index, wanted) in request.spec.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes.get(&wanted.name).ok_or_else(|| {
            SpecError::Config(format!(
                "cannot find volume \"{}\" to mount into container \"{}\"",
                wanted.name, request.spec.name
            ))
        })?;
        let sub = match (&wanted.sub_path_expr, &wanted.sub_path) {
            (Some(text), _) if !text.is_empty() => {
                let lookup = |name: &str| vars.get(name).map(|value| (*value).to_owned());
                expand_strictly(text, &lookup)
                    .map_err(|name| SpecError::Config(format!("missing value for \"{name}\"")))?
            }
            (_, Some(text)) => text.clone(),
            _ => String::new(),
        };
        if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
            return Err(SpecError::Config(format!(
                "subPath \"{sub}\" must be relative and without '..'"
            )));
        }
        let host_path = if sub.is_empty() {
            volume.host_path.clone()
        } else {
            let pin = shared
                .pod_dir()
                .join("subpaths")
                .join(&request.spec.name)
                .join(index.to_string());
            subpath::pin(&volume.host_path, &sub, &pin).map_err(|error| {
                SpecError::Config(format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}",
                    wanted.name, request.spec.name
                ))
            })?;
            pin
        };
        let propagation = Propagation::of(wanted.mount_propagation.as_deref());
        can_travel(&host_path, propagation)?;
        mounts.push(BindMount {
            host_path,
            container_path: absolute(&wanted.mount_path),
            read_only: wanted.read_only == Some(true) || volume.read_only,
            propagation,
        });
    }
    Ok(mounts)
}

/// Mounts travel only where the host lets them; a pod that counts on it must not start without.
fn can_travel(host_path: &std::path::Path, wanted: Propagation) -> Result<(), SpecError> {
    if wanted == Propagation::None {
        return Ok(());
    }
    let refuse = |cause: String| SpecError::Create(format!("mount propagation: {cause}"));
    let found = crate::mounts::travel(host_path).map_err(|error| refuse(error.to_string()))?;
    let (fits, kind) = match wanted {
        Propagation::Bidirectional => (found.shared, "shared"),
        _ => (found.shared || found.slave, "shared or slave"),
    };
    if fits {
        return Ok(());
    }
    Err(refuse(format!(
        "path {host_path:?} is mounted on {:?} but it is not a {kind} mount",
        found.point
    )))
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_termination_log_is_not_read_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("termination-log");
        let file = std::fs::File::create(&path).expect("file");
        file.set_len(1 << 40).expect("a sparse file");
        let text = read_slice(&path, SeekFrom::Start(0), MESSAGE_MAX);
        assert_eq!(text.len() as u64, MESSAGE_MAX);
        assert!(log_tail(&path).len() <= LOG_TAIL.0);
        assert!(read_slice(&dir.path().join("absent"), SeekFrom::Start(0), 1).is_empty());
    }
}
