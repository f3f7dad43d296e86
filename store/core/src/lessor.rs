//! Counting leases down on the leader, in time that the caller passes in.
//! Not replicated: grants, revocations and checkpoints come from the log, keep-alives never enter it.
//! Invariant: a lease is reported expired only by the leader, and never before its time to live has passed since the
//! last keep-alive that was answered, or the grant, whatever the wall clock does and whoever led in between.
//!
//! A new leader counts from the last checkpoint, if there is one: what was left of the lease then, at most. A checkpoint
//! that a keep-alive outdates would end the lease early. So the keep-alive waits until the log has forgotten the
//! checkpoint (`KeepAlive::Checkpointed`), which happens at most once in `checkpoint_every` for each lease.

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
/// Checkpoints in one command; they are cheaper than revocations.
pub const CHECKPOINTS_MAX: usize = 1000;
/// After being reported, an expired lease is reported again if no revocation has come by then.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// Times of leases on one member.
#[derive(Debug)]
pub struct Lessor {
    leases: BTreeMap<LeaseId, Entry>,
    /// Deadlines in order; empty while this member does not lead.
    deadlines: BTreeSet<(Elapsed, LeaseId)>,
    /// When leases are to be checkpointed, in order; empty while this member does not lead.
    checkpoints: BTreeSet<(Elapsed, LeaseId)>,
    checkpoint_every: Duration,
    leading: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    record: LeaseRecord,
    /// When the lease runs out. Meaningful only while leading.
    expires: Elapsed,
    /// When `expired` is to look at it: the expiry, or later after a report.
    deadline: Elapsed,
    /// Its place among the checkpoints.
    checkpoint: Elapsed,
    /// A checkpoint was given out and is not applied yet, as far as is known.
    is_checkpointing: bool,
}

/// What a lease has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Seconds granted.
    pub granted: i64,
    /// Seconds left, rounded down; 0 when it is due.
    pub left: i64,
}

/// What became of a keep-alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// There is no such lease, it is due, or this member does not lead.
    Unknown,
    /// The lease has its full time again, in seconds.
    Renewed(i64),
    /// A checkpoint with no time left must go through the log first; then ask again.
    Checkpointed,
}

impl Lessor {
    /// Starts from the leases of the state, not leading.
    pub fn new(leases: Vec<(LeaseId, LeaseRecord)>, checkpoint_every: Duration) -> Self {
        let leases = leases
            .into_iter()
            .map(|(id, record)| (id, Entry::new(record)))
            .collect();
        Self {
            leases,
            deadlines: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            checkpoint_every,
            leading: false,
        }
    }

    /// Starts over from the leases of another state, not leading.
    pub fn reset(&mut self, leases: Vec<(LeaseId, LeaseRecord)>) {
        *self = Self::new(leases, self.checkpoint_every);
    }

    /// Follows what was applied.
    pub fn observe(&mut self, change: &LeaseChange, now: Elapsed) {
        match *change {
            LeaseChange::Granted(id, record) => {
                self.leases.insert(id, Entry::new(record));
                self.count(id, seconds_to_live(record.ttl), now);
            }
            LeaseChange::Checkpointed(id, record) => {
                if let Some(entry) = self.leases.get_mut(&id) {
                    entry.record = record;
                    entry.is_checkpointing = false;
                }
                self.plan_checkpoint(id, now);
            }
            LeaseChange::Revoked(id) => {
                if let Some(entry) = self.leases.remove(&id) {
                    self.deadlines.remove(&(entry.deadline, id));
                    self.checkpoints.remove(&(entry.checkpoint, id));
                }
            }
        }
    }

    /// This member leads from now on, and has applied everything that earlier leaders committed. Every lease gets what
    /// its checkpoint says, or else its full time, and `grace` for the time without a leader in which nobody could renew.
    pub fn promote(&mut self, now: Elapsed, grace: Duration) {
        self.demote();
        self.leading = true;
        let ids: Vec<_> = self.leases.keys().copied().collect();
        for id in ids {
            let Some(entry) = self.leases.get_mut(&id) else {
                continue;
            };
            entry.is_checkpointing = false;
            let LeaseRecord { ttl, remaining } = entry.record;
            let left = if remaining > 0 { remaining } else { ttl };
            self.count(id, seconds_to_live(left) + grace, now);
        }
    }

    /// This member no longer leads: it must not expire anything.
    pub fn demote(&mut self) {
        self.leading = false;
        self.deadlines.clear();
        self.checkpoints.clear();
    }

    /// Whether `promote` is in force.
    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// Renews a lease for its full time.
    pub fn keep_alive(&mut self, id: LeaseId, now: Elapsed) -> KeepAlive {
        // Due means that a revocation may be in the log already: to renew it would promise what cannot be kept.
        let Some(entry) = self
            .leases
            .get(&id)
            .filter(|entry| self.leading && entry.expires > now)
        else {
            return KeepAlive::Unknown;
        };
        if entry.record.remaining > 0 || entry.is_checkpointing {
            return KeepAlive::Checkpointed;
        }
        let ttl = entry.record.ttl;
        self.count(id, seconds_to_live(ttl), now);
        KeepAlive::Renewed(ttl)
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

    /// Leases to be checkpointed, with the seconds that they have left, rounded up; at most `CHECKPOINTS_MAX`, for one
    /// command. From here on keep-alives of theirs wait for the log, so the command must be proposed in any case.
    pub fn due_checkpoints(&mut self, now: Elapsed) -> Vec<(LeaseId, i64)> {
        let mut due = Vec::new();
        while due.len() < CHECKPOINTS_MAX {
            let Some(&(at, id)) = self.checkpoints.first().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.checkpoints.remove(&(at, id));
            self.plan_checkpoint(id, now);
            let Some(entry) = self.leases.get_mut(&id) else {
                continue;
            };
            let left = entry.expires.saturating_sub(now).as_millis().div_ceil(1000);
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            // What a grace has made longer than the grant needs no checkpoint: none says as much.
            if left > 0 && left < entry.record.ttl {
                entry.is_checkpointing = true;
                due.push((id, left));
            }
        }
        due
    }

    /// When `expired` next has something, if nothing changes.
    pub fn next_deadline(&self) -> Option<Elapsed> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Gives a lease a time from now on.
    fn count(&mut self, id: LeaseId, time: Duration, now: Elapsed) {
        if !self.leading {
            return;
        }
        if let Some(entry) = self.leases.get_mut(&id) {
            self.deadlines.remove(&(entry.deadline, id));
            entry.expires = now.saturating_add(time);
            entry.deadline = entry.expires;
            self.deadlines.insert((entry.deadline, id));
        }
        self.plan_checkpoint(id, now);
    }

    /// Sets the next checkpoint of a lease, if it lives that long.
    fn plan_checkpoint(&mut self, id: LeaseId, now: Elapsed) {
        if !self.leading {
            return;
        }
        if let Some(entry) = self.leases.get_mut(&id) {
            self.checkpoints.remove(&(entry.checkpoint, id));
            entry.checkpoint = now.saturating_add(self.checkpoint_every);
            if entry.checkpoint < entry.expires {
                self.checkpoints.insert((entry.checkpoint, id));
            }
        }
    }
}

impl Entry {
    fn new(record: LeaseRecord) -> Self {
        Self {
            record,
            expires: Elapsed::ZERO,
            deadline: Elapsed::ZERO,
            checkpoint: Elapsed::ZERO,
            is_checkpointing: false,
        }
    }
}

fn seconds_to_live(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
