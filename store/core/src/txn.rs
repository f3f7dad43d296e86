//! Transactions: compare, choose, check, then execute.
//! Not here: refusals from the request alone (`check`).
//! Invariant: all comparisons, nested ones included, see the state before the transaction, and nothing is written
//! until every operation that will run is known to succeed.

use std::ops::ControlFlow;

use corten_proto::etcd::etcdserverpb::{
    Compare, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};

use crate::{
    apply::Work,
    backend::{self, Read},
    check,
    error::Error,
    ids::{LeaseId, Revision},
    range,
    read::{self, Live},
    span::Span,
};

/// Which branch each transaction takes, nested ones in order of appearance within the branch taken.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

/// Runs a transaction that has no writes.
pub(crate) fn read(
    view: &dyn Read,
    current: Revision,
    compacted: Revision,
    request: &TxnRequest,
) -> Result<TxnResponse, Error> {
    let path = choose(view, &|key| read::get(view, key, current), current, request)?;
    let ranges = |range: &RangeRequest| range::range(view, current, compacted, range, None);
    check_ranges(request, &path, current, compacted)?;
    run_read(&ranges, request, &path, current)
}

/// Runs a transaction as a command of the log.
pub(crate) fn write(work: &mut Work, request: &TxnRequest) -> Result<TxnResponse, Error> {
    check::txn(request)?;
    if work.alarms.no_space() && check::may_put(request) {
        return Err(Error::NoSpace);
    }
    let path = choose(
        work.reader(),
        &|key| work.latest(key),
        work.state.revision,
        request,
    )?;
    check_ranges(request, &path, work.state.revision, work.state.compacted)?;
    check_puts(work, request, &path)?;
    let mut response = run_write(work, request, &path)?;
    response.header = Some(work.finish());
    Ok(response)
}

fn branch<'a>(request: &'a TxnRequest, path: &Path) -> &'a [RequestOp] {
    if path.succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// Finds the version of a key that comparisons see.
type Latest<'a> = &'a dyn Fn(&[u8]) -> backend::Result<Option<Live>>;

fn choose(
    view: &dyn Read,
    latest: Latest<'_>,
    current: Revision,
    request: &TxnRequest,
) -> Result<Path, Error> {
    let mut path = Path {
        succeeded: true,
        nested: Vec::new(),
    };
    for compare in &request.compare {
        if !holds(view, latest, current, compare)? {
            path.succeeded = false;
            break;
        }
    }
    for op in branch(request, &path) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            path.nested.push(choose(view, latest, current, nested)?);
        }
    }
    Ok(path)
}

/// A comparison over a range holds when it holds for every key; over nothing, when it holds for an absent key.
fn holds(
    view: &dyn Read,
    latest: Latest<'_>,
    current: Revision,
    compare: &Compare,
) -> Result<bool, Error> {
    let span = Span::new(&compare.key, &compare.range_end);
    let mut any = false;
    let mut all = true;
    match &span {
        Span::Key(key) => {
            if let Some(live) = latest(key)? {
                any = true;
                all = matches(compare, &live);
            }
        }
        Span::Range { .. } => read::walk(view, &span, current, |cursor, modified| {
            if let Some(live) = read::live(cursor, modified)? {
                any = true;
                all = matches(compare, &live);
            }
            Ok(if all {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?,
    }
    if any {
        return Ok(all);
    }
    // The wire cannot tell an absent value from an empty one, so no comparison of values holds for an absent key.
    Ok(compare.target() != CompareTarget::Value && matches(compare, &absent()))
}

fn absent() -> Live {
    Live {
        modified: Revision::ZERO,
        created: Revision::ZERO,
        version: 0,
        lease: LeaseId::NONE,
        value: bytes::Bytes::new(),
    }
}

fn matches(compare: &Compare, live: &Live) -> bool {
    let number = |own: i64, wanted: Option<i64>| own.cmp(&wanted.unwrap_or(0));
    let union = compare.target_union.as_ref();
    let order = match compare.target() {
        CompareTarget::Version => number(
            live.version,
            union.and_then(|u| {
                if let TargetUnion::Version(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
        ),
        CompareTarget::Create => number(
            live.created.get(),
            union.and_then(|u| {
                if let TargetUnion::CreateRevision(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
        ),
        CompareTarget::Mod => number(
            live.modified.get(),
            union.and_then(|u| {
                if let TargetUnion::ModRevision(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
        ),
        CompareTarget::Lease => number(
            live.lease.0,
            union.and_then(|u| {
                if let TargetUnion::Lease(v) = u {
                    Some(*v)
                } else {
                    None
                }
            }),
        ),
        CompareTarget::Value => {
            let wanted = union.and_then(|u| {
                if let TargetUnion::Value(v) = u {
                    Some(v.as_ref())
                } else {
                    None
                }
            });
            live.value.as_ref().cmp(wanted.unwrap_or_default())
        }
    };
    match compare.result() {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}

fn check_ranges(
    request: &TxnRequest,
    path: &Path,
    current: Revision,
    compacted: Revision,
) -> Result<(), Error> {
    visit(request, path, &mut |op| {
        if let Request::RequestRange(range) = op {
            range::read_revision(range.revision, current, compacted)?;
        }
        Ok(())
    })
}

fn check_puts(work: &Work, request: &TxnRequest, path: &Path) -> Result<(), Error> {
    visit(request, path, &mut |op| {
        if let Request::RequestPut(put) = op {
            work.check_put(put)?;
        }
        Ok(())
    })
}

/// Every operation that will run, except the nested transactions themselves.
fn visit(
    request: &TxnRequest,
    path: &Path,
    each: &mut dyn FnMut(&Request) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut nested_paths = path.nested.iter();
    for op in branch(request, path)
        .iter()
        .filter_map(|op| op.request.as_ref())
    {
        match op {
            Request::RequestTxn(nested) => {
                let nested_path = nested_paths
                    .next()
                    .expect("`choose` made one path per nested txn");
                visit(nested, nested_path, each)?;
            }
            op => each(op)?,
        }
    }
    Ok(())
}

fn run_read(
    range: &dyn Fn(&RangeRequest) -> Result<corten_proto::etcd::etcdserverpb::RangeResponse, Error>,
    request: &TxnRequest,
    path: &Path,
    current: Revision,
) -> Result<TxnResponse, Error> {
    let mut nested_paths = path.nested.iter();
    let mut responses = Vec::new();
    for op in branch(request, path)
        .iter()
        .filter_map(|op| op.request.as_ref())
    {
        let response = match op {
            Request::RequestRange(nested) => Response::ResponseRange(range(nested)?),
            Request::RequestTxn(nested) => {
                let nested_path = nested_paths
                    .next()
                    .expect("`choose` made one path per nested txn");
                Response::ResponseTxn(run_read(range, nested, nested_path, current)?)
            }
            // The caller sends writing transactions through the log; the branch that writes may not run here.
            Request::RequestPut(_) | Request::RequestDeleteRange(_) => {
                return Err(Error::UnknownCommand);
            }
        };
        responses.push(ResponseOp {
            response: Some(response),
        });
    }
    let header = Some(ResponseHeader {
        revision: current.get(),
        ..Default::default()
    });
    Ok(TxnResponse {
        header,
        succeeded: path.succeeded,
        responses,
    })
}

fn run_write(work: &mut Work, request: &TxnRequest, path: &Path) -> Result<TxnResponse, Error> {
    let mut nested_paths = path.nested.iter();
    let mut responses = Vec::new();
    for op in branch(request, path)
        .iter()
        .filter_map(|op| op.request.as_ref())
    {
        let response = match op {
            Request::RequestRange(nested) => Response::ResponseRange(range::range(
                work.reader(),
                work.visible_revision(),
                work.state.compacted,
                nested,
                None,
            )?),
            Request::RequestPut(put) => {
                let mut response = work.put(put)?;
                response.header = Some(visible_header(work));
                Response::ResponsePut(response)
            }
            Request::RequestDeleteRange(delete) => {
                let mut response = work.delete_range(delete)?;
                response.header = Some(visible_header(work));
                Response::ResponseDeleteRange(response)
            }
            Request::RequestTxn(nested) => {
                let nested_path = nested_paths
                    .next()
                    .expect("`choose` made one path per nested txn");
                Response::ResponseTxn(run_write(work, nested, nested_path)?)
            }
        };
        responses.push(ResponseOp {
            response: Some(response),
        });
    }
    Ok(TxnResponse {
        header: Some(visible_header(work)),
        succeeded: path.succeeded,
        responses,
    })
}

fn visible_header(work: &Work) -> ResponseHeader {
    ResponseHeader {
        revision: work.visible_revision().get(),
        ..Default::default()
    }
}
