//! The newest version of keys that were written lately, in memory: most writes change a key that was written before, and
//! most reads of one key ask for what was just written.
//!
//! Not an index: what is not here is looked up in the backend. Invariant: a version that is here is the newest of its key
//! among all published revisions. Only the writer adds, it adds every version that it writes, and it does so before the
//! revision is published; so whoever reads at a published revision finds that version, a later one (and must look
//! elsewhere), or nothing.

use bytes::Bytes;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};

use crate::{ids::Revision, read::Live};

/// What an entry takes beside its key and value: the table's slot, links, two shared counters.
const ENTRY_BYTES: usize = 160;
/// A larger value would push out many others to spare one look into the backend.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Readers of different keys should not meet on one lock.
const SHARDS: usize = 16;
/// Bytes per entry that the table is laid out for; it grows when they are smaller.
const ENTRY_BYTES_USUAL: usize = 1024;

/// A key's newest version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) modified: Revision,
    /// `None`: deleted by that revision.
    pub(crate) live: Option<Live>,
}

/// The heads that are kept.
pub(crate) struct Heads {
    cache: Cache<Bytes, Newest, Size>,
}

#[derive(Clone)]
struct Size;

impl Weighter<Bytes, Newest> for Size {
    fn weight(&self, key: &Bytes, head: &Newest) -> u64 {
        (ENTRY_BYTES + key.len() + value_len(head)) as u64
    }
}

fn value_len(head: &Newest) -> usize {
    head.live.as_ref().map_or(0, |live| live.value.len())
}

impl Heads {
    /// Keeps up to about `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity((bytes / ENTRY_BYTES_USUAL).max(SHARDS))
            .weight_capacity(bytes as u64)
            .build()
            .expect("both capacities are given");
        let cache = Cache::with_options(
            options,
            Size,
            quick_cache::DefaultHashBuilder::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        Self { cache }
    }

    /// The newest version of a key, if it is known and not newer than `at`.
    pub(crate) fn get(&self, key: &[u8], at: Revision) -> Option<Newest> {
        self.cache.get(key).filter(|head| head.modified <= at)
    }

    /// The writer's: `head` is the newest version from now on.
    pub(crate) fn set(&self, key: &Bytes, head: Newest) {
        if value_len(&head) > VALUE_BYTES_MAX {
            self.cache.remove(key.as_ref());
            return;
        }
        // Copies: the bytes are slices of whole messages, which would be kept with them.
        let live = head.live.map(|live| Live {
            value: Bytes::copy_from_slice(&live.value),
            ..live
        });
        let head = Newest { live, ..head };
        self.cache.insert(Bytes::copy_from_slice(key), head);
    }

    /// The content of the backend was replaced.
    pub(crate) fn clear(&self) {
        self.cache.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaseId;

    fn head(modified: i64, len: usize) -> Newest {
        let modified = Revision::new(modified);
        let live = Live {
            modified,
            created: modified,
            version: 1,
            lease: LeaseId::NONE,
            value: vec![0; len].into(),
        };
        Newest {
            modified,
            live: Some(live),
        }
    }

    #[test]
    fn a_version_from_the_future_is_not_told() {
        let heads = Heads::new(1 << 20);
        let key = Bytes::from_static(b"k");
        heads.set(&key, head(7, 1));
        assert_eq!(heads.get(b"k", Revision::new(6)), None);
        assert_eq!(heads.get(b"k", Revision::new(7)), Some(head(7, 1)));
        heads.set(&key, head(9, 1));
        assert_eq!(heads.get(b"k", Revision::new(8)), None);
    }

    #[test]
    fn a_value_that_became_too_large_leaves_nothing_old_behind() {
        let heads = Heads::new(1 << 20);
        let key = Bytes::from_static(b"k");
        heads.set(&key, head(1, 1));
        heads.set(&key, head(2, VALUE_BYTES_MAX + 1));
        assert_eq!(heads.get(b"k", Revision::new(2)), None);
        // Larger than what one shard may hold, but not by itself too large.
        let small = Heads::new(SHARDS * 1024);
        small.set(&key, head(3, 1));
        small.set(&key, head(4, 8 << 10));
        assert!(
            small
                .get(b"k", Revision::new(4))
                .is_none_or(|head| head.modified == Revision::new(4))
        );
    }
}
