//! The end of a run: all is made good, all must come to be well, and then the whole of it is judged.
//!
//! Invariant: nothing breaks any more, so whatever is not well in the end is a fault of the store.

use std::time::Duration;

use super::super::host::Served;
use super::super::invariants::watches::Progress;
use super::super::invariants::{Verdict, acknowledged, linearizable, once, refused};
use super::super::net::HostId;
use super::{Watcher, World};

/// All must be well so long after everything was made good.
const RECOVERY: Duration = Duration::from_secs(40);

impl World {
    /// Everything works now: so everything must come to be well.
    pub(super) fn recover(&mut self) {
        let limit = self.now + RECOVERY;
        // Clients go on a little, so that there is something to agree on; then every member must tell all of it.
        let quiet = self.now + Duration::from_secs(3);
        while self.violation.is_none() {
            self.step();
            self.asking = self.now < quiet;
            let busy = self.clients.iter().any(|client| client.waiting.is_some());
            if !self.asking && !busy && self.is_level() {
                return;
            }
            if self.now > limit {
                let state = self.describe();
                self.violation(format!("no recovery in {RECOVERY:?}: {state}"));
            }
        }
    }

    /// All members have applied the same, and their watchers have seen it.
    fn is_level(&self) -> bool {
        let active = self.active();
        let states = active.iter().map(|id| {
            self.hosts[*id].enter(|served| {
                let revision = served.member.engine().store().revision().get();
                let leads = served.member.leader().is_some();
                leads.then_some((served.member.applied().get(), revision))
            })
        });
        let states: Vec<_> = states.map(Option::flatten).collect();
        let Some(Some((_, revision))) = states.first() else {
            return false;
        };
        let same = states.windows(2).all(|pair| pair[0] == pair[1]);
        let seen = |watcher: &Watcher| watcher.progress.next() == revision + 1;
        same && active.iter().all(|id| seen(&self.watchers[*id]))
    }

    fn describe(&self) -> String {
        let hosts = self
            .hosts
            .iter()
            .zip(&self.watchers)
            .map(|(host, watcher)| {
                let state = host.enter(|served| {
                    let store = served.member.engine().store();
                    let status = served.member.status();
                    format!("{status:?} at {}", store.revision())
                });
                format!("{}: {state:?}, seen up to {:?}", host.id, watcher.progress)
            });
        hosts.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn judge(&mut self) -> Verdict {
        self.compare();
        // Every member tells its history anew to whoever comes now.
        let compacted = self.hosts.iter().map(|host| {
            let compacted = |served: &Served| served.member.engine().store().compacted().get();
            host.enter(compacted).unwrap_or_default()
        });
        let active = self.active();
        let from = compacted.max().unwrap_or_default() + 1;
        let last = self.history.last();
        for id in &active {
            let watcher = &mut self.watchers[*id];
            watcher.progress = Progress::from(from.max(2));
            watcher.running = false;
            watcher.life += 1;
            watcher.retry = Duration::ZERO;
        }
        let limit = self.now + Duration::from_secs(10);
        let behind = |world: &Self, id: &HostId| world.watchers[*id].progress.next() <= last;
        while active.iter().any(|id| behind(self, id)) {
            self.step();
            if let Some(why) = &self.violation {
                return Err(why.clone());
            }
            if self.now > limit {
                return Err(format!("history is not told: {}", self.describe()));
            }
        }
        linearizable::judge(&self.operations, &self.history)?;
        acknowledged::judge(&self.operations, &self.history)?;
        refused::judge(&self.operations, &self.history)?;
        once::judge(&self.history)
    }
}
