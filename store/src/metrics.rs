//! What is measured while a member works: durations and counts that nobody else keeps. Under etcd's names, since the
//! dashboards of operators ask for them.
//!
//! Not what can be read off at scrape time; that is in `server::metrics`. Invariant: the only labels are another member, and what was damaged.

use corten_base::admin::AdminServer;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::raft::wal::UnderWay;

/// Handles; clones share the figures.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Seconds of each sync of the log.
    pub(crate) wal_fsync: Histogram,
    /// The write or sync of the log that is waited for now; shown by `server::metrics`.
    pub(crate) wal_under_way: UnderWay,
    /// Seconds of each write of applied entries to the state.
    pub(crate) backend_commit: Histogram,
    /// Seconds until a member answered a heartbeat.
    peer_round_trip: Family<Peer, Histogram, fn() -> Histogram>,
    /// Proposals of this member's clients that ended without an outcome.
    pub(crate) proposals_failed: Counter,
    /// Leaders that this member has seen come.
    pub(crate) leader_changes: Counter,
    /// Repairs of this member's own damaged files.
    repairs: Family<Kind, Counter>,
    /// Times that it was damaged and could not be repaired.
    pub(crate) repairs_refused: Counter,
}

/// `To` and the id of the member asked.
type Peer = Vec<(&'static str, String)>;

/// `kind`: what was damaged.
type Kind = Vec<(&'static str, &'static str)>;

/// From 1 ms to 8 s, as etcd has it for disks.
fn disk() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

/// From 0.1 ms to 3 s, as etcd has it for the network.
fn network() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            wal_fsync: disk(),
            wal_under_way: UnderWay::default(),
            backend_commit: disk(),
            peer_round_trip: Family::new_with_constructor(network),
            proposals_failed: Counter::default(),
            leader_changes: Counter::default(),
            repairs: Family::default(),
            repairs_refused: Counter::default(),
        }
    }
}

impl Metrics {
    /// The histogram of one member's answers.
    pub(crate) fn round_trips_to(&self, member: &impl ToString) -> Histogram {
        let peer = vec![("To", member.to_string())];
        self.peer_round_trip.get_or_create(&peer).clone()
    }

    /// Counts a repair.
    pub(crate) fn repaired(&self, kind: &'static str) {
        self.repairs.get_or_create(&vec![("kind", kind)]).inc();
    }

    pub(crate) fn register(&self, admin: &AdminServer) {
        admin.with_registry(|registry| {
            registry.register(
                "etcd_disk_wal_fsync_duration_seconds",
                "Time that syncs of the log take",
                self.wal_fsync.clone(),
            );
            registry.register(
                "etcd_disk_backend_commit_duration_seconds",
                "Time that writes of applied entries to the state take; none of them is synced",
                self.backend_commit.clone(),
            );
            registry.register(
                "etcd_network_peer_round_trip_time_seconds",
                "Time until another member answers a heartbeat of this leader",
                self.peer_round_trip.clone(),
            );
            registry.register(
                "etcd_server_proposals_failed",
                "Proposals of this member's clients that failed",
                self.proposals_failed.clone(),
            );
            registry.register(
                "etcd_server_leader_changes_seen",
                "Leaders seen",
                self.leader_changes.clone(),
            );
            registry.register(
                "corten_store_repairs",
                "Repairs of this member's own damaged files from the other members",
                self.repairs.clone(),
            );
            registry.register(
                "corten_store_repairs_refused",
                "Times that this member was damaged and could not be repaired",
                self.repairs_refused.clone(),
            );
        });
    }
}
