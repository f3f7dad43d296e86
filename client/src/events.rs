//! Events for people: `kubectl describe` shows them. Recording never waits and never fails its caller: what is too much
//! is dropped and counted. Repeats become one Event with a count. Invariant: all events about one object go through one
//! task, in order.

mod correlate;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corten_base::backoff::Backoff;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::{Client, Patch};
use crate::error::{Error, Result};
use crate::object::{Object, reference};
use correlate::{Correlator, Decision};

/// Tasks that write events, so that one slow call does not hold up all.
const WRITERS: usize = 8;
/// Events waiting per writer; beyond that they are dropped.
const BACKLOG: usize = 512;
/// How often one event is tried when the server cannot take it now.
const ATTEMPTS: u32 = 5;

/// Whether an event says that something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// Someone may have to look.
    Warning,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One occurrence, as recorded.
#[derive(Clone, Debug)]
pub(crate) struct Occurrence {
    pub(crate) regarding: ObjectReference,
    pub(crate) kind: EventKind,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A cheap handle; clones feed the same writers.
#[derive(Clone, Debug)]
pub struct Recorder {
    writers: Arc<[mpsc::Sender<Occurrence>]>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the writers, until `shutdown`. `component` is who reports, `host` where (may be empty).
    pub fn start(client: &Client, component: &str, host: &str, shutdown: &Shutdown) -> Self {
        let dropped = Arc::new(AtomicU64::new(0));
        let writers = (0..WRITERS)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(BACKLOG);
                let writer = Writer {
                    client: client.clone(),
                    source: EventSource {
                        component: Some(component.to_owned()),
                        host: (!host.is_empty()).then(|| host.to_owned()),
                    },
                    correlator: Correlator::default(),
                    dropped: Arc::clone(&dropped),
                };
                spawn(
                    "events",
                    TaskKind::Background,
                    writer.run(receiver, shutdown.clone()),
                );
                sender
            })
            .collect();
        Self { writers, dropped }
    }

    /// A recorder that drops everything: for tests.
    pub fn none() -> Self {
        Self {
            writers: Arc::new([]),
            dropped: Arc::default(),
        }
    }

    /// Records an event about a typed object.
    pub fn event<K: Object>(
        &self,
        object: &K,
        kind: EventKind,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(reference(object), kind, reason, message);
    }

    /// Records an event about whatever `regarding` refers to.
    pub fn record(
        &self,
        regarding: ObjectReference,
        kind: EventKind,
        reason: &str,
        message: impl Into<String>,
    ) {
        if self.writers.is_empty() {
            return;
        }
        let mut hasher = DefaultHasher::new();
        (&regarding.namespace, &regarding.name, &regarding.uid).hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % self.writers.len() as u64).unwrap_or(0);
        let occurrence = Occurrence {
            regarding,
            kind,
            reason: reason.to_owned(),
            message: message.into(),
        };
        if self.writers[lane].try_send(occurrence).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that were dropped: too many at once, spam, or refused by the server.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Writer {
    client: Client,
    source: EventSource,
    correlator: Correlator,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Occurrence>, shutdown: Shutdown) {
        loop {
            let occurrence = tokio::select! {
                biased;
                () = shutdown.wait() => break,
                occurrence = receiver.recv() => occurrence,
            };
            let Some(occurrence) = occurrence else { return };
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                () = self.write(occurrence) => {}
            }
        }
    }

    async fn write(&mut self, occurrence: Occurrence) {
        let now = Timestamp::now();
        let decision = self.correlator.decide(&occurrence, now, Instant::now());
        let result = match &decision {
            Decision::Spam => Ok(false),
            Decision::Create { name, message } => {
                let event = self.event(&occurrence, name, message, now, now, 1);
                self.persist(|client| {
                    let event = event.clone();
                    async move { client.create(&event).await.map(drop) }
                })
                .await
            }
            Decision::Repeat {
                name,
                message,
                first,
                count,
            } => {
                let again = self.event(&occurrence, name, message, *first, now, *count);
                self.persist(|client| {
                    let again = again.clone();
                    async move { repeat(&client, again).await }
                })
                .await
            }
        };
        match result {
            Ok(true) => {}
            Ok(false) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                self.correlator.forget(&occurrence);
                tracing::debug!(reason = occurrence.reason, %error, "event not recorded");
            }
        }
    }

    /// Tries a few times while the server cannot serve; whether the event is stored.
    async fn persist<F: Future<Output = Result<()>>>(
        &self,
        call: impl Fn(Client) -> F,
    ) -> Result<bool> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match call(self.client.clone()).await {
                Ok(()) => return Ok(true),
                Err(error) if error.is_retryable() && backoff.failures() + 1 < ATTEMPTS => {
                    tokio::time::sleep(backoff.next_delay()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn event(
        &self,
        occurrence: &Occurrence,
        name: &str,
        message: &str,
        first: Timestamp,
        last: Timestamp,
        count: i32,
    ) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace_of(&occurrence.regarding).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: occurrence.regarding.clone(),
            reason: Some(occurrence.reason.clone()),
            message: Some(message.to_owned()),
            type_: Some(occurrence.kind.as_str().to_owned()),
            first_timestamp: Some(seconds(first)),
            last_timestamp: Some(seconds(last)),
            count: Some(count),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.source.host.clone().unwrap_or_default()),
            source: Some(self.source.clone()),
            ..Event::default()
        }
    }
}

/// Counts an event up; stores it anew if the server has forgotten it by now.
async fn repeat(client: &Client, event: Event) -> Result<()> {
    let patch = json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message});
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    match client
        .patch::<Event>(&namespace, &name, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(Error::NotFound(_)) => client.create(&event).await.map(drop),
        Err(error) => Err(error),
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace_of(regarding: &ObjectReference) -> &str {
    regarding
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or("default")
}

/// Times of events have whole seconds.
fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

#[cfg(test)]
mod tests;
