//! One store in memory with short calls for tests.

use std::sync::Arc;

use bytes::Bytes;
use corten_proto::corten::store::v1::{RaftReply, RaftRequest, raft_reply, raft_request::Command};
use corten_proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, request_op::Request,
};
use corten_proto::etcd::mvccpb::KeyValue;

use crate::{Changes, Position, Store, StoreOptions, Writer, memory::MemoryBackend};

pub(super) struct Harness {
    pub(super) store: Store,
    pub(super) writer: Writer,
    pub(super) backend: Arc<MemoryBackend>,
    index: u64,
}

impl Harness {
    pub(super) fn new() -> Self {
        Self::open(Arc::new(MemoryBackend::new()))
    }

    pub(super) fn open(backend: Arc<MemoryBackend>) -> Self {
        Self::open_with(backend, StoreOptions::default())
    }

    pub(super) fn open_with(backend: Arc<MemoryBackend>, options: StoreOptions) -> Self {
        let (store, writer) = Store::open_with(backend.clone(), options).unwrap();
        let index = writer.applied().map_or(0, |at| at.index);
        Self {
            store,
            writer,
            backend,
            index,
        }
    }

    pub(super) fn apply(&mut self, command: Command) -> (RaftReply, Changes) {
        let (mut replies, changes) = self.apply_all(std::slice::from_ref(&command));
        (replies.remove(0), changes)
    }

    /// A command that was meant for a term; entries are of term 1.
    pub(super) fn apply_in_term(&mut self, command: Command, term: u64) -> (RaftReply, Changes) {
        let (mut replies, changes) = self.apply_requests(&[RaftRequest {
            term,
            command: Some(command),
            ..Default::default()
        }]);
        (replies.remove(0), changes)
    }

    /// One round for all commands.
    pub(super) fn apply_all(&mut self, commands: &[Command]) -> (Vec<RaftReply>, Changes) {
        let requests = commands.iter().map(|command| RaftRequest {
            command: Some(command.clone()),
            ..Default::default()
        });
        self.apply_requests(&requests.collect::<Vec<_>>())
    }

    pub(super) fn apply_requests(&mut self, requests: &[RaftRequest]) -> (Vec<RaftReply>, Changes) {
        let mut round = self.writer.begin();
        let mut replies = Vec::new();
        for request in requests {
            self.index += 1;
            replies.push(
                round
                    .apply(
                        Position {
                            term: 1,
                            index: self.index,
                        },
                        request,
                    )
                    .unwrap(),
            );
        }
        (replies, round.commit().unwrap())
    }

    /// The reply, or the text of the refusal.
    pub(super) fn run(&mut self, command: Command) -> Result<raft_reply::Result, String> {
        match self.apply(command).0.result.unwrap() {
            raft_reply::Result::Refusal(refusal) => Err(refusal.message),
            result => Ok(result),
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &str) -> i64 {
        self.apply(Command::Put(put(key, value))).0.revision
    }

    pub(super) fn delete(&mut self, key: &str, end: &str) -> i64 {
        self.apply(Command::DeleteRange(delete(key, end)))
            .0
            .revision
    }

    pub(super) fn compact(&mut self, revision: i64) -> Result<raft_reply::Result, String> {
        self.run(Command::Compact(CompactionRequest {
            revision,
            physical: false,
        }))
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, String> {
        self.store.range(request).map_err(|error| error.to_string())
    }

    /// Keys and values of everything, as `key=value` words.
    pub(super) fn list(&self) -> String {
        let request = RangeRequest {
            key: b("\0"),
            range_end: b("\0"),
            ..Default::default()
        };
        words(&self.range(&request).unwrap().kvs)
    }

    /// Gives back all compacted space.
    pub(super) fn reclaim(&self) {
        let mut compaction = self.store.compaction();
        while !compaction.step(3).unwrap() {}
    }
}

pub(super) fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: b(key),
        value: b(value),
        ..Default::default()
    }
}

pub(super) fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: b(key),
        range_end: b(end),
        prev_kv: true,
    }
}

pub(super) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub(super) fn op_put(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(put(key, value)))
}

pub(super) fn op_delete(key: &str, end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(delete(key, end)))
}

pub(super) fn op_txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest {
        compare: Vec::new(),
        success,
        failure,
    }))
}

pub(super) fn words(kvs: &[KeyValue]) -> String {
    let word = |kv: &KeyValue| {
        format!(
            "{}={}",
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value)
        )
    };
    kvs.iter().map(word).collect::<Vec<_>>().join(" ")
}
