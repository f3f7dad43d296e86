//! How long a pod's containers wait, on disk: a restarted agent goes on with the same back-off instead of trying at once.
//! Kept in `<pod dir>/waits.json`, written when a wait begins or ends; nothing is written for pods that never wait.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::pod::PodMachine;
use crate::pod::backoff::Backoff;
use crate::pod::container::{ContainerMachine, State};
use crate::pod::types::Now;
use crate::supervisor::record::{read_json, write_json};

const FILE: &str = "waits.json";

/// The waits as the machine has them; two are equal when nothing needs to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Waits(Vec<(String, Backoff, Backoff, Option<State>)>);

impl Waits {
    pub(super) fn of(machine: &PodMachine) -> Self {
        let waiting = machine.containers.iter().filter_map(|container| {
            let pull = match &container.state {
                state @ State::Waiting {
                    pull_failed: true, ..
                } => Some(state.clone()),
                _ => None,
            };
            let (crash, image) = (container.backoff, container.image_backoff);
            let none = Backoff::default();
            (crash != none || image != none || pull.is_some())
                .then(|| (container.name().to_owned(), crash, image, pull))
        });
        Self(waiting.collect())
    }

    /// Writes them; a fault costs only that a restarted agent is less patient.
    pub(super) fn write(&self, shared: &Shared, now: Now) {
        let records: BTreeMap<&String, Record> = self
            .0
            .iter()
            .map(|(name, crash, image, pull)| (name, Record::new(crash, image, pull.as_ref(), now)))
            .collect();
        if let Err(error) = write_json(&shared.pod_dir().join(FILE), &records) {
            tracing::warn!(pod = %shared.pod_ref, %error, "the pod's back-off was not kept");
        }
    }
}

/// Gives the containers back what an earlier agent wrote.
pub(super) fn restore(pod_dir: &Path, containers: &mut [ContainerMachine], now: Now) {
    let records: BTreeMap<String, Record> = read_json(&pod_dir.join(FILE)).unwrap_or_default();
    for container in containers {
        if let Some(record) = records.get(container.name()) {
            record.apply(container, now);
        }
    }
}

/// One container's waits, in wall-clock time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    crash: Option<Delay>,
    image: Option<Delay>,
    pull: Option<Pull>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Delay {
    seconds: u64,
    since: Timestamp,
}

/// Why a container waits for its image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pull {
    reason: String,
    message: Option<String>,
    since: Timestamp,
    retry_at: Timestamp,
}

impl Record {
    fn new(crash: &Backoff, image: &Backoff, pull: Option<&State>, now: Now) -> Self {
        let delay = |backoff: &Backoff| {
            backoff.state().map(|(delay, updated)| Delay {
                seconds: delay.as_secs(),
                since: wall(updated, now),
            })
        };
        let pull = match pull {
            Some(State::Waiting {
                reason,
                message,
                since,
                retry_at,
                ..
            }) => Some(Pull {
                reason: reason.clone(),
                message: message.clone(),
                since: wall(*since, now),
                retry_at: wall(*retry_at, now),
            }),
            _ => None,
        };
        Self {
            crash: delay(crash),
            image: delay(image),
            pull,
        }
    }

    fn apply(&self, container: &mut ContainerMachine, now: Now) {
        let backoff = |delay: &Option<Delay>| {
            let delay = delay.as_ref()?;
            Some(Backoff::resumed(
                Duration::from_secs(delay.seconds),
                mono(delay.since, now),
            ))
        };
        if let Some(crash) = backoff(&self.crash) {
            container.backoff = crash;
        }
        if let Some(image) = backoff(&self.image) {
            container.image_backoff = image;
        }
        if let (Some(pull), State::Waiting { .. }) = (&self.pull, &container.state) {
            container.state = State::Waiting {
                reason: pull.reason.clone(),
                message: pull.message.clone(),
                since: mono(pull.since, now),
                retry_at: mono(pull.retry_at, now),
                pull_failed: true,
            };
        }
    }
}

/// A moment of the monotonic clock on the wall clock. What cannot be said is now.
fn wall(at: Duration, now: Now) -> Timestamp {
    let signed = |duration: Duration| SignedDuration::try_from(duration).unwrap_or_default();
    let moved = if at >= now.mono {
        now.wall.checked_add(signed(at - now.mono))
    } else {
        now.wall.checked_sub(signed(now.mono - at))
    };
    moved.unwrap_or(now.wall)
}

/// The way back.
fn mono(at: Timestamp, now: Now) -> Duration {
    let ahead = at.duration_since(now.wall);
    let length = ahead.unsigned_abs();
    if ahead.is_negative() {
        now.mono.saturating_sub(length)
    } else {
        now.mono + length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ContainerKind;

    fn at(mono: u64, wall: i64) -> Now {
        Now {
            mono: Duration::from_secs(mono),
            wall: Timestamp::from_second(wall).expect("a time"),
        }
    }

    fn container() -> ContainerMachine {
        let spec = serde_json::from_value(serde_json::json!({"name": "c"})).expect("a container");
        ContainerMachine::new(ContainerKind::App, spec)
    }

    /// A restarted agent used to begin at 10 s again, and to pull at once.
    #[test]
    fn a_back_off_goes_on_over_a_restart() {
        let mut before = container();
        before.backoff.tried(Duration::from_secs(900));
        before.backoff.tried(Duration::from_secs(980));
        before.image_backoff.tried(Duration::from_secs(990));
        let then = at(990, 10_000);
        before.wait(
            "ErrImagePull",
            "no such image".to_owned(),
            Duration::from_secs(40),
            true,
            then,
        );
        let record = Record::new(
            &before.backoff,
            &before.image_backoff,
            Some(&before.state),
            then,
        );
        let text = serde_json::to_string(&record).expect("json");
        let record: Record = serde_json::from_str(&text).expect("itself");
        // Another process, 5 s later, with a clock of its own.
        let mut after = container();
        let now = at(3600, 10_005);
        record.apply(&mut after, now);
        assert_eq!(after.backoff.delay(now.mono), Duration::from_secs(20));
        assert_eq!(after.image_backoff.delay(now.mono), Duration::from_secs(10));
        let State::Waiting {
            retry_at,
            since,
            reason,
            pull_failed,
            ..
        } = &after.state
        else {
            panic!("{:?}", after.state);
        };
        assert_eq!(
            (
                retry_at.as_secs(),
                since.as_secs(),
                reason.as_str(),
                *pull_failed
            ),
            (3635, 3595, "ErrImagePull", true)
        );
    }

    #[test]
    fn pods_that_never_waited_have_nothing_to_write() {
        let pod = std::sync::Arc::new(
            serde_json::from_value(serde_json::json!({"spec": {"containers": [{"name": "c"}]}}))
                .expect("a pod"),
        );
        let machine = PodMachine::new(pod, Vec::new(), at(1, 1));
        assert_eq!(Waits::of(&machine), Waits::default());
    }
}
