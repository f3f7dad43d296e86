//! When each node was last heard of, by our own monotonic clock. Invariant: only a change counts; what a lease says about
//! time is compared with what it said before, never with a clock.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
struct Heard {
    lease: Option<Timestamp>,
    node: Option<Timestamp>,
    at: Instant,
}

/// Last signs of life, by node.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<HashMap<String, Heard>>);

impl Heartbeats {
    /// A node's lease says this.
    pub(super) fn lease(&self, name: &str, renewed: Option<Timestamp>) {
        self.note(name, |heard| {
            std::mem::replace(&mut heard.lease, renewed) != renewed
        });
    }

    /// A node's status says this.
    pub(super) fn node(&self, name: &str, heartbeat: Option<Timestamp>) {
        self.note(name, |heard| {
            std::mem::replace(&mut heard.node, heartbeat) != heartbeat
        });
    }

    fn note(&self, name: &str, is_news: impl FnOnce(&mut Heard) -> bool) {
        let now = Instant::now();
        let mut all = self.0.lock();
        let heard = all.entry(name.to_owned()).or_insert(Heard {
            lease: None,
            node: None,
            at: now,
        });
        if is_news(heard) {
            heard.at = now;
        }
    }

    /// A node is gone.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }

    /// How long a node has been silent. One that was never heard of begins now.
    pub(super) fn silent(&self, name: &str) -> Duration {
        let now = Instant::now();
        let mut all = self.0.lock();
        let heard = all.entry(name.to_owned()).or_insert(Heard {
            lease: None,
            node: None,
            at: now,
        });
        now.saturating_duration_since(heard.at)
    }
}
