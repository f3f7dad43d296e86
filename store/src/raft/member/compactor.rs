//! Compaction by itself, when the operator has asked for it: decided on the leader, agreed on like any other.
//!
//! Not how far (`corten_store_core::compactor`). Invariant: a member that does not lead remembers nothing.

use std::sync::Arc;

use corten_base::clock::{Clock as _, SystemClock};
use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
use corten_proto::etcd::etcdserverpb::CompactionRequest;
use corten_store_core::compactor::{Compactor, Retention};
use pb::raft_request::Command;

use super::Member;

/// Compacts as `retention` says until `shutdown`.
pub(crate) async fn run_compactor(member: Arc<Member>, retention: Retention, shutdown: Shutdown) {
    let mut compactor = Compactor::new(retention);
    let Some(interval) = compactor.interval() else {
        return;
    };
    let origin = SystemClock.now();
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        if member.leading_term().is_none() {
            compactor.reset();
            continue;
        }
        let now = SystemClock.now().saturating_duration_since(origin);
        let store = member.engine().store();
        let target = compactor.look(now, store.revision());
        let Some(target) = target.filter(|target| *target > store.compacted()) else {
            continue;
        };
        let request = pb::RaftRequest {
            command: Some(Command::Compact(CompactionRequest {
                revision: target.get(),
                physical: false,
            })),
            ..Default::default()
        };
        match member.propose(&request).await {
            Ok(_) => tracing::info!(revision = %target, "compacted"),
            // The next look goes at least as far.
            Err(error) => tracing::debug!(%error, "cannot compact now"),
        }
    }
}
