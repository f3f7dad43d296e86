//! How RocksDB is set up, and why.
//!
//! Nothing here changes what is stored. Invariant: all members of a process share one block cache and one budget.

use corten_store_core::backend::{Keyspace, REVISION_BYTES};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, Options, SliceTransform,
};

/// Sizes that an operator may want to change.
#[derive(Clone)]
pub(crate) struct RocksOptions {
    /// Blocks of table files kept uncompressed in memory.
    pub(crate) cache_bytes: usize,
    /// Rows kept in memory before they are flushed; also bounds what a restart replays.
    pub(crate) memtable_bytes: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            memtable_bytes: 32 << 20,
        }
    }
}

impl RocksOptions {
    /// `direct`: whether the file system takes writes past the page cache.
    pub(super) fn database(&self, direct: bool) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // Without RocksDB's log, a flush of one column family alone would tear batches apart on a crash.
        options.set_atomic_flush(true);
        options.set_max_background_jobs(2);
        // Spreads write-back, so that the Raft log's sync does not wait behind a burst of table writes.
        options.set_bytes_per_sync(1 << 20);
        options.set_use_direct_io_for_flush_and_compaction(direct);
        options.set_db_write_buffer_size(self.memtable_bytes);
        options.set_keep_log_file_num(2);
        options.set_stats_dump_period_sec(0);
        // It writes warnings while it holds the lock that every question about sizes takes: on a disk that hangs, metrics and
        // status would hang with it.
        options.set_log_level(rocksdb::LogLevel::Error);
        options
    }

    pub(super) fn families(&self) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_lru_cache(self.cache_bytes);
        let family = |space: Keyspace| {
            let mut blocks = BlockBasedOptions::default();
            blocks.set_block_cache(&cache);
            // Index and filters count against the cache, so that memory stays bounded when the data grows.
            blocks.set_cache_index_and_filter_blocks(true);
            blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
            blocks.set_block_size(16 << 10);
            blocks.set_format_version(5);
            let mut options = Options::default();
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_bottommost_compression_type(DBCompressionType::Zstd);
            options.set_write_buffer_size(self.memtable_bytes);
            if space == Keyspace::Key {
                filter_by_key(&mut options, &mut blocks);
            }
            options.set_target_file_size_base(32 << 20);
            options.set_block_based_table_factory(&blocks);
            ColumnFamilyDescriptor::new(space.name(), options)
        };
        let default =
            ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Options::default());
        Keyspace::ALL
            .into_iter()
            .map(family)
            .chain([default])
            .collect()
    }
}

/// Bits per version in the filters of table files: about one in a hundred files is looked into for nothing.
const FILTER_BITS: f64 = 10.0;
/// Part of a memtable's memory that its filter takes.
const MEMTABLE_FILTER: f64 = 0.05;

/// Filters that know which keys have versions in a file, so that the first write of a key looks into none.
fn filter_by_key(options: &mut Options, blocks: &mut BlockBasedOptions) {
    let all_versions =
        SliceTransform::create("corten.versions-of-key", key_part, Some(has_revision));
    options.set_prefix_extractor(all_versions);
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_FILTER);
    blocks.set_bloom_filter(FILTER_BITS, false);
    blocks.set_whole_key_filtering(false);
}

/// What all rows of one user's key begin with, and no others.
pub(super) fn key_part(row: &[u8]) -> &[u8] {
    &row[..row.len().saturating_sub(REVISION_BYTES)]
}

fn has_revision(row: &[u8]) -> bool {
    row.len() > REVISION_BYTES
}
