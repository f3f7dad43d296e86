//! What waits for one watcher: the initial objects, the history it asked for, then events as they happen.
//!
//! The hub fills it and never waits; the watcher empties it. Unlike a channel it can be emptied by others: a watcher whose client
//! has stopped reading must not keep memory until its connection breaks. Invariant: a message is taken in the order in which it
//! was put, and after a cut nothing is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Event, Item};
use crate::storage::Revision;

/// Events that wait for one watcher; a slower one is cut and has to resume or list again.
const QUEUE_MAX: usize = 1024;

/// What waits after the initial state.
#[derive(Debug)]
pub(super) enum Message {
    Event(Arc<Event>),
    /// Everything up to this revision was put before.
    Progress(Revision),
}

/// What became of an event for one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Waits,
    /// The watcher was too slow, and is cut.
    Full,
    /// There is no watcher any more.
    Gone,
}

/// What a watcher takes next.
#[derive(Debug)]
pub(super) enum Next {
    Initial(Arc<Item>),
    InitialEnd(Revision),
    Message(Message),
}

/// One watcher's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) number: u64,
    /// Bytes of the resource's objects that have left the present state, and how many they were when the watcher came.
    churn: Arc<AtomicUsize>,
    churn_at_open: usize,
    bytes_max: usize,
    contents: Mutex<Contents>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Contents {
    initial: VecDeque<Arc<Item>>,
    /// Sent once after the initial objects.
    initial_end: Option<Revision>,
    /// From the ring; not counted against the queue's bounds.
    replay: VecDeque<Arc<Event>>,
    queue: VecDeque<Message>,
    /// Of the events in the queue.
    bytes: usize,
    /// Nothing more comes.
    closed: bool,
}

impl Mailbox {
    pub(super) fn new(
        number: u64,
        churn: Arc<AtomicUsize>,
        bytes_max: usize,
        replay: VecDeque<Arc<Event>>,
    ) -> Self {
        Self {
            number,
            churn_at_open: churn.load(Ordering::Relaxed),
            churn,
            bytes_max,
            contents: Mutex::new(Contents {
                replay,
                ..Contents::default()
            }),
            wake: Notify::new(),
        }
    }

    /// What comes before everything else. Called before the first take.
    pub(super) fn begin_with(&self, initial: VecDeque<Arc<Item>>, end: Revision) {
        let mut contents = self.contents.lock();
        if !contents.closed {
            contents.initial = initial;
            contents.initial_end = Some(end);
        }
    }

    /// Puts an event. A watcher that is too slow gets no more, but keeps what it has.
    pub(super) fn put(&self, event: &Arc<Event>) -> Put {
        let mut contents = self.contents.lock();
        if contents.closed {
            return Put::Gone;
        }
        let bytes = contents.bytes + event.weight();
        let full = contents.queue.len() >= QUEUE_MAX
            || (bytes > self.bytes_max && !contents.queue.is_empty());
        if full {
            contents.closed = true;
        } else {
            contents.bytes = bytes;
            contents.queue.push_back(Message::Event(Arc::clone(event)));
        }
        drop(contents);
        self.wake.notify_one();
        if full { Put::Full } else { Put::Waits }
    }

    /// Tells how far the cache has come; false when the watcher is gone.
    pub(super) fn progress(&self, revision: Revision) -> bool {
        let mut contents = self.contents.lock();
        if contents.closed {
            return false;
        }
        let waiting = contents.queue.len();
        match contents.queue.back_mut() {
            Some(Message::Progress(last)) => *last = revision,
            // A full queue needs no bookmark; the events in it say more.
            _ if waiting >= QUEUE_MAX => {}
            _ => contents.queue.push_back(Message::Progress(revision)),
        }
        drop(contents);
        self.wake.notify_one();
        true
    }

    /// The next thing; none when nothing more comes. Cancel-safe.
    pub(super) async fn take(&self) -> Option<Next> {
        loop {
            {
                let mut contents = self.contents.lock();
                if let Some(next) = contents.pop() {
                    return Some(next);
                }
                if contents.closed {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Whether something can be taken without waiting.
    pub(super) fn has_more(&self) -> bool {
        let contents = self.contents.lock();
        !contents.initial.is_empty()
            || contents.initial_end.is_some()
            || !contents.replay.is_empty()
            || !contents.queue.is_empty()
    }

    /// Bytes that the initial objects may hold beyond the present state: no more than what has left it since.
    pub(super) fn initial_holds_at_most(&self) -> usize {
        if self.contents.lock().initial.is_empty() {
            return 0;
        }
        let churn = self.churn.load(Ordering::Relaxed);
        churn.saturating_sub(self.churn_at_open)
    }

    /// Whether the hub should still put things here.
    pub(super) fn is_open(&self) -> bool {
        !self.contents.lock().closed
    }

    /// The revision of the oldest event that waits; whoever waits for none comes last.
    pub(super) fn oldest(&self) -> Revision {
        let contents = self.contents.lock();
        let queued = contents.queue.iter().find_map(|message| match message {
            Message::Event(event) => Some(event.revision),
            Message::Progress(_) => None,
        });
        contents
            .replay
            .front()
            .map(|event| event.revision)
            .or(queued)
            .unwrap_or(Revision::new(u64::MAX))
    }

    /// Nothing more comes; what is here stays.
    pub(super) fn close(&self) {
        self.contents.lock().closed = true;
        self.wake.notify_one();
    }

    /// Ends it, and lets go of everything at once; whether there was anything.
    pub(super) fn cut(&self) -> bool {
        let held = std::mem::replace(
            &mut *self.contents.lock(),
            Contents {
                closed: true,
                ..Contents::default()
            },
        );
        self.wake.notify_one();
        !held.closed
            || !held.initial.is_empty()
            || !held.replay.is_empty()
            || !held.queue.is_empty()
    }
}

impl Contents {
    fn pop(&mut self) -> Option<Next> {
        if let Some(item) = self.initial.pop_front() {
            return Some(Next::Initial(item));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(Next::InitialEnd(revision));
        }
        if let Some(event) = self.replay.pop_front() {
            return Some(Next::Message(Message::Event(event)));
        }
        let message = self.queue.pop_front()?;
        if let Message::Event(event) = &message {
            self.bytes -= event.weight();
        }
        Some(Next::Message(message))
    }
}
