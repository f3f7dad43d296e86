//! Counting leases down on the leader, in time that the caller passes in.
//! Not replicated: grants and revocations come from the log, keep-alives never enter it.
//! Invariant: a lease is reported expired only by the leader, and never before its time to live has passed since the
//! last keep-alive, grant or promotion, whatever the wall clock does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    ids::LeaseId,
    lease_rows::{LeaseChange, LeaseRecord},
};

/// Elapsed time since some fixed moment of this process; monotonic.
pub type Elapsed = Duration;

/// Revocations in one command: keeps one round of applying short.
pub const EXPIRED_MAX: usize = 256;
/// After being reported, an expired lease is reported again if no revocation has come by then.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// Times of leases on one member.
#[derive(Debug, Default)]
pub struct Lessor {
    leases: BTreeMap<LeaseId, Entry>,
    /// Deadlines in order; empty while this member does not lead.
    deadlines: BTreeSet<(Elapsed, LeaseId)>,
    leading: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    record: LeaseRecord,
    /// When the lease runs out. Meaningful only while leading.
    expires: Elapsed,
    /// When `expired` is to look at it: the expiry, or later after a report.
    deadline: Elapsed,
}

/// What a lease has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Seconds granted.
    pub granted: i64,
    /// Seconds left, rounded down; 0 when it is due.
    pub left: i64,
}

impl Lessor {
    /// Starts from the leases of the state, not leading.
    pub fn new(leases: Vec<(LeaseId, LeaseRecord)>) -> Self {
        let entry = |record| Entry {
            record,
            expires: Elapsed::ZERO,
            deadline: Elapsed::ZERO,
        };
        let leases = leases
            .into_iter()
            .map(|(id, record)| (id, entry(record)))
            .collect();
        Self {
            leases,
            ..Self::default()
        }
    }

    /// Follows what was applied.
    pub fn observe(&mut self, change: &LeaseChange, now: Elapsed) {
        match *change {
            LeaseChange::Granted(id, record) => {
                let entry = Entry {
                    record,
                    expires: now,
                    deadline: now,
                };
                self.leases.insert(id, entry);
                self.renew(id, record.ttl, now);
            }
            LeaseChange::Checkpointed(id, record) => {
                if let Some(entry) = self.leases.get_mut(&id) {
                    entry.record = record;
                }
            }
            LeaseChange::Revoked(id) => {
                if let Some(entry) = self.leases.remove(&id) {
                    self.deadlines.remove(&(entry.deadline, id));
                }
            }
        }
    }

    /// This member leads from now on. Every lease gets its full time again, plus `grace` for the time without a leader
    /// in which nobody could renew. Checkpoints are not used: one that a later keep-alive has outdated would expire
    /// the lease early, and clearing it would put the keep-alive into the log.
    pub fn promote(&mut self, now: Elapsed, grace: Duration) {
        self.leading = true;
        self.deadlines.clear();
        for (id, entry) in &mut self.leases {
            entry.expires = now + seconds_to_live(entry.record.ttl) + grace;
            entry.deadline = entry.expires;
            self.deadlines.insert((entry.deadline, *id));
        }
    }

    /// This member no longer leads: it must not expire anything.
    pub fn demote(&mut self) {
        self.leading = false;
        self.deadlines.clear();
    }

    /// Whether `promote` is in force.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// Renews a lease for its full time. Gives its time to live; none if there is no such lease or it is already due.
    pub fn keep_alive(&mut self, id: LeaseId, now: Elapsed) -> Option<i64> {
        let entry = self.leases.get_mut(&id)?;
        // Due means that a revocation may be in the log already: to renew it would promise what cannot be kept.
        if !self.leading || entry.expires <= now {
            return None;
        }
        let ttl = entry.record.ttl;
        self.renew(id, ttl, now);
        Some(ttl)
    }

    /// What a lease has left; meaningful only while leading.
    pub fn remaining(&self, id: LeaseId, now: Elapsed) -> Option<Remaining> {
        let entry = self.leases.get(&id)?;
        let left = entry.expires.saturating_sub(now).as_secs();
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        Some(Remaining {
            granted: entry.record.ttl,
            left,
        })
    }

    /// Leases that ran out, at most `EXPIRED_MAX`; for one revocation through the log.
    pub fn expired(&mut self, now: Elapsed) -> Vec<LeaseId> {
        let mut due = Vec::new();
        while due.len() < EXPIRED_MAX {
            let Some(&(deadline, id)) = self
                .deadlines
                .first()
                .filter(|(deadline, _)| *deadline <= now)
            else {
                break;
            };
            self.deadlines.remove(&(deadline, id));
            if let Some(entry) = self.leases.get_mut(&id) {
                entry.deadline = now + RETRY_AFTER;
                self.deadlines.insert((entry.deadline, id));
                due.push(id);
            }
        }
        due
    }

    /// When `expired` next has something, if nothing changes.
    pub fn next_deadline(&self) -> Option<Elapsed> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn renew(&mut self, id: LeaseId, seconds: i64, now: Elapsed) {
        if !self.leading {
            return;
        }
        if let Some(entry) = self.leases.get_mut(&id) {
            self.deadlines.remove(&(entry.deadline, id));
            entry.expires = now + seconds_to_live(seconds);
            entry.deadline = entry.expires;
            self.deadlines.insert((entry.deadline, id));
        }
    }
}

fn seconds_to_live(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
