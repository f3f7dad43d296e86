//! How many bytes live under some prefixes, and whether more may come: a quota for one kind of keys, so that it does not
//! fill the store for all others.
//!
//! Counts what can be read at the newest revision, keys and values; not history, which compaction bounds, and not how the
//! engine packs it. Invariant: what was admitted and is under way counts as if it were there, so that no burst of this
//! member's clients gets past a limit unseen.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb::{PutRequest, RangeRequest, RequestOp, request_op::Request};
use corten_proto::etcd::mvccpb::{KeyValue, event::EventType};
use corten_store_core::{Changes, Error, Store};

/// Keys read at once when everything is counted anew: a page of the largest values stays below 200 MiB.
const PAGE: i64 = 128;

/// A limit for the keys that begin with something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixQuota {
    /// What keys begin with.
    pub prefix: Bytes,
    /// Bytes of keys and values.
    pub limit: u64,
}

/// One prefix, with what is there.
#[derive(Debug)]
struct Counter {
    quota: PrefixQuota,
    /// Signed, since a recount and what happens meanwhile may cross.
    used: AtomicI64,
    /// Admitted and not yet applied.
    under_way: AtomicI64,
    refused: AtomicU64,
}

/// What is shown of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixUsage {
    /// The prefix, as text.
    pub prefix: String,
    /// Its limit.
    pub limit: u64,
    /// Bytes that live under it.
    pub used: u64,
    /// Requests refused since the start.
    pub refused: u64,
}

/// All prefixes with a limit.
#[derive(Debug, Default)]
pub struct Usage {
    counters: Vec<Counter>,
}

/// Why a request does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "corten: the quota of prefix {prefix:?} is used up: {used} of {limit} bytes are taken, and this request needs {needs} more; \
     delete keys below it, or raise --prefix-quota"
)]
pub struct OverQuota {
    prefix: String,
    used: u64,
    limit: u64,
    needs: u64,
}

/// What an admitted request holds until it is applied.
#[derive(Debug, Default)]
pub struct Reservation<'a>(Vec<(&'a Counter, i64)>);

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        for (counter, bytes) in &self.0 {
            counter.under_way.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

fn size(kv: &KeyValue) -> i64 {
    signed(kv.key.len() + kv.value.len())
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Usage {
    /// Counts what is there.
    pub fn new(quotas: Vec<PrefixQuota>, store: &Store) -> Result<Self, Error> {
        let counter = |quota| Counter {
            quota,
            used: AtomicI64::new(0),
            under_way: AtomicI64::new(0),
            refused: AtomicU64::new(0),
        };
        let usage = Self {
            counters: quotas.into_iter().map(counter).collect(),
        };
        usage.recount(store)?;
        Ok(usage)
    }

    /// Counts everything anew: after the content was replaced. Blocks.
    pub fn recount(&self, store: &Store) -> Result<(), Error> {
        for counter in &self.counters {
            let mut used = 0;
            let mut page = RangeRequest {
                key: counter.quota.prefix.clone(),
                range_end: end_of(&counter.quota.prefix),
                limit: PAGE,
                serializable: true,
                ..Default::default()
            };
            loop {
                let answer = store.range(&page)?;
                used += answer.kvs.iter().map(size).sum::<i64>();
                let Some(last) = answer.kvs.last().filter(|_| answer.more) else {
                    break;
                };
                page.key = [&last.key[..], &[0]].concat().into();
                // All pages are of one revision.
                page.revision = answer.header.as_ref().map_or(0, |header| header.revision);
            }
            counter.used.store(used, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Follows a committed round.
    pub fn follow(&self, changes: &Changes) {
        if self.counters.is_empty() {
            return;
        }
        for event in changes.events.iter().flat_map(|round| round.events.iter()) {
            let Some(kv) = &event.kv else { continue };
            let put = event.r#type() == EventType::Put;
            let more = if put { size(kv) } else { 0 };
            let less = event.prev_kv.as_ref().map_or(0, size);
            for counter in self.matching(&kv.key) {
                counter.used.fetch_add(more - less, Ordering::Relaxed);
            }
        }
    }

    fn matching<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Counter> {
        let matches = |counter: &&Counter| key.starts_with(&counter.quota.prefix);
        self.counters.iter().filter(matches)
    }

    /// Whether a put fits.
    pub fn admit_put<'a>(
        &'a self,
        store: &Store,
        put: &PutRequest,
    ) -> Result<Reservation<'a>, OverQuota> {
        let op = |put: &PutRequest| RequestOp {
            request: Some(Request::RequestPut(put.clone())),
        };
        if self.matching(&put.key).next().is_none() {
            return Ok(Reservation::default());
        }
        self.admit(store, &[op(put)], &[])
    }

    /// Whether a transaction fits, whichever of its branches is taken.
    pub fn admit<'a>(
        &'a self,
        store: &Store,
        success: &[RequestOp],
        failure: &[RequestOp],
    ) -> Result<Reservation<'a>, OverQuota> {
        let mut held = Reservation::default();
        for counter in &self.counters {
            let needs = |grows: &dyn Fn(&PutRequest) -> i64| {
                let prefix = &counter.quota.prefix;
                cost(success, prefix, grows).max(cost(failure, prefix, grows))
            };
            let whole = needs(&|put| signed(put.key.len() + put.value.len()));
            if whole == 0 {
                continue;
            }
            if !counter.fits(whole) {
                // Near the limit what counts is what comes on top: replacing a value by one as large must go on.
                let growth = needs(&|put| growth(store, put));
                if growth > 0 && !counter.fits(growth) {
                    counter.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(counter.over(growth));
                }
                counter.hold(growth.max(0), &mut held);
            } else {
                counter.hold(whole, &mut held);
            }
        }
        Ok(held)
    }

    /// All prefixes, for those who look.
    pub fn report(&self) -> Vec<PrefixUsage> {
        let show = |counter: &Counter| PrefixUsage {
            prefix: String::from_utf8_lossy(&counter.quota.prefix).into_owned(),
            limit: counter.quota.limit,
            used: counter.used(),
            refused: counter.refused.load(Ordering::Relaxed),
        };
        self.counters.iter().map(show).collect()
    }
}

impl Counter {
    fn used(&self) -> u64 {
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    fn fits(&self, bytes: i64) -> bool {
        let limit = i64::try_from(self.quota.limit).unwrap_or(i64::MAX);
        let used = self.used.load(Ordering::Relaxed);
        let under_way = self.under_way.load(Ordering::Relaxed);
        used.saturating_add(under_way).saturating_add(bytes) <= limit
    }

    fn hold<'a>(&'a self, bytes: i64, held: &mut Reservation<'a>) {
        self.under_way.fetch_add(bytes, Ordering::Relaxed);
        held.0.push((self, bytes));
    }

    fn over(&self, needs: i64) -> OverQuota {
        OverQuota {
            prefix: String::from_utf8_lossy(&self.quota.prefix).into_owned(),
            used: self.used(),
            limit: self.quota.limit,
            needs: u64::try_from(needs).unwrap_or(0),
        }
    }
}

/// What a branch puts under a prefix; of nested transactions the larger branch.
fn cost(ops: &[RequestOp], prefix: &[u8], grows: &dyn Fn(&PutRequest) -> i64) -> i64 {
    ops.iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(put)) if put.key.starts_with(prefix) => grows(put),
            Some(Request::RequestTxn(nested)) => {
                let success = cost(&nested.success, prefix, grows);
                success.max(cost(&nested.failure, prefix, grows))
            }
            _ => 0,
        })
        .fold(0, i64::saturating_add)
}

/// What a put adds to what is there.
fn growth(store: &Store, put: &PutRequest) -> i64 {
    if put.ignore_value {
        return 0;
    }
    let old = store.range(&RangeRequest {
        key: put.key.clone(),
        serializable: true,
        ..Default::default()
    });
    let old = old.ok().and_then(|answer| answer.kvs.first().map(size));
    signed(put.key.len() + put.value.len()) - old.unwrap_or(0)
}

/// The end of a prefix's range; zero is etcd's word for "to the last key".
fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

#[cfg(test)]
mod tests;
