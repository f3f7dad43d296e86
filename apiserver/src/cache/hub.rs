//! One resource's cache: the snapshot, the ring of recent events, and the watchers' queues.
//!
//! It does not talk to the store; the feeder applies changes to it. Invariant: snapshot, ring and queues change
//! together under one lock, so that a watcher that starts sees each event exactly once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use corten_api::kinds::ResourceDescriptor;
use imbl::OrdMap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch as latest};

use super::history::History;
use super::selection::{Scope, scopes_of};
use super::{Error, Event, Item, Selection};
use crate::storage::Revision;

/// Events that are always remembered, however old.
const EVENTS_MIN: usize = 1024;
/// Events that are never exceeded, however young.
const EVENTS_MAX: usize = 100_000;
/// Bytes of old states that the ring may pin.
const EVENT_BYTES_MAX: usize = 32 << 20;
/// A client that reconnects within this time finds its place again, as upstream promises.
const REMEMBER_FOR: Duration = Duration::from_secs(75);
/// Events that wait for one watcher; a slower one is cut and has to resume or list again.
const QUEUE_MAX: usize = 1024;

/// All objects of one resource at one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Of the last change of this resource.
    pub revision: Revision,
    /// By key, in the store's order.
    pub objects: OrdMap<Arc<str>, Arc<Item>>,
}

impl Snapshot {
    /// One object; the namespace is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Item>> {
        self.objects.get(&*super::object_key(namespace, name))
    }

    /// The objects of a namespace, or all, whose key is at least `start`.
    pub fn range<'a>(
        &'a self,
        namespace: Option<&str>,
        start: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Item>> + use<'a> {
        let low = namespace.map(|name| format!("{name}/")).unwrap_or_default();
        let start = start.unwrap_or("");
        let from: Arc<str> = if start > low.as_str() {
            start.into()
        } else {
            low.as_str().into()
        };
        self.objects
            .range(from..)
            .map(|(_, item)| item)
            .take_while(move |item| item.key.starts_with(low.as_str()))
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.objects.values()
    }
}

/// What a watcher's queue carries.
#[derive(Debug)]
pub(super) enum Message {
    Event(Arc<Event>),
    /// Everything up to this revision is in the queue before.
    Progress(Revision),
}

struct Subscriber {
    queue: mpsc::Sender<Message>,
}

#[derive(Default)]
struct Hub {
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// Events up to here are forgotten.
    floor: Revision,
    subscribers: HashMap<Scope, Vec<Subscriber>>,
}

/// A watcher's start: what it gets first, and its queue.
pub(super) struct Subscription {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) replay: VecDeque<Arc<Event>>,
    pub(super) queue: mpsc::Receiver<Message>,
}

/// The cache of one resource.
pub struct ResourceCache {
    prefix: String,
    /// The view in whose form objects are stored.
    pub descriptor: &'static ResourceDescriptor,
    snapshot: ArcSwap<Snapshot>,
    hub: Mutex<Hub>,
    history: Mutex<History>,
    changed: latest::Sender<Revision>,
}

impl ResourceCache {
    pub(super) fn new(prefix: String, descriptor: &'static ResourceDescriptor) -> Self {
        Self {
            prefix,
            descriptor,
            snapshot: ArcSwap::default(),
            hub: Mutex::default(),
            history: Mutex::default(),
            changed: latest::Sender::new(Revision::default()),
        }
    }

    /// `/registry/pods/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The present state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Tells when the snapshot has changed, and to which revision.
    pub fn changes(&self) -> latest::Receiver<Revision> {
        self.changed.subscribe()
    }

    /// Keeps a snapshot for the further pages of a list at `revision`.
    pub fn keep_for_pages(&self, revision: Revision, snapshot: &Arc<Snapshot>) {
        self.history.lock().keep(revision, snapshot, Instant::now());
    }

    /// The snapshot that an earlier page was cut from.
    pub fn page_snapshot(&self, revision: Revision) -> Option<Arc<Snapshot>> {
        self.history.lock().get(revision, Instant::now())
    }

    /// Starts a watcher behind `since`, or at the present state.
    pub(super) fn subscribe(
        &self,
        selection: &Selection,
        since: Option<Revision>,
    ) -> Result<Subscription, Error> {
        let mut hub = self.hub.lock();
        let replay = match since {
            None => VecDeque::new(),
            Some(since) if since < hub.floor => {
                return Err(Error::TooOld {
                    wanted: since,
                    floor: hub.floor,
                });
            }
            Some(since) => {
                let first = hub.ring.partition_point(|event| event.revision <= since);
                hub.ring.range(first..).cloned().collect()
            }
        };
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let scope = selection.scope(self.descriptor.namespaced);
        hub.subscribers
            .entry(scope)
            .or_default()
            .push(Subscriber { queue: sender });
        Ok(Subscription {
            snapshot: self.snapshot(),
            replay,
            queue,
        })
    }

    /// Replaces everything: the first load, or a new one after the store forgot what lies between. Watchers end and
    /// have to list again.
    pub(super) fn replace(&self, items: Vec<Item>, revision: Revision) {
        let objects = items
            .into_iter()
            .map(|item| (Arc::clone(&item.key), Arc::new(item)));
        let snapshot = Snapshot {
            revision,
            objects: objects.collect(),
        };
        let mut hub = self.hub.lock();
        self.snapshot.store(Arc::new(snapshot));
        *hub = Hub {
            floor: revision,
            ..Hub::default()
        };
        drop(hub);
        self.changed.send_replace(revision);
    }

    /// Applies changes in revision order: key behind the prefix, new state or none, revision.
    pub(super) fn apply(&self, changes: Vec<(String, Option<Item>, Revision)>, now: Instant) {
        let mut hub = self.hub.lock();
        let mut next = Snapshot::clone(&self.snapshot.load());
        let mut events = Vec::with_capacity(changes.len());
        for (key, new, revision) in changes {
            let new = new.map(Arc::new);
            let old = match &new {
                Some(item) => next.objects.insert(Arc::clone(&item.key), Arc::clone(item)),
                None => next.objects.remove(&*key),
            };
            next.revision = revision;
            if new.is_some() || old.is_some() {
                events.push(Arc::new(Event::new(revision, new, old, now)));
            }
        }
        let revision = next.revision;
        self.snapshot.store(Arc::new(next));
        for event in events {
            hub.publish(&event);
            hub.remember(event, now);
        }
        drop(hub);
        self.changed.send_replace(revision);
    }

    /// Tells all watchers how far the cache is, and forgets those that went away.
    pub(super) fn progress(&self, revision: Revision) {
        let mut hub = self.hub.lock();
        hub.subscribers.retain(|_, subscribers| {
            subscribers.retain(|subscriber| {
                // A full queue needs no bookmark; the events in it say more.
                let _ = subscriber.queue.try_send(Message::Progress(revision));
                !subscriber.queue.is_closed()
            });
            !subscribers.is_empty()
        });
        drop(hub);
        self.history.lock().expire(Instant::now());
    }
}

impl Hub {
    fn publish(&mut self, event: &Arc<Event>) {
        let new = event.new.iter().flat_map(|item| scopes_of(item));
        let mut scopes: Vec<Scope> = new.collect();
        for scope in event.old.iter().flat_map(|item| scopes_of(item)) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        for scope in scopes {
            let Some(subscribers) = self.subscribers.get_mut(&scope) else {
                continue;
            };
            subscribers.retain(|subscriber| {
                subscriber
                    .queue
                    .try_send(Message::Event(Arc::clone(event)))
                    .is_ok()
            });
            if subscribers.is_empty() {
                self.subscribers.remove(&scope);
            }
        }
    }

    fn remember(&mut self, event: Arc<Event>, now: Instant) {
        self.ring_bytes += event.bytes();
        self.ring.push_back(event);
        while let Some(first) = self.ring.front() {
            let over = self.ring.len() > EVENTS_MAX || self.ring_bytes > EVENT_BYTES_MAX;
            let stale =
                self.ring.len() > EVENTS_MIN && now.duration_since(first.seen) > REMEMBER_FOR;
            if !over && !stale {
                break;
            }
            self.ring_bytes -= first.bytes();
            self.floor = first.revision;
            self.ring.pop_front();
        }
    }
}
