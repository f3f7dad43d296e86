//! What the core asks of a storage engine: ordered rows in named keyspaces, snapshots, atomic batches.
//! Not here: revisions or users' keys; a backend knows only bytes.
//! Invariant: a batch becomes visible whole or not at all, and a snapshot never changes.

mod batch;

use bytes::Bytes;

pub use batch::Batch;

/// The last bytes of every row of `Keyspace::Key`: its revision. What is before them is the same for all versions of a key
/// and for no other key, so that an engine may file them together.
pub const REVISION_BYTES: usize = 8;

/// A namespace of rows. Each is ordered by bytes on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyspace {
    /// (escaped key, descending revision) to record.
    Key,
    /// (revision, number within it) to key: watch history, and the work list of compaction.
    Rev,
    /// (lease, key) to nothing: what hangs on a lease.
    Lease,
    /// State, membership, leases, alarms.
    Meta,
}

impl Keyspace {
    /// All keyspaces, in a fixed order. A backup that leaves one out is broken.
    pub const ALL: [Self; 4] = [Self::Key, Self::Rev, Self::Lease, Self::Meta];

    /// Stable name, fit for a column family.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Rev => "rev",
            Self::Lease => "lease",
            Self::Meta => "meta",
        }
    }

    pub(crate) const fn slot(self) -> usize {
        match self {
            Self::Key => 0,
            Self::Rev => 1,
            Self::Lease => 2,
            Self::Meta => 3,
        }
    }
}

/// A failing engine. There is no recovery inside the core: the shell stops the member.
#[derive(Debug, thiserror::Error)]
#[error("storage backend: {what}{}", said(.cause))]
pub struct BackendError {
    /// What was tried.
    pub what: String,
    /// What the engine said. Printed and not linked as the source: it names the file, and most who tell of this error pass it
    /// on as text, through consensus or to a client.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

fn said(cause: &Option<Box<dyn std::error::Error + Send + Sync>>) -> String {
    cause
        .as_ref()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default()
}

impl BackendError {
    /// An error of the engine while doing `what`.
    pub fn new(
        what: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what: what.into(),
            cause: Some(cause.into()),
        }
    }

    /// Rows that cannot have been written by this code.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cause: None,
        }
    }
}

/// Shorthand of this module.
pub type Result<T> = std::result::Result<T, BackendError>;

/// A position in the ordered rows of one keyspace. It borrows rows, so that skipped values are never copied.
pub trait Cursor {
    /// The row under the cursor; none at the end of the scan.
    fn key(&self) -> Option<&[u8]>;
    /// The value under the cursor. Called only while `key` is some.
    fn value(&self) -> &[u8];
    /// The key as owned bytes; engines that keep `Bytes` avoid the copy.
    fn key_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.key().unwrap_or_default())
    }
    /// The value as owned bytes; engines that keep `Bytes` avoid the copy.
    fn value_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.value())
    }
    /// To the next row.
    fn advance(&mut self) -> Result<()>;
    /// Forward to the first row at or after `key`, within the bounds of the scan.
    fn seek(&mut self, key: &[u8]) -> Result<()>;
}

/// Reading rows.
pub trait Read {
    /// One row.
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>>;

    /// A cursor over `from..to`, standing on the first row. `to` none: to the end of the keyspace.
    fn scan(&self, space: Keyspace, from: &[u8], to: Option<&[u8]>)
    -> Result<Box<dyn Cursor + '_>>;

    /// The first row of `from..to`. Engines may have a quicker way than a fresh cursor.
    fn first(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>> {
        let cursor = self.scan(space, from, to)?;
        Ok(cursor
            .key()
            .is_some()
            .then(|| (cursor.key_bytes(), cursor.value_bytes())))
    }
}

/// Bytes on disk, for Status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// What the files take.
    pub allocated: u64,
    /// What live rows take, as far as the engine can tell.
    pub in_use: u64,
}

/// A storage engine. Reading it directly sees the newest state; only the single writer and a compaction may do that.
pub trait Backend: Read + Send + Sync + 'static {
    /// The present state, frozen.
    fn snapshot(&self) -> Box<dyn Read + Send + '_>;

    /// Writes all rows of the batch as one.
    fn write(&self, batch: Batch) -> Result<()>;

    /// How large the store is.
    fn size(&self) -> Size;

    /// Gives back at once what rows that are gone still take, where the engine would do it in its own time. May take long;
    /// reads and writes go on.
    fn reclaim(&self) -> Result<()> {
        Ok(())
    }
}
