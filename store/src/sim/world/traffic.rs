//! What clients ask, what watchers are shown, and what comes back.
//!
//! Invariant: a client has one operation under way, and what it is told after it gave up does not count.

use std::time::Duration;

use rand::Rng;

use super::super::client::{self, Ask, Inbox, News, Operation, Told};
use super::{KEYS, World};

/// A client that has no answer after this goes on without.
const PATIENCE: Duration = Duration::from_secs(3);

impl World {
    pub(super) fn start_operations(&mut self) {
        for number in 0..self.clients.len() {
            if self.clients[number].waiting.is_some() || self.now < self.clients[number].next {
                continue;
            }
            let at = self.pick();
            let ask = self.choose(number);
            let operation = self.operations.len();
            let inbox = Inbox::clone(&self.inbox);
            let asked = ask.clone();
            let started =
                self.hosts[at].enter(move |served| client::ask(served, operation, asked, inbox));
            self.clients[number].next = self.now + Duration::from_millis(30);
            if started.is_none() {
                continue;
            }
            self.note(format!("client {number} asks {at} #{operation}: {ask:?}"));
            self.operations.push(Operation {
                client: number,
                ask,
                begin: self.now,
                told: None,
            });
            self.clients[number].waiting = Some(operation);
        }
    }

    fn choose(&mut self, client: usize) -> Ask {
        let slot = self.rng.random_range(0..KEYS.len());
        let key = KEYS[slot].to_owned();
        let mut value = format!("{}.{client}", self.operations.len());
        if self.rng.random_bool(0.05) {
            value.push_str(&"x".repeat(self.rng.random_range(0..6000)));
        }
        match self.rng.random_range(0..100) {
            0..=44 => Ask::Put { key, value },
            45..=79 => Ask::Get { key },
            80..=91 => Ask::Swap {
                key,
                seen: self.clients[client].seen[slot],
                value,
            },
            92..=96 => Ask::Delete { key },
            _ => {
                let active = self.active().into_iter();
                let safe = active.map(|id| self.watchers[id].progress.next());
                Ask::Compact {
                    revision: safe.min().unwrap_or(2) - 1,
                }
            }
        }
    }

    pub(super) fn give_up(&mut self) {
        for client in &mut self.clients {
            if let Some(operation) = client.waiting
                && self.now > self.operations[operation].begin + PATIENCE
            {
                client.waiting = None;
            }
        }
    }

    pub(super) fn start_watchers(&mut self) {
        for id in 0..self.watchers.len() {
            let watcher = &mut self.watchers[id];
            if watcher.running || self.now < watcher.retry {
                continue;
            }
            let (life, from) = (watcher.life, watcher.progress.next());
            let inbox = Inbox::clone(&self.inbox);
            let started =
                self.hosts[id].enter(move |served| client::watch(served, id, life, from, inbox));
            watcher.running = started.is_some();
        }
    }

    /// Takes what came out of a host.
    pub(super) fn hear(&mut self) {
        let news = std::mem::take(&mut *self.inbox.lock());
        for news in news {
            match news {
                News::Members { number, members } => self.listed(number, members),
                News::Answer { operation, told } => self.answered(operation, told),
                News::Shown {
                    watcher,
                    life,
                    changes,
                } if life == self.watchers[watcher].life => self.shown(watcher, &changes),
                News::WatchEnded { watcher, life, why } if life == self.watchers[watcher].life => {
                    self.note(format!("watcher {watcher} ended: {why}"));
                    if why.starts_with("canceled") {
                        self.violation(format!("watcher {watcher}: {why}"));
                    }
                    let watcher = &mut self.watchers[watcher];
                    watcher.running = false;
                    watcher.life += 1;
                    watcher.retry = self.now + Duration::from_millis(50);
                }
                News::Shown { .. } | News::WatchEnded { .. } => {}
            }
        }
    }

    fn answered(&mut self, number: usize, told: Told) {
        let client = self.operations[number].client;
        if self.clients[client].waiting != Some(number) {
            return;
        }
        self.note(format!("#{number} is told {told:?}"));
        self.clients[client].waiting = None;
        let (Ask::Put { key, .. } | Ask::Get { key } | Ask::Swap { key, .. }) =
            &self.operations[number].ask
        else {
            self.operations[number].told = Some((self.now, told));
            return;
        };
        let slot = KEYS.iter().position(|known| known == key);
        let seen = match &told {
            Told::Put { revision } => Some(*revision),
            Told::Got { found, .. } => Some(found.as_ref().map_or(0, |(revision, _)| *revision)),
            Told::Swapped {
                revision,
                done: true,
            } => Some(*revision),
            _ => None,
        };
        if let (Some(slot), Some(seen)) = (slot, seen) {
            self.clients[client].seen[slot] = seen;
        }
        self.operations[number].told = Some((self.now, told));
    }

    fn shown(&mut self, watcher: usize, changes: &[client::Change]) {
        for change in changes {
            self.note(format!("watcher {watcher} sees {change:?}"));
            let shown = self.watchers[watcher].progress.show(change);
            let learnt = self.history.learn(change, &format!("watcher {watcher}"));
            if let Err(why) = shown.and(learnt) {
                self.violation(why);
            }
        }
    }
}
