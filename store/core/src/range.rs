//! The Range request: options over a walk.
//! Not here: which revision is current; the caller passes it, so that one function serves reads and transactions.
//! Invariant: `count` is the number of living keys in the range, whatever the limit and the filters.

use std::{cmp::Ordering, ops::ControlFlow};

use bytes::Bytes;
use corten_proto::etcd::{
    etcdserverpb::{
        RangeRequest, RangeResponse, ResponseHeader,
        range_request::{SortOrder, SortTarget},
    },
    mvccpb::KeyValue,
};

use crate::{
    backend::Read,
    codec,
    counts::Counts,
    error::Error,
    ids::Revision,
    read::{self, Live},
    span::Span,
};

/// Answers a Range. `current` is the newest revision of the view, `compacted` the oldest that is whole. With `counts`, a
/// page goes on from what the page before it counted.
pub(crate) fn range(
    view: &dyn Read,
    current: Revision,
    compacted: Revision,
    request: &RangeRequest,
    counts: Option<&Counts>,
) -> Result<RangeResponse, Error> {
    let at = read_revision(request.revision, current, compacted)?;
    let mut response = match Span::new(&request.key, &request.range_end) {
        Span::Key(key) => return Ok(of_one(current, read::get(view, &key, at)?, request)),
        span => many(view, &span, at, request, counts)?,
    };
    response.header = Some(header(current));
    Ok(response)
}

fn header(current: Revision) -> ResponseHeader {
    ResponseHeader {
        revision: current.get(),
        ..Default::default()
    }
}

/// The answer to a request for one key, whose version at the revision asked for is given.
pub(crate) fn of_one(
    current: Revision,
    live: Option<Live>,
    request: &RangeRequest,
) -> RangeResponse {
    let mut response = RangeResponse {
        header: Some(header(current)),
        ..Default::default()
    };
    let Some(live) = live else {
        return response;
    };
    response.count = 1;
    if !request.count_only && Filter::of(request).passes(&live) {
        let key = request.key.clone();
        response.kvs.push(key_value(key, live, request.keys_only));
    }
    response
}

/// Which revision a request reads: checks it against what exists and what is kept.
pub(crate) fn read_revision(
    asked: i64,
    current: Revision,
    compacted: Revision,
) -> Result<Revision, Error> {
    if asked <= 0 {
        return Ok(current);
    }
    let asked = Revision::new(asked);
    if asked > current {
        return Err(Error::FutureRevision);
    }
    if asked < compacted {
        Err(Error::Compacted)
    } else {
        Ok(asked)
    }
}

fn many(
    view: &dyn Read,
    span: &Span,
    at: Revision,
    request: &RangeRequest,
    counts: Option<&Counts>,
) -> Result<RangeResponse, Error> {
    let mut response = RangeResponse::default();
    let known = counts.and_then(|counts| counts.get(at, span));
    if let (Some(count), true) = (known, request.count_only) {
        response.count = count;
        return Ok(response);
    }
    // What is left of a walk whose answer is complete is only for counting.
    let on = if known.is_some() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    };
    let filter = Filter::of(request);
    let order = Order::of(request);
    let limit = usize::try_from(request.limit)
        .ok()
        .filter(|limit| *limit > 0);
    // In key order the walk itself can stop collecting; any other order needs all candidates.
    let collect_max = limit.filter(|_| order.is_natural()).unwrap_or(usize::MAX);
    // Values are needed in the answer, or to sort by them.
    let drop_value = request.keys_only && !matches!(order, Order::By(SortTarget::Value, _));
    read::walk(view, span, at, |cursor, modified| {
        response.count += 1;
        if request.count_only {
            return Ok(ControlFlow::Continue(()));
        }
        if response.kvs.len() >= collect_max && filter.is_open() {
            response.more = true;
            return Ok(on);
        }
        if let Some(live) = read::live(cursor, modified)?.filter(|live| filter.passes(live)) {
            if response.kvs.len() >= collect_max {
                response.more = true;
                return Ok(on);
            } else {
                let key = codec::user_key(&cursor.key_bytes())?;
                response.kvs.push(key_value(key, live, drop_value));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    response.count = known.unwrap_or(response.count);
    if let (Some(counts), Some(last), true) = (counts, response.kvs.last(), response.more)
        && filter.is_open()
    {
        let given = i64::try_from(response.kvs.len()).unwrap_or(i64::MAX);
        counts.note(at, span, &last.key, response.count - given);
    }
    order.sort(&mut response.kvs);
    if let Some(limit) = limit.filter(|limit| response.kvs.len() > *limit) {
        response.kvs.truncate(limit);
        response.more = true;
    }
    if request.keys_only && !drop_value {
        response
            .kvs
            .iter_mut()
            .for_each(|kv| kv.value = Bytes::new());
    }
    Ok(response)
}

fn key_value(key: Bytes, live: Live, drop_value: bool) -> KeyValue {
    let mut kv = live.into_key_value(key);
    if drop_value {
        kv.value = Bytes::new();
    }
    kv
}

/// Bounds on modification and creation revisions; zero is no bound.
struct Filter {
    modified: (i64, i64),
    created: (i64, i64),
}

impl Filter {
    fn of(request: &RangeRequest) -> Self {
        Self {
            modified: (request.min_mod_revision, request.max_mod_revision),
            created: (request.min_create_revision, request.max_create_revision),
        }
    }

    fn is_open(&self) -> bool {
        self.modified == (0, 0) && self.created == (0, 0)
    }

    fn passes(&self, live: &Live) -> bool {
        let within = |(min, max): (i64, i64), value: i64| {
            (min == 0 || value >= min) && (max == 0 || value <= max)
        };
        within(self.modified, live.modified.get()) && within(self.created, live.created.get())
    }
}

/// Order of the answer.
enum Order {
    Natural,
    By(SortTarget, SortOrder),
}

impl Order {
    fn of(request: &RangeRequest) -> Self {
        match (request.sort_target(), request.sort_order()) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => Self::Natural,
            // A target without an order means ascending.
            (target, SortOrder::None) => Self::By(target, SortOrder::Ascend),
            (target, order) => Self::By(target, order),
        }
    }

    fn is_natural(&self) -> bool {
        matches!(self, Self::Natural)
    }

    fn sort(&self, kvs: &mut [KeyValue]) {
        let Self::By(target, order) = *self else {
            return;
        };
        let compare = |a: &KeyValue, b: &KeyValue| -> Ordering {
            match target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            }
        };
        if order == SortOrder::Descend {
            kvs.sort_by(|a, b| compare(b, a));
        } else {
            kvs.sort_by(compare);
        }
    }
}
