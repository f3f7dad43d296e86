//! What can be refused from the request alone, before it is proposed: empty keys, contradictions, limits, duplicates.
//! Not here: refusals that depend on the state; those come from applying.
//! Invariant: after `txn` passes, no branch of the transaction can change one key twice.

use std::collections::BTreeSet;

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

use crate::{error::Error, span::Span};

/// etcd's default for `--max-txn-ops`; clients size their batches by it.
pub const TXN_OPS_MAX: usize = 128;
/// etcd's default for `--max-request-bytes`: what a log entry may carry.
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;
/// The longest time to live that etcd grants, in seconds.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// Checks a Range.
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(Error::InvalidSortOption)
    }
}

/// Checks a Put.
pub fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a DeleteRange.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a Txn with everything nested in it.
pub fn txn(request: &TxnRequest) -> Result<(), Error> {
    shape(request, TXN_OPS_MAX)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

/// Whether a transaction can only read, whichever branch it takes.
pub fn is_read_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match &op.request {
            Some(Request::RequestRange(_)) | None => true,
            Some(Request::RequestTxn(nested)) => is_read_only(nested),
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
        })
}

/// Whether some branch of a transaction puts: what the NOSPACE alarm refuses.
pub fn may_put(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_)) => true,
            Some(Request::RequestTxn(nested)) => may_put(nested),
            _ => false,
        })
}

/// Keys and limits. The operations allowed shrink with each level, as etcd counts them, which also bounds the depth.
fn shape(request: &TxnRequest, ops_max: usize) -> Result<(), Error> {
    let widest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if widest > ops_max {
        return Err(Error::TooManyOps);
    }
    if request
        .compare
        .iter()
        .any(|compare: &Compare| compare.key.is_empty())
    {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(nested)) => range(nested)?,
            Some(Request::RequestPut(nested)) => put(nested)?,
            Some(Request::RequestDeleteRange(nested)) => delete_range(nested)?,
            Some(Request::RequestTxn(nested)) => shape(nested, ops_max - widest)?,
            // An operation without content is an operation this server does not know.
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may change.
#[derive(Default)]
struct Changed {
    puts: BTreeSet<Bytes>,
    deletes: Vec<Span>,
}

impl Changed {
    fn deletes_key(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|span| span.contains(key))
    }

    /// Refuses what both sets could do to one key. Two deletions are fine: the second finds nothing.
    fn refuse_overlap(&self, other: &Self) -> Result<(), Error> {
        let clash = other
            .puts
            .iter()
            .any(|key| self.puts.contains(key) || self.deletes_key(key))
            || self.puts.iter().any(|key| other.deletes_key(key));
        if clash {
            Err(Error::DuplicateKey)
        } else {
            Ok(())
        }
    }

    fn add(&mut self, other: Self) {
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}

/// Gathers what one list may change. The two branches of a nested transaction exclude each other, so they may overlap.
fn changes(ops: &[RequestOp]) -> Result<Changed, Error> {
    let mut all = Changed::default();
    for op in ops {
        let mut one = Changed::default();
        match &op.request {
            Some(Request::RequestPut(put)) => {
                one.puts.insert(put.key.clone());
            }
            Some(Request::RequestDeleteRange(delete)) => {
                one.deletes.push(Span::new(&delete.key, &delete.range_end));
            }
            Some(Request::RequestTxn(nested)) => {
                one = changes(&nested.success)?;
                one.add(changes(&nested.failure)?);
            }
            Some(Request::RequestRange(_)) | None => {}
        }
        all.refuse_overlap(&one)?;
        all.add(one);
    }
    Ok(all)
}
