//! One resource's cache: the snapshot, the ring of recent events, and the watchers' queues.
//!
//! It does not talk to the store; the feeder applies changes to it. Invariant: snapshot, ring and mailboxes change
//! together under one lock, so that a watcher that starts sees each event exactly once; the ring never holds more than its
//! share of the budget.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use corten_api::kinds::ResourceDescriptor;
use imbl::OrdMap;
use parking_lot::Mutex;
use tokio::sync::watch as latest;

use super::budget::Budget;
use super::history::History;
use super::mailbox::{Mailbox, Put};
use super::selection::{Scope, node_of, scopes_of};
use super::{Error, Event, Item, Selection};
use crate::storage::Revision;

/// Events that are always remembered, however old.
const EVENTS_MIN: usize = 1024;
/// Events that are never exceeded, however young.
const EVENTS_MAX: usize = 100_000;
/// A client that reconnects within this time finds its place again, as upstream promises.
const REMEMBER_FOR: Duration = Duration::from_secs(75);
/// Watchers of one scope among which the gone ones are looked for when another one comes.
const PRUNE_MIN: usize = 64;

/// All objects of one resource at one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Of the last change of this resource.
    pub revision: Revision,
    /// By key, in the store's order.
    objects: OrdMap<Arc<str>, Arc<Item>>,
    /// Those that are bound to a node, by its name: node agents ask for nothing else.
    by_node: OrdMap<Arc<str>, OrdMap<Arc<str>, Arc<Item>>>,
}

/// The part of `objects` that lies in a namespace, or all, from `start` on.
fn part<'a>(
    objects: &'a OrdMap<Arc<str>, Arc<Item>>,
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
    objects
        .range(from..)
        .map(|(_, item)| item)
        .take_while(move |item| item.key.starts_with(low.as_str()))
}

impl Snapshot {
    fn of(items: Vec<Item>, revision: Revision) -> Self {
        let mut snapshot = Self {
            revision,
            ..Self::default()
        };
        for item in items {
            snapshot.put(Arc::new(item));
        }
        snapshot
    }

    /// Takes an item in; returns the one before.
    fn put(&mut self, item: Arc<Item>) -> Option<Arc<Item>> {
        let old = self
            .objects
            .insert(Arc::clone(&item.key), Arc::clone(&item));
        let (before, now) = (old.as_ref().and_then(node_of), node_of(&item));
        if before != now {
            self.leave_node(before, &item.key);
        }
        if let Some(node) = now {
            let there = self.by_node.entry(node.into()).or_default();
            there.insert(Arc::clone(&item.key), Arc::clone(&item));
        }
        old
    }

    /// Lets an item go.
    fn take(&mut self, key: &str) -> Option<Arc<Item>> {
        let old = self.objects.remove(key)?;
        self.leave_node(node_of(&old), key);
        Some(old)
    }

    fn leave_node(&mut self, node: Option<&str>, key: &str) {
        let Some(node) = node else { return };
        if let Some(there) = self.by_node.get_mut(node) {
            there.remove(key);
            if there.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    /// Those of [`Snapshot::range`] that a selection can be about: it need not look at the others.
    pub fn candidates<'a>(
        &'a self,
        selection: &Selection,
        start: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Item>> + Send + 'a> {
        let namespace = selection.namespace.as_deref();
        match selection.pinned_node() {
            None => Box::new(part(&self.objects, namespace, start)),
            Some(node) => {
                let there = self.by_node.get(node);
                let start = start.map(str::to_owned);
                let namespace = namespace.map(str::to_owned);
                Box::new(
                    there.into_iter().flat_map(move |objects| {
                        part(objects, namespace.as_deref(), start.as_deref())
                    }),
                )
            }
        }
    }
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
        part(&self.objects, namespace, start)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.objects.values()
    }
}

/// The watchers of one scope.
#[derive(Default)]
struct Subscribers {
    mailboxes: Vec<Arc<Mailbox>>,
    /// At this number those that are gone are looked for: amortised, so that opening and dropping watches costs the same
    /// whatever their number.
    prune_at: usize,
}

impl Subscribers {
    fn add(&mut self, mailbox: Arc<Mailbox>) {
        if self.mailboxes.len() >= self.prune_at.max(PRUNE_MIN) {
            self.mailboxes.retain(|mailbox| mailbox.is_open());
            self.prune_at = self.mailboxes.len() * 2;
        }
        self.mailboxes.push(mailbox);
    }
}

#[derive(Default)]
struct Hub {
    ring: VecDeque<Arc<Event>>,
    /// Events up to here are forgotten.
    floor: Revision,
    subscribers: HashMap<Scope, Subscribers>,
}

/// A watcher's start: the state it comes to, and its mailbox.
pub(super) struct Subscription {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) mailbox: Arc<Mailbox>,
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
    budget: Arc<Budget>,
    /// Bytes that the ring holds.
    ring_bytes: Arc<AtomicUsize>,
    /// Bytes of the objects in the snapshot.
    object_bytes: AtomicUsize,
    /// Bytes of objects that have left the snapshot, ever.
    churn: Arc<AtomicUsize>,
}

impl ResourceCache {
    pub(super) fn new(
        prefix: String,
        descriptor: &'static ResourceDescriptor,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            prefix,
            descriptor,
            snapshot: ArcSwap::default(),
            hub: Mutex::default(),
            history: Mutex::default(),
            changed: latest::Sender::new(Revision::default()),
            budget,
            ring_bytes: Arc::default(),
            object_bytes: AtomicUsize::default(),
            churn: Arc::default(),
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
        let churn = self.churn.load(Ordering::Relaxed);
        let mut history = self.history.lock();
        history.keep(revision, snapshot, churn, Instant::now());
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        self.snapshot.load().objects.len()
    }

    /// Bytes of all objects.
    pub fn object_bytes(&self) -> usize {
        self.object_bytes.load(Ordering::Relaxed)
    }

    /// Events that are remembered.
    pub fn events(&self) -> usize {
        self.hub.lock().ring.len()
    }

    /// Bytes of old states and encodings that are remembered.
    pub fn history_bytes(&self) -> usize {
        self.ring_bytes.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn subscribers(&self) -> usize {
        let hub = self.hub.lock();
        hub.subscribers
            .values()
            .map(|subscribers| subscribers.mailboxes.len())
            .sum()
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
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
        let mailbox = Arc::new(Mailbox::new(
            self.budget.number(),
            Arc::clone(&self.churn),
            self.budget.limits.waiting_of_one,
            replay,
        ));
        let scope = selection.scope(self.descriptor.namespaced);
        let subscribers = hub.subscribers.entry(scope).or_default();
        subscribers.add(Arc::clone(&mailbox));
        let snapshot = self.snapshot();
        drop(hub);
        self.budget.enter(&mailbox);
        Ok(Subscription { snapshot, mailbox })
    }

    /// Replaces everything: the first load, or a new one after the store forgot what lies between. Watchers end and
    /// have to list again.
    pub(super) fn replace(&self, items: Vec<Item>, revision: Revision) {
        let bytes = items.iter().map(|item| item.json.len()).sum();
        let snapshot = Snapshot::of(items, revision);
        let mut hub = self.hub.lock();
        self.snapshot.store(Arc::new(snapshot));
        let left = self.object_bytes.swap(bytes, Ordering::Relaxed);
        self.leave(left);
        let before = std::mem::replace(
            &mut *hub,
            Hub {
                floor: revision,
                ..Hub::default()
            },
        );
        drop(hub);
        before.ring.iter().for_each(|event| event.forget());
        let subscribers = before.subscribers.into_values();
        subscribers
            .flat_map(|subscribers| subscribers.mailboxes)
            .for_each(|mailbox| mailbox.close());
        self.changed.send_replace(revision);
    }

    /// Objects of so many bytes left the snapshot.
    fn leave(&self, bytes: usize) {
        self.churn.fetch_add(bytes, Ordering::Relaxed);
        self.budget.churned(bytes);
    }

    /// Applies changes in revision order: key behind the prefix, new state or none, revision.
    pub(super) fn apply(&self, changes: Vec<(String, Option<Item>, Revision)>, now: Instant) {
        let mut hub = self.hub.lock();
        let mut next = Snapshot::clone(&self.snapshot.load());
        let mut events = Vec::with_capacity(changes.len());
        for (key, new, revision) in changes {
            let new = new.map(Arc::new);
            let old = match &new {
                Some(item) => next.put(Arc::clone(item)),
                None => next.take(&key),
            };
            next.revision = revision;
            if let Some(item) = &new {
                self.object_bytes
                    .fetch_add(item.json.len(), Ordering::Relaxed);
            }
            if let Some(item) = &old {
                self.object_bytes
                    .fetch_sub(item.json.len(), Ordering::Relaxed);
                self.leave(item.json.len());
            }
            if new.is_some() || old.is_some() {
                events.push(Arc::new(Event::new(revision, new, old, now, &self.budget)));
            }
        }
        let revision = next.revision;
        self.snapshot.store(Arc::new(next));
        for event in events {
            hub.publish(&event, &self.budget);
            event.remember(&self.ring_bytes);
            hub.ring.push_back(event);
        }
        let bytes_max = self.budget.limits.history_of_one;
        while hub.has_too_much(now) || self.history_bytes() > bytes_max {
            if !hub.forget_oldest() {
                break;
            }
        }
        drop(hub);
        let churn = self.churn.load(Ordering::Relaxed);
        self.history.lock().shrink(churn, self.budget.limits.pages);
        self.changed.send_replace(revision);
    }

    /// Forgets history of at least so many bytes, oldest first.
    pub(super) fn forget(&self, bytes: usize) {
        let target = self.history_bytes().saturating_sub(bytes);
        let mut hub = self.hub.lock();
        while self.history_bytes() > target && hub.forget_oldest() {}
    }

    /// Tells all watchers how far the cache is, and forgets those that went away.
    pub(super) fn progress(&self, revision: Revision) {
        let mut hub = self.hub.lock();
        hub.subscribers.retain(|_, subscribers| {
            let mailboxes = &mut subscribers.mailboxes;
            mailboxes.retain(|mailbox| mailbox.progress(revision));
            !mailboxes.is_empty()
        });
        drop(hub);
        let churn = self.churn.load(Ordering::Relaxed);
        let mut history = self.history.lock();
        history.expire(Instant::now());
        history.shrink(churn, self.budget.limits.pages);
    }
}

impl Hub {
    fn publish(&mut self, event: &Arc<Event>, budget: &Budget) {
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
            let mailboxes = &mut subscribers.mailboxes;
            mailboxes.retain(|mailbox| match mailbox.put(event) {
                Put::Waits => true,
                Put::Gone => false,
                Put::Full => {
                    budget.cut_slow.fetch_add(1, Ordering::Relaxed);
                    false
                }
            });
            if mailboxes.is_empty() {
                self.subscribers.remove(&scope);
            }
        }
    }

    /// Whether the ring holds more events, or older ones, than it has to.
    fn has_too_much(&self, now: Instant) -> bool {
        let count = self.ring.len();
        let stale = self
            .ring
            .front()
            .is_some_and(|first| now.duration_since(first.seen) > REMEMBER_FOR);
        count > EVENTS_MAX || (count > EVENTS_MIN && stale)
    }

    /// False when there is nothing to forget.
    fn forget_oldest(&mut self) -> bool {
        let Some(first) = self.ring.pop_front() else {
            return false;
        };
        self.floor = first.revision;
        first.forget();
        true
    }
}
