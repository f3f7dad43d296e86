//! Performing the machine's actions. Each runs in its own task and reports back with one event; failures are events too.

use std::sync::Arc;
use std::time::Duration;

use corten_base::tasks::{self, TaskKind};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use tokio::sync::mpsc;

use super::layout::SandboxRecord;
use super::{Shared, pause, start, subpath};
use crate::check;
use crate::pod::{Action, Event, PodMachine};
use crate::sandbox::{hostname, write_files};
use crate::spec::{resources, sysctls};
use crate::supervisor::record::boot_id;
use crate::traits::{
    ImageError, ImageRequest, NetworkRequest, PodIps, PullPolicy, PullProgress, PullSecret,
    VolumeRequest,
};

/// Performs one action (not `Report` and `Finish`, which are the worker's own).
pub(super) fn perform(shared: &Arc<Shared>, machine: &PodMachine, action: Action) {
    let pod = machine.pod.clone();
    let shared = shared.clone();
    match action {
        Action::SetupVolumes => run(&shared, setup_volumes(shared.clone(), pod)),
        Action::TeardownVolumes => run(&shared, teardown_volumes(shared.clone())),
        Action::CreateSandbox => run(&shared, create_sandbox(shared.clone(), pod)),
        Action::RemoveSandbox => run(&shared, remove_sandbox(shared.clone(), pod)),
        Action::PullImage { container } => {
            let Some(spec) = spec_of(machine, &container) else {
                return;
            };
            run(&shared, pull(shared.clone(), pod, spec));
        }
        Action::Start {
            container,
            attempt,
            image,
        } => {
            let Some(entry) = machine.containers.iter().find(|c| c.name() == container) else {
                return;
            };
            let request = start::Request {
                pod,
                kind: entry.kind,
                spec: entry.spec.clone(),
                attempt,
                image: *image,
                ips: machine.ips.clone(),
                target: start::target_process(machine, &container),
            };
            start::spawn(shared, request);
        }
        Action::Resize { containers } => {
            run(
                &shared,
                super::resize::resize(shared.clone(), pod, containers),
            );
        }
        Action::Terminate { container, id } => {
            let image = machine.containers.iter().find(|c| c.name() == container);
            let signal = start::stop_signal(image);
            run_signal(shared, container, id, signal);
        }
        Action::Kill { container, id } => run_signal(shared, container, id, 9),
        Action::Remove { container, id } => remove(shared, container, id),
        Action::PostStart { .. } | Action::PreStop { .. } | Action::Probe { .. } => {
            perform_check(shared, machine, action);
        }
        Action::Report { .. } | Action::Finish => {}
    }
}

fn spec_of(machine: &PodMachine, name: &str) -> Option<ContainerSpec> {
    machine
        .containers
        .iter()
        .find(|c| c.name() == name)
        .map(|c| c.spec.clone())
}

/// Runs a task whose result is one event.
fn run(shared: &Arc<Shared>, work: impl Future<Output = Event> + Send + 'static) {
    let sender = shared.sender.clone();
    tasks::spawn("pod-action", TaskKind::Background, async move {
        // The worker may have ended; then nobody needs to know.
        let _ = sender.send(work.await).await;
    });
}

fn volume_request(shared: &Shared, pod: Arc<Pod>, pod_ips: PodIps) -> VolumeRequest {
    VolumeRequest {
        pod,
        pod_ref: shared.pod_ref.clone(),
        pod_dir: shared.pod_dir(),
        pod_ips,
        host_ips: shared.context.host_ips.clone(),
        node_name: shared.context.node_name.clone(),
        node_allocatable: shared.context.allocatable.clone(),
    }
}

async fn setup_volumes(shared: Arc<Shared>, pod: Arc<Pod>) -> Event {
    super::layout::write_record(&shared, &pod);
    let request = volume_request(&shared, pod, Vec::new());
    match shared.context.volumes.setup(&request).await {
        Ok(volumes) => {
            *shared.volumes.lock() = volumes;
            Event::VolumesReady
        }
        Err(error) => Event::VolumesFailed {
            message: error.to_string(),
        },
    }
}

/// Brings volumes up to date in the background; a failure waits for the next round.
pub(super) fn refresh_volumes(shared: &Arc<Shared>, machine: &PodMachine) {
    if machine.volumes != crate::pod::machine::Part::Ready || machine.stop.is_some() {
        return;
    }
    let request = volume_request(shared, machine.pod.clone(), machine.ips.clone());
    let shared = shared.clone();
    tasks::spawn("volume-refresh", TaskKind::Background, async move {
        if let Err(error) = shared.context.volumes.refresh(&request).await {
            tracing::warn!(pod = %shared.pod_ref, %error, "volumes not refreshed");
        }
    });
}

async fn teardown_volumes(shared: Arc<Shared>) -> Event {
    let dir = shared.pod_dir();
    subpath::unmount_all(&dir.join("subpaths"));
    let result = shared.context.volumes.teardown(&shared.pod_ref, &dir).await;
    Event::VolumesGone {
        error: result.err().map(|error| error.to_string()),
    }
}

async fn create_sandbox(shared: Arc<Shared>, pod: Arc<Pod>) -> Event {
    match try_create_sandbox(&shared, &pod).await {
        Ok(ips) => Event::SandboxReady { ips },
        Err(message) => Event::SandboxFailed { message },
    }
}

async fn try_create_sandbox(shared: &Arc<Shared>, pod: &Arc<Pod>) -> Result<PodIps, String> {
    super::layout::write_record(shared, pod);
    let context = &shared.context;
    let sandbox = shared.sandbox(pod);
    let cgroup = context.pod_cgroup(&shared.pod_ref.uid);
    let limits = resources::of_pod(pod, context.pod_pids_limit);
    let made = cgroup_of_pod(shared, &cgroup, &limits);
    made.map_err(|error| format!("making the pod's cgroup {cgroup}: {error}"))?;
    let name = hostname(pod, &context.dns.domain, &context.node_name);
    // Asked again although admission did: a pod on disk may be older than the rule.
    let sysctls = sysctls::settings(pod, &context.sysctls)?;
    let place = sandbox.clone();
    tokio::task::spawn_blocking(move || place.create(&name, &sysctls))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("making namespaces: {error}"))?;
    let ips = match sandbox.netns() {
        Some(netns) => {
            let request = network_request(shared, pod, netns);
            context
                .network
                .setup(&request)
                .await
                .map_err(|error| error.to_string())?
        }
        None => Vec::new(),
    };
    write_files(&sandbox.etc, pod, &ips, &context.dns, &context.node_name)
        .map_err(|error| format!("writing the pod's files: {error}"))?;
    if pod.spec.as_ref().and_then(|s| s.share_process_namespace) == Some(true) {
        pause::ensure(shared, &sandbox, &cgroup).await?;
    }
    shared
        .write_sandbox_record(&SandboxRecord {
            boot_id: boot_id(),
            ips: ips.clone(),
        })
        .map_err(|error| error.to_string())?;
    Ok(ips)
}

fn cgroup_of_pod(
    shared: &Shared,
    cgroup: &str,
    limits: &crate::cgroup::GroupLimits,
) -> std::io::Result<()> {
    shared.context.cgroups.create(cgroup)?;
    shared.context.cgroups.limit(cgroup, limits)
}

pub(super) fn network_request(
    shared: &Shared,
    pod: &Arc<Pod>,
    netns: std::path::PathBuf,
) -> NetworkRequest {
    NetworkRequest {
        sandbox_id: shared.pod_ref.uid.clone(),
        netns,
        pod: pod.clone(),
        pod_ref: shared.pod_ref.clone(),
    }
}

async fn remove_sandbox(shared: Arc<Shared>, pod: Arc<Pod>) -> Event {
    let sandbox = shared.sandbox(&pod);
    let netns = sandbox.netns();
    if netns.is_some()
        && let Err(error) = shared
            .context
            .network
            .teardown(&shared.pod_ref.uid, netns.as_deref())
            .await
    {
        return Event::SandboxGone {
            error: Some(error.to_string()),
        };
    }
    pause::end(&shared);
    shared.forget_sandbox();
    let removed = tokio::task::spawn_blocking(move || sandbox.remove()).await;
    let error = match removed {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    Event::SandboxGone { error }
}

async fn pull(shared: Arc<Shared>, pod: Arc<Pod>, spec: ContainerSpec) -> Event {
    let container = spec.name.clone();
    let image = spec.image.clone().unwrap_or_default();
    let request = ImageRequest {
        policy: PullPolicy::of(spec.image_pull_policy.as_deref(), &image),
        secrets: pull_secrets(&shared, &pod).await,
        pod: shared.pod_ref.clone(),
        image,
    };
    let (progress, mut told) = mpsc::channel(16);
    let pulling = shared
        .context
        .images
        .ensure_present(&request, Some(progress));
    tokio::pin!(pulling);
    let result = loop {
        tokio::select! {
            biased;
            Some(step) = told.recv() => {
                if step == PullProgress::Started {
                    let _ = shared.sender.send(Event::Pulling { container: container.clone() }).await;
                }
            }
            result = &mut pulling => break result,
        }
    };
    match result {
        Ok(ensured) => {
            let pulled = ensured.pulled.map(|outcome| {
                let seconds = |duration: Duration| format!("{:.3}s", duration.as_secs_f64());
                format!(
                    "in {} ({} including waiting). Image size: {} bytes.",
                    seconds(outcome.took),
                    seconds(outcome.took_with_waiting),
                    outcome.bytes
                )
            });
            Event::ImageReady {
                container,
                image: Box::new(ensured.record),
                pulled,
            }
        }
        Err(error) => image_failed(container, &error),
    }
}

fn image_failed(container: String, error: &ImageError) -> Event {
    Event::ImageFailed {
        container,
        reason: error.reason(),
        message: error.to_string(),
        backs_off: error.backs_off(),
    }
}

/// The pod's imagePullSecrets that exist; a missing one only means fewer credentials to try.
async fn pull_secrets(shared: &Shared, pod: &Pod) -> Vec<PullSecret> {
    let names = pod
        .spec
        .as_ref()
        .and_then(|s| s.image_pull_secrets.clone())
        .unwrap_or_default();
    let mut found = Vec::new();
    for reference in names {
        let name = reference.name;
        match shared
            .context
            .objects
            .secret(&shared.pod_ref.namespace, &name)
            .await
        {
            Ok(secret) => {
                let data = secret.data.clone().unwrap_or_default();
                if let Some(json) = data.get(".dockerconfigjson") {
                    found.push(PullSecret::DockerConfigJson(json.0.clone()));
                } else if let Some(cfg) = data.get(".dockercfg") {
                    found.push(PullSecret::DockerCfg(cfg.0.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(pod = %shared.pod_ref, secret = name, %error, "pull secret")
            }
        }
    }
    found
}

fn run_signal(shared: Arc<Shared>, container: String, id: String, signal: i32) {
    tasks::spawn("pod-signal", TaskKind::Background, async move {
        if let Some(target) = start::container_with_id(&shared, &container, &id)
            && let Err(error) = shared.context.runtime.signal(&target, signal).await
        {
            tracing::warn!(pod = %shared.pod_ref, container, signal, %error, "signal not sent");
        }
    });
}

/// Forgets a dead container: its directory and its log.
fn remove(shared: Arc<Shared>, container: String, id: String) {
    tasks::spawn("container-removal", TaskKind::Background, async move {
        let Some(target) = start::container_with_id(&shared, &container, &id) else {
            return;
        };
        let log = target.dir.spec().map(|spec| spec.log_path);
        if let Err(error) = shared.context.runtime.remove(&target).await {
            tracing::warn!(pod = %shared.pod_ref, container, %error, "container not removed");
            return;
        }
        if let Ok(log) = log {
            let rotated = crate::supervisor::cri_log::rotated_logs(&log).unwrap_or_default();
            for file in rotated.into_iter().chain([log]) {
                let _ = std::fs::remove_file(file);
            }
        }
    });
}

fn perform_check(shared: Arc<Shared>, machine: &PodMachine, action: Action) {
    let pod_ip = match shared.sandbox(&machine.pod).host_network {
        true => machine.host_ips.first().copied(),
        false => machine.ips.first().copied(),
    };
    let named = match &action {
        Action::PostStart {
            container, attempt, ..
        }
        | Action::PreStop {
            container, attempt, ..
        }
        | Action::Probe {
            container, attempt, ..
        } => (container.clone(), *attempt),
        _ => return,
    };
    let (name, attempt) = named;
    let Some(spec) = spec_of(machine, &name) else {
        return;
    };
    let worker = shared.clone();
    let container = shared.container(&name, attempt);
    run(&shared, async move {
        let runtime = worker.context.runtime.clone();
        let target = check::Target {
            runtime: &*runtime,
            container: &container,
            spec: &spec,
            pod_ip,
        };
        match action {
            Action::PostStart { hook, .. } => {
                let error = check::hook(&target, &hook, None).await.err();
                Event::PostStartDone {
                    container: name,
                    attempt,
                    error,
                }
            }
            Action::PreStop { hook, timeout, .. } => {
                let error = check::hook(&target, &hook, Some(timeout)).await.err();
                Event::PreStopDone {
                    container: name,
                    attempt,
                    error,
                }
            }
            Action::Probe { kind, probe, .. } => {
                let result = check::probe(&target, &probe).await;
                Event::Probed {
                    container: name,
                    attempt,
                    kind,
                    ok: result.is_ok(),
                    output: result.map_or_else(|error| error, Option::unwrap_or_default),
                }
            }
            _ => Event::Tick,
        }
    });
}
