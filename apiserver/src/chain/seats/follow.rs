//! Where the schemas and levels come from, and what is written back: whether a schema's level exists.
//!
//! Every server does this; the condition depends only on the objects, so that several agree. Invariant: nothing is obeyed
//! before both kinds have arrived whole, and a condition is written only when it says something else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_api::kinds::flowcontrol::GROUP;
use corten_api::meta::format_time;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Seats;
use crate::chain::objects::{Change, FOLLOW_QUEUE, Objects, Resource};
use crate::fairness::classify::{Classifier, dangling_condition};

const SCHEMAS: Resource = Resource {
    group: GROUP,
    name: "flowschemas",
};
const LEVELS: Resource = Resource {
    group: GROUP,
    name: "prioritylevelconfigurations",
};
/// Changes come in bursts, at the first start for example.
const SETTLE: Duration = Duration::from_millis(50);
/// How often a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the seats configured until shutdown.
pub(super) fn start(seats: &Arc<Seats>, objects: &Arc<dyn Objects>, shutdown: &Shutdown) {
    let follow = |resource| {
        let (sender, receiver) = mpsc::channel(FOLLOW_QUEUE);
        let (source, stop) = (Arc::clone(objects), shutdown.clone());
        spawn("fairness-follow", TaskKind::Critical, async move {
            tokio::select! {
                biased;
                () = stop.wait() => {}
                () = source.follow(resource, sender) => {}
            }
        });
        receiver
    };
    let follower = Follower {
        seats: Arc::clone(seats),
        objects: Arc::clone(objects),
        schemas: Known::new(follow(SCHEMAS)),
        levels: Known::new(follow(LEVELS)),
    };
    spawn("fairness-config", TaskKind::Critical, follower.run());
}

/// What exists of one kind.
struct Known {
    changes: mpsc::Receiver<Change>,
    objects: BTreeMap<String, Value>,
    whole: bool,
}

impl Known {
    fn new(changes: mpsc::Receiver<Change>) -> Self {
        Self {
            changes,
            objects: BTreeMap::new(),
            whole: false,
        }
    }

    fn take(&mut self, change: Change) {
        let name = |object: &Value| corten_api::meta::name(object).to_owned();
        match change {
            Change::Reset(all) => {
                self.objects = all.into_iter().map(|one| (name(&one), one)).collect();
                self.whole = true;
            }
            Change::Set(object) => drop(self.objects.insert(name(&object), object)),
            Change::Removed { name, .. } => drop(self.objects.remove(&name)),
        }
    }

    fn all(&self) -> Vec<Value> {
        self.objects.values().cloned().collect()
    }
}

struct Follower {
    seats: Arc<Seats>,
    objects: Arc<dyn Objects>,
    schemas: Known,
    levels: Known,
}

impl Follower {
    async fn run(mut self) {
        let mut due: Option<Instant> = None;
        loop {
            // Both arms are cancel-safe: nothing is taken out of a queue that is not taken in.
            let changed = match due {
                None => self.next().await,
                Some(at) => match tokio::time::timeout_at(at, self.next()).await {
                    Ok(changed) => changed,
                    Err(_) => {
                        due = self.digest().await.map(|again| Instant::now() + again);
                        continue;
                    }
                },
            };
            if changed.is_none() {
                return;
            }
            if self.schemas.whole && self.levels.whole {
                let soon = Instant::now() + SETTLE;
                due = Some(due.map_or(soon, |at| at.min(soon)));
            }
        }
    }

    /// Takes in the next change; none when there will be no more.
    async fn next(&mut self) -> Option<()> {
        tokio::select! {
            biased;
            change = self.levels.changes.recv() => self.levels.take(change?),
            change = self.schemas.changes.recv() => self.schemas.take(change?),
        }
        Some(())
    }

    /// Returns when to try again, if something failed.
    async fn digest(&self) -> Option<Duration> {
        let (schemas, levels) = (self.schemas.all(), self.levels.all());
        let classifier = self.seats.configure(&schemas, &levels);
        let mut again = None;
        for schema in stale(&schemas, &classifier, Timestamp::now()) {
            if let Err(error) = self.objects.update_status(SCHEMAS, "", schema).await {
                tracing::debug!(%error, "condition of a flow schema not written, will try again");
                again = Some(RETRY);
            }
        }
        again
    }
}

/// The schemas whose condition is wrong, with the right one.
fn stale(schemas: &[Value], classifier: &Classifier, now: Timestamp) -> Vec<Value> {
    let right = schemas.iter().filter_map(|schema| {
        let name = corten_api::meta::name(schema);
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str();
        let dangles = classifier
            .dangling()
            .iter()
            .any(|dangling| **dangling == *name);
        let mut wanted = dangling_condition(level.unwrap_or_default(), !dangles);
        let conditions = schema["status"]["conditions"].as_array();
        let mut conditions = conditions.cloned().unwrap_or_default();
        let is_it = |condition: &&mut Value| condition["type"] == wanted["type"];
        let present = conditions.iter_mut().find(is_it);
        let told = |condition: &Value| {
            ["status", "reason", "message"]
                .iter()
                .all(|field| condition[*field] == wanted[*field])
        };
        if present.as_deref().is_some_and(told) {
            return None;
        }
        wanted["lastTransitionTime"] = format_time(now).into();
        match present {
            Some(condition) => *condition = wanted,
            None => conditions.push(wanted),
        }
        let mut schema = schema.clone();
        schema["status"]["conditions"] = conditions.into();
        Some(schema)
    });
    right.collect()
}
