//! The store as the API server sees it: keys, bytes, revisions and guarded transactions over etcd's v3 gRPC API.
//!
//! It knows no Kubernetes kind and no JSON; it encrypts and decrypts the values below encrypted prefixes, so that nobody
//! above can forget to. Invariant: a write is only ever sent with a guard on the revision it was computed from, and
//! therefore may be repeated after a lost answer: [`Store::commit`] tells "mine was applied" from "somebody else was first".

mod compact;
mod endpoints;
mod leases;
mod presence;
mod read_index;
mod txn;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use corten_api::meta::Revision;
use corten_proto::etcd::{etcdserverpb as pb, mvccpb};

pub use compact::compact_regularly;
pub use endpoints::{ConnectError, Endpoints};
pub use txn::{Committed, Guard, Op, Txn};
pub use watch::{Batch, Change, ProgressRequests, Watcher};

use crate::crypt::{Crypt, CryptError};

/// Upstream's root of all API objects; the watch and every object key live below it.
pub const ROOT: &str = "/registry/";

/// What the store's own signed numbers mean; it never hands out negative revisions.
fn revision_of(number: i64) -> Revision {
    Revision::new(u64::try_from(number).unwrap_or_default())
}

/// The store's number of a revision.
fn number_of(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}

/// What went wrong between the API server and its store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store did not answer in time or has no quorum")]
    Unavailable { source: tonic::Status },
    #[error("revision {revision} has been compacted")]
    Compacted { revision: Revision },
    #[error("revision {revision} is in the future")]
    FutureRevision { revision: Revision },
    #[error("the store refuses the request as too large")]
    TooLarge,
    #[error("the store has no space left")]
    NoSpace,
    #[error("the value of {key} cannot be decrypted")]
    Undecryptable { key: String, source: CryptError },
    #[error("encrypting the value of {key} failed")]
    Unencryptable { key: String, source: CryptError },
    #[error("the store refused the request")]
    Refused { source: tonic::Status },
    #[error("the store's answer lacks {what}")]
    Malformed { what: &'static str },
}

impl Error {
    fn from_status(status: tonic::Status, revision: Revision) -> Self {
        let message = status.message();
        if message.contains("required revision has been compacted") {
            return Self::Compacted { revision };
        }
        if message.contains("required revision is a future revision") {
            return Self::FutureRevision { revision };
        }
        if message.contains("request is too large") {
            return Self::TooLarge;
        }
        if message.contains("database space exceeded") {
            return Self::NoSpace;
        }
        if endpoints::is_transient(&status) {
            return Self::Unavailable { source: status };
        }
        Self::Refused { source: status }
    }
}

/// One key's current state, decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub key: String,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
}

/// A range of keys at one revision.
#[derive(Debug, Clone, Default)]
pub struct Range {
    pub items: Vec<Stored>,
    /// The revision at which the range was read; current unless asked for another.
    pub revision: Revision,
    /// Keys in the whole range, also those beyond the limit.
    pub count: i64,
    /// Whether the limit cut the range.
    pub more: bool,
    /// Keys of the range whose values cannot be decrypted: one of them must not hide the others.
    pub unreadable: Vec<Unreadable>,
    /// The last key that was read, readable or not: where the next page begins behind.
    pub last_key: Option<String>,
}

/// A value that is there but cannot be decrypted.
#[derive(Debug, Clone)]
pub struct Unreadable {
    pub key: String,
    pub source: CryptError,
}

impl From<Unreadable> for Error {
    fn from(value: Unreadable) -> Self {
        Self::Undecryptable {
            key: value.key,
            source: value.source,
        }
    }
}

/// What to read.
#[derive(Debug, Clone, Default)]
pub struct RangeQuery {
    pub start: String,
    /// Exclusive; empty reads `start` alone.
    pub end: String,
    /// None: linearizable, current.
    pub revision: Option<Revision>,
    /// 0: no limit.
    pub limit: i64,
}

impl RangeQuery {
    /// Everything below a prefix.
    pub fn prefix(prefix: &str) -> Self {
        Self {
            start: prefix.to_owned(),
            end: prefix_end(prefix),
            ..Self::default()
        }
    }
}

/// The first key behind all keys with this prefix.
pub fn prefix_end(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0x7f {
            bytes.push(last + 1);
            return String::from_utf8(bytes).expect("ASCII stays ASCII below 0x80");
        }
    }
    "\0".to_owned()
}

/// Handle to the store; clones share connections.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Endpoints,
    crypt: Option<Crypt>,
    leases: leases::Buckets,
    read_index: read_index::ReadIndex,
}

impl Store {
    /// A store behind these endpoints; values below [`crate::crypt::ENCRYPTED_PREFIXES`] are encrypted when a key is given.
    pub fn new(endpoints: Endpoints, crypt: Option<Crypt>) -> Self {
        Self {
            inner: Arc::new(Inner {
                endpoints,
                crypt,
                leases: leases::Buckets::default(),
                read_index: read_index::ReadIndex::default(),
            }),
        }
    }

    /// One key, linearizable.
    pub async fn get(&self, key: &str) -> Result<Option<Stored>, Error> {
        let query = RangeQuery {
            start: key.to_owned(),
            ..RangeQuery::default()
        };
        let mut range = self.range(&query).await?;
        match range.unreadable.pop() {
            Some(unreadable) => Err(unreadable.into()),
            None => Ok(range.items.pop()),
        }
    }

    /// A range of keys in key order.
    pub async fn range(&self, query: &RangeQuery) -> Result<Range, Error> {
        let revision = query.revision.unwrap_or_default();
        let request = pb::RangeRequest {
            key: query.start.clone().into(),
            range_end: query.end.clone().into(),
            revision: number_of(revision),
            limit: query.limit,
            ..Default::default()
        };
        let response = self
            .inner
            .endpoints
            .retrying(|endpoint| {
                let request = request.clone();
                async move { Ok(endpoint.kv().range(request).await?.into_inner()) }
            })
            .await
            .map_err(|status| Error::from_status(status, revision))?;
        let header = response.header.ok_or(Error::Malformed { what: "header" })?;
        let mut range = Range {
            revision: query.revision.unwrap_or(revision_of(header.revision)),
            count: response.count,
            more: response.more,
            ..Range::default()
        };
        for kv in response.kvs {
            range.last_key = Some(String::from_utf8_lossy(&kv.key).into_owned());
            match self.open(kv) {
                Ok(stored) => range.items.push(stored),
                Err(unreadable) => range.unreadable.push(unreadable),
            }
        }
        Ok(range)
    }

    /// Everything below a prefix, read in pages at one revision.
    pub async fn range_all(&self, prefix: &str) -> Result<Range, Error> {
        /// Keeps one answer far below the message limit even with the largest objects.
        const PAGE: i64 = 500;
        let mut query = RangeQuery::prefix(prefix);
        query.limit = PAGE;
        let mut whole = self.range(&query).await?;
        query.revision = Some(whole.revision);
        while whole.more {
            let last = whole
                .last_key
                .take()
                .ok_or(Error::Malformed { what: "keys" })?;
            query.start = format!("{last}\0");
            let page = self.range(&query).await?;
            whole.more = page.more;
            whole.last_key = page.last_key;
            whole.items.extend(page.items);
            whole.unreadable.extend(page.unreadable);
        }
        Ok(whole)
    }

    /// The store's current revision, linearizable. Readers that arrive together share one request.
    pub async fn current_revision(&self) -> Result<Revision, Error> {
        self.inner.read_index.read(&self.inner.endpoints).await
    }

    /// What keeps each member, in the order in which they are configured, from answering a read that all acknowledged writes
    /// are in; nothing for a healthy one.
    pub async fn ailments(&self) -> Vec<Option<String>> {
        let read = |member: endpoints::Member| async move {
            let nothing = pb::RangeRequest {
                key: b"health".to_vec().into(),
                ..Default::default()
            };
            member.kv().range(nothing).await
        };
        let answers = self.inner.endpoints.each(read).await;
        let ailment = |answer: Result<_, tonic::Status>| {
            answer.err().map(|status| status.message().to_owned())
        };
        answers.into_iter().map(ailment).collect()
    }

    /// Applies a transaction, repeating it over lost connections until its outcome is known.
    pub async fn commit(&self, txn: &Txn) -> Result<Committed, Error> {
        txn::commit(self, txn).await
    }

    /// Follows all changes below a prefix, from a revision on (inclusive).
    pub async fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher, Error> {
        Watcher::open(self.clone(), prefix, from).await
    }

    /// Forgets history before a revision.
    pub async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let request = pb::CompactionRequest {
            revision: number_of(revision),
            ..Default::default()
        };
        let endpoint = self.inner.endpoints.pick();
        let result = endpoint.kv().compact(request).await;
        result
            .map(|_| ())
            .map_err(|status| Error::from_status(status, revision))
    }

    /// A lease that lives at least `ttl`; calls within a minute share one.
    pub async fn lease(&self, ttl: Duration) -> Result<i64, Error> {
        self.inner.leases.get(&self.inner.endpoints, ttl).await
    }

    fn open(&self, kv: mvccpb::KeyValue) -> Result<Stored, Unreadable> {
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        let value = match &self.inner.crypt {
            Some(crypt) => crypt.open(&key, kv.value),
            None => Crypt::refuse_sealed(kv.value),
        };
        let value = value.map_err(|source| Unreadable {
            key: key.clone(),
            source,
        })?;
        Ok(Stored {
            key,
            value,
            create_revision: revision_of(kv.create_revision),
            mod_revision: revision_of(kv.mod_revision),
        })
    }

    fn seal(&self, key: &str, value: &Bytes) -> Result<Bytes, Error> {
        match &self.inner.crypt {
            Some(crypt) => crypt
                .seal(key, value)
                .map_err(|source| Error::Unencryptable {
                    key: key.to_owned(),
                    source,
                }),
            None => Ok(value.clone()),
        }
    }
}
