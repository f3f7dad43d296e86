//! The limit of the store's size, and the end of the disk, looked at for every request that makes the store grow.
//!
//! Not the alarm's effect: while NOSPACE is on, applying refuses puts on every member alike. Invariant: between two
//! questions to the engine, what was written is added to its last answer, so no burst gets past the limit unseen.

use parking_lot::Mutex;

use corten_store_core::Store;

/// The last answer of the engine, and what had been written by then.
#[derive(Default)]
pub(super) struct Quota {
    sample: Mutex<Option<Sample>>,
}

#[derive(Clone, Copy)]
struct Sample {
    /// What the files and unflushed rows take: the quota is about the disk, and live rows are only estimated.
    allocated: u64,
    /// What the disk has left beyond its reserve.
    room: u64,
    written: u64,
}

/// What a byte takes on disk until the engine has settled: in the log, and in a table file.
const DISK_PER_BYTE: u64 = 2;

impl Quota {
    /// Whether a request of `cost` bytes fits below `limit`, 0 being no limit, and into the `room` that the disk has left.
    pub(super) fn admits(
        &self,
        store: &Store,
        limit: u64,
        room: impl Fn() -> u64,
        cost: u64,
    ) -> bool {
        let mut sample = self.sample.lock();
        let fits = |sample: Sample| {
            let grown = store.written().saturating_sub(sample.written);
            let more = grown.saturating_add(cost);
            (limit == 0 || sample.allocated.saturating_add(more) <= limit)
                && more.saturating_mul(DISK_PER_BYTE) <= sample.room
        };
        // The estimate only grows: asking anew is needed exactly when it says no.
        if sample.is_some_and(fits) {
            return true;
        }
        let now = Sample {
            // First, so that what is written meanwhile is counted twice rather than not at all.
            written: store.written(),
            allocated: store.size().allocated,
            room: room(),
        };
        *sample = Some(now);
        fits(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_store_core::memory::MemoryBackend;

    use super::*;

    #[test]
    fn every_request_is_held_against_what_was_written() {
        let (store, mut writer) = Store::open(Arc::new(MemoryBackend::new())).expect("opened");
        let quota = Quota::default();
        let endless = || u64::MAX;
        assert!(quota.admits(&store, 0, endless, u64::MAX / 4));
        let free = 1000;
        let limit = store.size().allocated + free;
        assert!(quota.admits(&store, limit, endless, free));
        assert!(!quota.admits(&store, limit, endless, free + 1));
        assert!(Quota::default().admits(&store, 0, || 1000, 500));
        assert!(
            !Quota::default().admits(&store, 0, || 1000, 501),
            "the disk is near its end"
        );
        let mut round = writer.begin();
        let put = corten_proto::etcd::etcdserverpb::PutRequest {
            key: "k".into(),
            value: vec![1; 900].into(),
            ..Default::default()
        };
        let request = corten_proto::corten::store::v1::RaftRequest {
            command: Some(corten_proto::corten::store::v1::raft_request::Command::Put(
                put,
            )),
            ..Default::default()
        };
        let at = corten_store_core::Position { term: 1, index: 1 };
        round.apply(at, &request).expect("applied");
        round.commit().expect("committed");
        assert!(!quota.admits(&store, limit, endless, 500));
        assert!(
            quota.admits(&store, limit + 1000, endless, 500),
            "the limit was raised"
        );
    }
}
