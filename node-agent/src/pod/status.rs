//! What the API shows of a pod, rendered from its machine. Pure: the same machine at the same moment gives the same status.
//! Conditions of other owners (readiness gates, disruption) are not ours and are left out.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff;
use super::container::{ContainerMachine, Ended, State};
use super::machine::{Part, PodMachine, SHOW_ERROR};
use super::types::Now;
use crate::spec::ContainerKind;
use crate::spec::resources::QosClass;

/// Prefix of container ids.
pub const ID_SCHEME: &str = "corten://";

/// What a container waits for that nothing else is known of.
const CREATING: &str = "ContainerCreating";

/// The status of the pod.
pub fn render(machine: &PodMachine, now: Now) -> PodStatus {
    let phase = phase(machine);
    let list = |kinds: &[ContainerKind]| -> Vec<ContainerStatus> {
        machine
            .containers
            .iter()
            .filter(|container| kinds.contains(&container.kind))
            .map(|container| container_status(machine, container, now))
            .collect()
    };
    let some = |statuses: Vec<ContainerStatus>| (!statuses.is_empty()).then_some(statuses);
    let pod_ips = if host_network(machine) {
        &machine.host_ips
    } else {
        &machine.ips
    };
    let (reason, message) = match &machine.failed {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None => (None, None),
    };
    PodStatus {
        conditions: Some(conditions(machine, phase, now)),
        phase: Some(phase.to_owned()),
        reason,
        message,
        host_ip: machine.host_ips.first().map(ToString::to_string),
        host_ips: Some(
            machine
                .host_ips
                .iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        pod_ip: pod_ips.first().map(ToString::to_string),
        pod_ips: (!pod_ips.is_empty()).then(|| {
            pod_ips
                .iter()
                .map(|ip| PodIP { ip: ip.to_string() })
                .collect()
        }),
        start_time: Some(Time(machine.start_time)),
        qos_class: Some(QosClass::of(&machine.pod).name().to_owned()),
        init_container_statuses: some(list(&[ContainerKind::Init, ContainerKind::Sidecar])),
        container_statuses: some(list(&[ContainerKind::App])),
        ephemeral_container_statuses: some(list(&[ContainerKind::Ephemeral])),
        observed_generation: machine.pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn host_network(machine: &PodMachine) -> bool {
    machine.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true)
}

/// The phase. Succeeded and Failed are final.
pub fn phase(machine: &PodMachine) -> &'static str {
    if machine.failed.is_some() {
        return "Failed";
    }
    let of = |kind| {
        machine
            .containers
            .iter()
            .filter(move |c: &&ContainerMachine| c.kind == kind)
    };
    let policy = machine.restart_policy();
    let apps: Vec<&ContainerMachine> = of(ContainerKind::App).collect();
    let all_over = machine.containers.iter().all(ContainerMachine::is_quiet);
    let init_failed = of(ContainerKind::Init)
        .filter_map(|c| Some((c, c.ended()?)))
        .any(|(c, ended)| ended.exit.exit_code != 0 && !c.restarts(policy, ended.exit.exit_code));
    if init_failed {
        return if all_over { "Failed" } else { "Pending" };
    }
    let ended_ok = |c: &&ContainerMachine| c.ended().is_some_and(|e| e.exit.exit_code == 0);
    let stopped_for_good = machine.is_complete() || machine.stop.is_some_and(|stop| stop.deleted);
    if stopped_for_good && all_over && !apps.is_empty() && apps.iter().all(|c| c.ended().is_some())
    {
        return if apps.iter().all(ended_ok) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let has_run =
        |c: &&&ContainerMachine| c.run().is_some() || c.ended().is_some() || c.last.is_some();
    if machine.initialized && apps.iter().filter(has_run).count() == apps.len() {
        "Running"
    } else {
        "Pending"
    }
}

/// Whether an object says that it will never run again.
pub fn phase_is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn container_status(
    machine: &PodMachine,
    container: &ContainerMachine,
    now: Now,
) -> ContainerStatus {
    let (state, last) = states(machine, container, now);
    let run_id = match &container.state {
        State::Running(run) => Some(run.id.clone()),
        State::Ended(ended) => Some(ended.id.clone()),
        _ => container.last.as_ref().map(|ended| ended.id.clone()),
    };
    let promised = container.spec.resources.clone();
    let has = match container.run() {
        Some(_) => Some(container.resources.clone()),
        None => promised.clone(),
    };
    let image = container.image.as_ref();
    let has_run = run_id.is_some();
    ContainerStatus {
        name: container.name().to_owned(),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        ready: container.is_ready(),
        started: Some(container.is_started()),
        restart_count: i32::try_from(container.restart_count).unwrap_or(i32::MAX),
        image: container.spec.image.clone().unwrap_or_default(),
        image_id: image
            .filter(|_| has_run)
            .map(|i| i.image_id.clone())
            .unwrap_or_default(),
        container_id: run_id.map(|id| format!("{ID_SCHEME}{id}")),
        allocated_resources: promised.and_then(|r| r.requests),
        resources: has.filter(|_| has_run),
        ..ContainerStatus::default()
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    let exit = &ended.exit;
    let epoch = jiff::Timestamp::UNIX_EPOCH;
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{ID_SCHEME}{}", ended.id)),
            exit_code: exit.exit_code,
            signal: None,
            reason: Some(ended.reason.clone()),
            message: exit.start_error.clone().or_else(|| exit.message.clone()),
            started_at: Some(Time(exit.started_at.unwrap_or(epoch))),
            finished_at: Some(Time(exit.finished_at)),
        }),
        ..ContainerState::default()
    }
}

/// The current and the last state of a container.
fn states(
    machine: &PodMachine,
    container: &ContainerMachine,
    now: Now,
) -> (ContainerState, Option<ContainerState>) {
    let last = container.last.as_ref().map(terminated);
    match &container.state {
        State::Running(run) => {
            let running = ContainerStateRunning {
                started_at: Some(Time(run.started_at)),
            };
            (
                ContainerState {
                    running: Some(running),
                    ..ContainerState::default()
                },
                last,
            )
        }
        State::Ended(ended) => {
            let again = machine.stop.is_none()
                && container.restarts(machine.restart_policy(), ended.exit.exit_code);
            if again && container.restart_at(ended) > now.mono {
                let pod = &machine.pod_ref;
                let delay = container
                    .backoff
                    .delay(ended.at)
                    .min(backoff::MAX)
                    .as_secs();
                let delay = spoken(delay);
                let text = format!(
                    "back-off {delay} restarting failed container={} pod={}_{}({})",
                    container.name(),
                    pod.name,
                    pod.namespace,
                    pod.uid
                );
                return (
                    waiting("CrashLoopBackOff", Some(text)),
                    Some(terminated(ended)),
                );
            }
            (terminated(ended), last)
        }
        State::Waiting {
            reason,
            message,
            since,
            pull_failed,
            ..
        } => {
            let held = container.kind == ContainerKind::App && !machine.initialized;
            if held && message.is_none() {
                return (waiting("PodInitializing", None), last);
            }
            if *pull_failed && *since + SHOW_ERROR <= now.mono {
                let image = container.spec.image.as_deref().unwrap_or("");
                let cause = message.clone().unwrap_or_default();
                let text = format!("Back-off pulling image \"{image}\": {reason}: {cause}");
                return (waiting("ImagePullBackOff", Some(text)), last);
            }
            let reason = if reason == CREATING {
                not_yet(machine)
            } else {
                reason
            };
            (waiting(reason, message.clone()), last)
        }
        State::Pulling | State::Creating => (waiting(not_yet(machine), None), last),
    }
}

/// Seconds as Go writes them.
fn spoken(seconds: u64) -> String {
    match seconds / 60 {
        0 => format!("{seconds}s"),
        minutes => format!("{minutes}m{}s", seconds % 60),
    }
}

/// What a container that has not begun waits for: upstream says the same of all containers of a pod that has ones to initialize it.
fn not_yet(machine: &PodMachine) -> &'static str {
    let init = |container: &ContainerMachine| container.kind != ContainerKind::App;
    if machine.containers.iter().any(init) {
        "PodInitializing"
    } else {
        CREATING
    }
}

/// Our conditions, keeping the transition times of those that did not change.
fn conditions(machine: &PodMachine, phase: &str, now: Now) -> Vec<PodCondition> {
    let known = &machine.shown;
    let make = |type_: &str, verdict: Result<(), (&str, String)>| {
        let status = if verdict.is_ok() { "True" } else { "False" };
        let old = known
            .iter()
            .find(|c| c.type_ == type_ && c.status == status);
        let since = old
            .and_then(|c| c.last_transition_time.clone())
            .unwrap_or(Time(now.wall));
        let (reason, message) = match verdict {
            Ok(()) => (None, None),
            Err((reason, message)) => (
                Some(reason.to_owned()),
                (!message.is_empty()).then_some(message),
            ),
        };
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_probe_time: None,
            last_transition_time: Some(since),
            observed_generation: machine.pod.metadata.generation,
        }
    };
    let sandbox = if machine.sandbox == Part::Ready {
        Ok(())
    } else {
        Err(("", String::new()))
    };
    let containers_ready = containers_ready(machine, phase);
    let ready = containers_ready.clone().and_then(|()| gates_ready(machine));
    let mut list = vec![
        make("PodReadyToStartContainers", sandbox),
        make("Initialized", initialized(machine, phase)),
        make("Ready", ready),
        make("ContainersReady", containers_ready),
        make("PodScheduled", Ok(())),
    ];
    if phase == "Succeeded" {
        // "Initialized" stays true and says why nothing more will happen.
        list[1].reason = Some("PodCompleted".to_owned());
    }
    if let Some((_, message)) = machine.failed.as_ref().filter(|_| machine.is_evicted()) {
        let mut target = make("DisruptionTarget", Ok(()));
        target.reason = Some("TerminationByKubelet".to_owned());
        target.message = Some(message.clone());
        list.push(target);
    }
    if !matches!(phase, "Succeeded" | "Failed") {
        list.extend(machine.resize_conditions(now));
    }
    for condition in &mut list {
        if condition.reason.as_deref() == Some("") {
            condition.reason = None;
        }
    }
    list
}

fn names<'a>(containers: impl Iterator<Item = &'a ContainerMachine>) -> String {
    containers
        .map(ContainerMachine::name)
        .collect::<Vec<_>>()
        .join(" ")
}

fn initialized(machine: &PodMachine, phase: &str) -> Result<(), (&'static str, String)> {
    if machine.initialized || phase == "Succeeded" {
        return Ok(());
    }
    let open = names(machine.containers.iter().filter(|c| match c.kind {
        ContainerKind::Init => !c.is_ready(),
        ContainerKind::Sidecar => !c.is_started(),
        ContainerKind::App | ContainerKind::Ephemeral => false,
    }));
    if open.is_empty() {
        return Ok(());
    }
    Err((
        "ContainersNotInitialized",
        format!("containers with incomplete status: [{open}]"),
    ))
}

fn containers_ready(machine: &PodMachine, phase: &str) -> Result<(), (&'static str, String)> {
    match phase {
        "Succeeded" => return Err(("PodCompleted", String::new())),
        "Failed" => return Err(("PodFailed", String::new())),
        _ => {}
    }
    let open = names(machine.containers.iter().filter(|c| {
        matches!(c.kind, ContainerKind::App | ContainerKind::Sidecar) && !c.is_ready()
    }));
    if open.is_empty() {
        return Ok(());
    }
    Err((
        "ContainersNotReady",
        format!("containers with unready status: [{open}]"),
    ))
}

fn gates_ready(machine: &PodMachine) -> Result<(), (&'static str, String)> {
    let gates = machine
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.readiness_gates.clone())
        .unwrap_or_default();
    let known = machine
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or(&[]);
    for gate in gates {
        let name = gate.condition_type;
        match known.iter().find(|c| c.type_ == name) {
            Some(condition) if condition.status == "True" => {}
            found => {
                let what = if found.is_some() {
                    format!(
                        "the status of pod readiness gate \"{name}\" is not \"True\", but False"
                    )
                } else {
                    format!(
                        "corresponding condition of pod readiness gate \"{name}\" does not exist."
                    )
                };
                return Err(("ReadinessGatesNotReady", what));
            }
        }
    }
    Ok(())
}
