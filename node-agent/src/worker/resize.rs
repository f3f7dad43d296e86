//! Giving the groups of a pod and its containers another size. What is in force afterwards is read back from the groups, so
//! that the status tells what is there and not what was wished.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use nix::errno::Errno;

use super::Shared;
use super::layout::{RunRecord, attempts};
use super::start::cgroup_path;
use crate::cgroup::resize::{Change, Step, steps, too_small};
use crate::cgroup::{Cgroups, GroupLimits};
use crate::pod::Event;
use crate::pod::machine::Resized;
use crate::pod::resize::{Sizing, present};
use crate::spec::resources::{group_of, of_pod};
use crate::supervisor::record::{read_json, write_json};

/// v1's kernel goes on counting a group for a moment after it was removed, and refuses what does not fit beside it: so often
/// and with such pauses a write is made again.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Makes one try.
pub(super) async fn resize(shared: Arc<Shared>, pod: Arc<Pod>, sizings: Vec<Sizing>) -> Event {
    let cgroups = &shared.context.cgroups;
    sweep(&shared);
    let wanted = of_pod(&pod, None);
    let group = shared.context.pod_cgroup(&shared.pod_ref.uid);
    let change = |name: &str, path: String, to: GroupLimits| Change {
        name: name.to_owned(),
        from: cgroups.limits(&path),
        to: cgroups.as_read(&to),
        path,
    };
    let whole = change("", group, wanted);
    let place = |sizing: &Sizing| {
        let container = shared.container(&sizing.container, sizing.attempt);
        cgroup_path(&shared, &container)
    };
    let containers: Vec<Change> = sizings
        .iter()
        .map(|sizing| change(&sizing.container, place(sizing), group_of(&sizing.to)))
        .collect();
    let used = |path: &str| cgroups.stats(path).memory_usage_bytes;
    let mut error = too_small(&whole, &containers, used);
    if error.is_none() {
        error = take_steps(cgroups, &steps(&whole, &containers)).await.err();
    }
    if let Some(error) = &error {
        tracing::warn!(pod = %shared.pod_ref, error, "the pod is not resized yet");
    }
    let mut present_now = BTreeMap::new();
    for (sizing, change) in sizings.into_iter().zip(&containers) {
        let shown = cgroups.limits(&change.path);
        let has = present(&sizing, &shown, |limits| cgroups.as_read(limits));
        remember(&shared, &sizing, &has);
        present_now.insert((sizing.container, sizing.attempt), has);
    }
    Event::Resized(Box::new(Resized {
        present: present_now,
        group: wanted,
        error,
    }))
}

async fn take_steps(cgroups: &Cgroups, steps: &[Step]) -> Result<(), String> {
    for step in steps {
        let mut tries = 0;
        while let Err(cause) = cgroups.limit(&step.path, &step.limits) {
            let lingers = cause.raw_os_error() == Some(Errno::EINVAL as i32);
            if !lingers || tries >= TRIES {
                return Err(format!("limits of {} could not be set: {cause}", step.path));
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Removes the groups of runs that are over, should their supervisors not have come to it: v1 lets no pod shrink below what
/// a group in it may have, empty or not.
fn sweep(shared: &Shared) {
    for (name, attempt) in attempts(&shared.pod_dir().join("containers")) {
        let container = shared.container(&name, attempt);
        let path = cgroup_path(shared, &container);
        if container.dir.exit().is_some()
            && let Err(error) = shared.context.cgroups.remove(&path)
        {
            tracing::warn!(pod = %shared.pod_ref, container = name, %error, "the group of an ended run stays");
        }
    }
}

/// Keeps what a run has, so that the next agent goes on from there.
fn remember(shared: &Shared, sizing: &Sizing, has: &ResourceRequirements) {
    let container = shared.container(&sizing.container, sizing.attempt);
    let path = container.dir.path("run.json");
    let written = read_json::<RunRecord>(&path).and_then(|mut record| {
        record.resources = Some(has.clone());
        write_json(&path, &record)
    });
    if let Err(error) = written {
        // The next agent makes the change once more, which does no harm.
        tracing::warn!(pod = %shared.pod_ref, container = sizing.container, %error, "its size is not on record");
    }
}
