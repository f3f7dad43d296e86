//! Taking over what an earlier agent left of a pod: running containers keep their pids, ended ones keep their history. Reads
//! the directories that `layout` describes; what is half-made is left to the steps that will be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_base::tasks::{self, TaskKind};

use super::layout::{RunRecord, attempts};
use super::{Shared, effects, exit};
use crate::pod::PodMachine;
use crate::pod::container::{ContainerMachine, Ended, State};
use crate::pod::machine::Part;
use crate::pod::types::Now;
use crate::runtime::StartOutcome;
use crate::spec::ContainerKind;
use crate::supervisor::record::{boot_id, read_json};

/// Fills the machine from disk and follows what still runs.
pub(super) async fn adopt(shared: &Arc<Shared>, machine: &mut PodMachine) {
    let mut runs: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (name, attempt) in attempts(&shared.pod_dir().join("containers")) {
        runs.entry(name).or_default().push(attempt);
    }
    if runs.is_empty() && shared.sandbox_record().is_none() {
        return;
    }
    let now = shared.context.now();
    adopt_sandbox(shared, machine).await;
    let sound = machine.sandbox == Part::Ready;
    if super::read_allocation(&shared.pod_dir()).is_some() {
        machine.resize.doubt_group();
    }
    for container in &mut machine.containers {
        let Some(mut attempts) = runs.remove(container.name()) else {
            continue;
        };
        attempts.sort_unstable();
        adopt_container(shared, container, &attempts, sound, now).await;
    }
    super::waits::restore(&shared.pod_dir(), &mut machine.containers, now);
    machine.initialized = machine.containers.iter().any(|container| {
        container.kind == ContainerKind::App
            && (container.run().is_some() || container.ended().is_some())
    });
    if !sound {
        machine.sandbox_lost();
    }
    let running = machine
        .containers
        .iter()
        .filter(|c| c.run().is_some())
        .count();
    tracing::info!(pod = %shared.pod_ref, running, "pod adopted");
}

/// The sandbox is kept when it is of this boot and the network still knows it. Volumes are always set up again: that is
/// idempotent and fills the map of paths.
async fn adopt_sandbox(shared: &Arc<Shared>, machine: &mut PodMachine) {
    let Some(record) = shared.sandbox_record() else {
        return;
    };
    let sandbox = shared.sandbox(&machine.pod);
    if record.boot_id != boot_id() || !sandbox.is_intact() {
        return;
    }
    let ips = match sandbox.netns() {
        Some(netns) => {
            let request = effects::network_request(shared, &machine.pod, netns);
            match shared.context.network.check(&request).await {
                Ok(ips) => ips,
                Err(error) => {
                    tracing::warn!(pod = %shared.pod_ref, %error, "the pod's network must be rebuilt");
                    return;
                }
            }
        }
        None => Vec::new(),
    };
    machine.sandbox = Part::Ready;
    machine.ips = ips;
}

async fn adopt_container(
    shared: &Arc<Shared>,
    container: &mut ContainerMachine,
    attempts: &[u32],
    sandbox_sound: bool,
    now: Now,
) {
    let mut history = attempts.iter().rev();
    for attempt in history.by_ref() {
        let run = shared.container(container.name(), *attempt);
        let outcome = match shared.context.runtime.recover(&run).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(pod = %shared.pod_ref, container = container.name(), %error, "not recovered");
                continue;
            }
        };
        let record: Option<RunRecord> = read_json(&run.dir.path("run.json")).ok();
        match outcome {
            // Half-made: the next start of this attempt cleans it up.
            None => container.restart_count = *attempt,
            Some(outcome) => {
                container.restart_count = *attempt;
                let promised = container.spec.resources.clone();
                let had = record.as_ref().and_then(|record| record.resources.clone());
                container.resources = had.or(promised).unwrap_or_default();
                container.image = record.map(|record| Box::new(record.image));
                take_run(shared, container, *attempt, outcome, sandbox_sound, now).await;
                break;
            }
        }
    }
    if let Some(attempt) = history.next() {
        let run = shared.container(container.name(), *attempt);
        if let Some(exit) = run.dir.exit() {
            let exit = exit::exit_of(shared, &container.spec, *attempt, &run, exit);
            let mut past = ContainerMachine::new(container.kind, container.spec.clone());
            past.exited(run.id, exit, now);
            container.last = past.ended().cloned();
        }
    }
}

async fn take_run(
    shared: &Arc<Shared>,
    container: &mut ContainerMachine,
    attempt: u32,
    outcome: StartOutcome,
    sandbox_sound: bool,
    now: Now,
) {
    let run = shared.container(container.name(), attempt);
    match outcome {
        StartOutcome::Running(started) => {
            container.started(run.id.clone(), started.started_at, now);
            if let Some(run) = container.run_mut() {
                // The hook ran or was lost with the earlier agent; it never runs twice.
                run.post_start_pending = false;
            }
            restore_probes(shared, container);
            if !sandbox_sound {
                // Its addresses are gone: it must start again in a new sandbox.
                let _ = shared.context.runtime.signal(&run, 9).await;
            }
            let follow = exit::follow(shared.clone(), container.spec.clone(), attempt);
            tasks::spawn("container-follow", TaskKind::Background, follow);
        }
        StartOutcome::Ended(record) => {
            let exit = exit::exit_of(shared, &container.spec, attempt, &run, record);
            let ago = now.wall.duration_since(exit.finished_at);
            let at = now.mono.saturating_sub(ago.try_into().unwrap_or_default());
            container.exited(run.id, exit, now);
            if let State::Ended(Ended { at: ended_at, .. }) = &mut container.state {
                *ended_at = at;
            }
        }
    }
}

/// What the API last showed counts until a probe says otherwise: adoption must not make a ready pod unready.
fn restore_probes(shared: &Arc<Shared>, container: &mut ContainerMachine) {
    let Some(pod) = super::read_record(&shared.pod_dir()) else {
        return;
    };
    let Some(status) = pod.status else { return };
    let lists = [status.container_statuses, status.init_container_statuses];
    let shown = lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|s| s.name == container.name());
    let Some(run) = container.run_mut() else {
        return;
    };
    let id = format!("{}{}", crate::pod::status::ID_SCHEME, run.id);
    let Some(shown) = shown.filter(|s| s.container_id.as_deref() == Some(id.as_str())) else {
        return;
    };
    if shown.started == Some(true)
        && let Some(probe) = &mut run.startup
    {
        probe.verdict = Some(true);
    }
    if shown.ready
        && let Some(probe) = &mut run.readiness
    {
        probe.verdict = Some(true);
    }
}
