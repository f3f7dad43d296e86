//! Reading the store: any number of cheap handles beside the single writer.
//! Not here: linearizability; the shell waits for its read barrier first.
//! Invariant: every read sees exactly one revision, however many rows it takes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
};

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb::{
    AlarmMember, AlarmType, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use parking_lot::RwLock;

use crate::{
    auth::{Auth, Caller},
    backend::{self, Backend, BackendError, Batch, Keyspace, Read, Size},
    codec,
    compaction::Compaction,
    counts::Counts,
    error::Error,
    hash::{self, KvHash},
    heads::Heads,
    history,
    ids::{LeaseId, Revision},
    lease_rows::{self, LeaseRecord},
    range,
    span::Span,
    state::State,
    txn,
    writer::{Alarms, Writer},
};

/// Sizes that an operator may want to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for the newest versions of keys that were written lately, in bytes.
    pub head_cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            head_cache_bytes: 32 << 20,
        }
    }
}

/// A handle for reading. Clones share everything.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    counts: Counts,
    pub(crate) heads: Heads,
    /// Bytes of rows written since the start.
    written: AtomicU64,
    no_space: AtomicBool,
    /// Whether the CORRUPT alarm is on for anybody.
    corrupt: AtomicBool,
    revision: AtomicI64,
    compacted: AtomicI64,
    level: AtomicU32,
    /// Whether users are told apart: what every request asks.
    auth_enabled: AtomicBool,
    auth: RwLock<Arc<Auth>>,
}

impl Shared {
    /// Writes a batch and counts its bytes.
    pub(crate) fn write(&self, batch: Batch) -> backend::Result<()> {
        let bytes = batch.bytes();
        self.backend.write(batch)?;
        self.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a committed state visible. The compacted revision goes first: a reader checks it last.
    pub(crate) fn publish(&self, state: &State, alarms: &Alarms) {
        self.no_space.store(alarms.no_space(), Ordering::Release);
        self.corrupt.store(alarms.corrupt(), Ordering::Release);
        self.compacted
            .store(state.compacted.get(), Ordering::Release);
        self.revision.store(state.revision.get(), Ordering::Release);
        self.level.store(state.level, Ordering::Release);
    }

    /// Makes changed users and roles visible.
    pub(crate) fn publish_auth(&self, auth: &Arc<Auth>) {
        *self.auth.write() = Arc::clone(auth);
        self.auth_enabled
            .store(auth.is_enabled(), Ordering::Release);
    }
}

impl Store {
    /// `open_with` the usual options.
    pub fn open(backend: Arc<dyn Backend>) -> backend::Result<(Self, Writer)> {
        Self::open_with(backend, StoreOptions::default())
    }

    /// Opens a state, with its only writer. Reads one row, however large the state is.
    pub fn open_with(
        backend: Arc<dyn Backend>,
        options: StoreOptions,
    ) -> backend::Result<(Self, Writer)> {
        let state = State::load(backend.as_ref())?;
        let shared = Arc::new(Shared {
            backend,
            counts: Counts::default(),
            heads: Heads::new(options.head_cache_bytes),
            written: AtomicU64::new(0),
            no_space: AtomicBool::new(false),
            corrupt: AtomicBool::new(false),
            revision: AtomicI64::new(state.revision.get()),
            compacted: AtomicI64::new(state.compacted.get()),
            level: AtomicU32::new(state.level),
            auth_enabled: AtomicBool::new(false),
            auth: RwLock::default(),
        });
        let writer = Writer::load(Arc::clone(&shared))?;
        shared.publish(&writer.state, &writer.alarms);
        shared.publish_auth(&writer.auth);
        Ok((Self { shared }, writer))
    }

    /// Newest revision that is committed here.
    pub fn revision(&self) -> Revision {
        Revision::new(self.shared.revision.load(Ordering::Acquire))
    }

    /// Oldest revision that can still be read.
    pub fn compacted(&self) -> Revision {
        Revision::new(self.shared.compacted.load(Ordering::Acquire))
    }

    /// Size of the backend.
    pub fn size(&self) -> Size {
        self.shared.backend.size()
    }

    /// Bytes of rows written by this process: between two looks at `size`, the store has grown by no more.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Whether the NOSPACE alarm is on, of any member.
    pub fn no_space(&self) -> bool {
        self.shared.no_space.load(Ordering::Acquire)
    }

    /// Whether the CORRUPT alarm is on for a member. Costs nothing while it is on for nobody.
    pub fn is_corrupt(&self, member: u64) -> bool {
        let is_it =
            |alarm: &AlarmMember| alarm.member_id == member && alarm.alarm() == AlarmType::Corrupt;
        // A state that cannot be read is no better than a corrupt one.
        self.shared.corrupt.load(Ordering::Acquire)
            && self
                .alarms()
                .map_or(true, |alarms| alarms.iter().any(is_it))
    }

    /// The level that the cluster has agreed on.
    pub fn level(&self) -> u32 {
        self.shared.level.load(Ordering::Acquire)
    }

    /// Whether users are told apart. Costs one load.
    pub fn auth_enabled(&self) -> bool {
        self.shared.auth_enabled.load(Ordering::Acquire)
    }

    /// Users and roles as they are now.
    pub fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.shared.auth.read())
    }

    /// Whether a transaction that only reads is allowed.
    pub fn check_txn(&self, caller: Caller<'_>, request: &TxnRequest) -> Result<(), Error> {
        let lease_keys = |id| self.lease_keys(LeaseId(id));
        self.auth().check_txn(caller, request, &lease_keys)
    }

    /// Whether the caller may write all that hangs on a lease.
    pub fn check_lease_write(&self, caller: Caller<'_>, id: LeaseId) -> Result<(), Error> {
        self.auth().check_lease(caller, || self.lease_keys(id))
    }

    /// The backend itself: for backups and hashes that outlive a call.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.shared.backend
    }

    /// Answers a Range at one revision.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        if let Some(response) = self.range_of_head(request) {
            return Ok(response);
        }
        self.consistently(|view, revision, compacted| {
            let counts = Some(&self.shared.counts);
            range::range(view, revision, compacted, request, counts)
        })
    }

    /// Answers for one key at the newest revision, if its newest version is in memory.
    fn range_of_head(&self, request: &RangeRequest) -> Option<RangeResponse> {
        if !request.range_end.is_empty() || request.revision > 0 {
            return None;
        }
        let revision = self.revision();
        let head = self.shared.heads.get(&request.key, revision)?;
        Some(range::of_one(revision, head.live, request))
    }

    /// Answers a transaction that only reads.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        self.consistently(|view, revision, compacted| txn::read(view, revision, compacted, request))
    }

    /// Changes of the spans from a revision on; see `history`.
    pub fn history(
        &self,
        from: Revision,
        interest: &[(Revision, &Span)],
    ) -> Result<history::Chunk, Error> {
        self.consistently(|view, revision, compacted| {
            history::read(view, from, revision, compacted, interest)
        })
    }

    /// One lease as granted.
    pub fn lease(&self, id: LeaseId) -> Result<Option<LeaseRecord>, Error> {
        Ok(lease_rows::get(
            self.shared.backend.snapshot().as_ref(),
            id,
        )?)
    }

    /// All leases.
    pub fn leases(&self) -> Result<Vec<(LeaseId, LeaseRecord)>, Error> {
        Ok(lease_rows::all(self.shared.backend.snapshot().as_ref())?)
    }

    /// Keys that hang on a lease.
    pub fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Error> {
        Ok(lease_rows::keys(
            self.shared.backend.snapshot().as_ref(),
            id,
        )?)
    }

    /// Alarms that are on.
    pub fn alarms(&self) -> Result<Vec<AlarmMember>, Error> {
        Ok(alarms(self.shared.backend.snapshot().as_ref())?)
    }

    /// Hash of the logical content at a revision (0 or less: the newest). Equal on members that agree.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, Error> {
        self.consistently(|view, current, compacted| {
            let at = range::read_revision(revision, current, compacted)?;
            Ok(hash::kv(view, at, compacted)?)
        })
    }

    /// Hash of every row as stored.
    pub fn hash(&self) -> Result<u32, Error> {
        Ok(hash::rows(self.shared.backend.snapshot().as_ref())?)
    }

    /// Begins to give back the space of what is compacted. Steps may run beside the writer.
    pub fn compaction(&self) -> Compaction {
        Compaction::new(Arc::clone(&self.shared.backend), self.compacted())
    }

    /// Runs a read against a snapshot that holds `revision` whole: a compaction that slips in between is noticed.
    fn consistently<T>(
        &self,
        read: impl Fn(&dyn Read, Revision, Revision) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let revision = self.revision();
            let snapshot = self.shared.backend.snapshot();
            let compacted = self.compacted();
            if compacted <= revision {
                return read(snapshot.as_ref(), revision, compacted);
            }
        }
    }
}

/// Alarm rows.
pub(crate) fn alarms(view: &dyn Read) -> backend::Result<Vec<AlarmMember>> {
    let mut found = Vec::new();
    let mut cursor = view.scan(
        Keyspace::Meta,
        &[codec::META_ALARM],
        Some(&[codec::META_ALARM + 1]),
    )?;
    while let Some(row) = cursor.key() {
        let (member_id, alarm) = codec::alarm_of_row(row)
            .ok_or_else(|| BackendError::corrupt("alarm row of odd length"))?;
        found.push(AlarmMember { member_id, alarm });
        cursor.advance()?;
    }
    Ok(found)
}
