//! What clients do, one request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd::kv_client::KvClient;
use etcd::lease_client::LeaseClient;
use tonic::Streaming;
use tonic::transport::Channel;

/// Keys of a page, as Kubernetes' clients ask for them.
const PAGE: i64 = 500;
/// Where the objects for lists are.
pub(crate) const LIST_PREFIX: &str = "list/";
/// Answers of whole lists are larger than the library's default bound.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What a client does, again and again.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Put,
    /// A put under the condition that the key is as this client left it, as kube-apiserver writes.
    CasPut,
    /// Linearizable read of one key.
    Get,
    /// Read of one key without agreement.
    GetSerializable,
    /// All keys below the list's prefix in one answer.
    List,
    /// The same in pages of 500; counts as one request.
    ListPaged,
    KeepAlive,
}

/// What all clients of a load share.
pub(crate) struct Shared {
    pub(crate) op: Op,
    pub(crate) next: AtomicU64,
    pub(crate) total: u64,
    pub(crate) key_space: u64,
    pub(crate) value: Bytes,
}

/// Runs one client until the shared count is used up; returns the latencies and how many requests failed.
pub(crate) async fn client(
    channel: Channel,
    shared: Arc<Shared>,
    number: u64,
) -> anyhow::Result<(Vec<Duration>, u64)> {
    let mut client = Client::open(channel, &shared, number).await?;
    let (mut times, mut failed) = (Vec::new(), 0);
    loop {
        let turn = shared.next.fetch_add(1, Ordering::Relaxed);
        if turn >= shared.total {
            return Ok((times, failed));
        }
        let began = Instant::now();
        match client.once(&shared, turn).await {
            Ok(()) => times.push(began.elapsed()),
            Err(_) => failed += 1,
        }
    }
}

struct Client {
    kv: KvClient<Channel>,
    alive: Option<KeepAlive>,
    /// This client's own key and its last known revision.
    own: (Bytes, i64),
}

impl Client {
    async fn open(channel: Channel, shared: &Shared, number: u64) -> anyhow::Result<Self> {
        let alive = match shared.op {
            Op::KeepAlive => Some(KeepAlive::open(channel.clone()).await?),
            _ => None,
        };
        let mut kv = KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let key = Bytes::from(format!("own/{number:08}"));
        let revision = match shared.op {
            Op::CasPut => {
                let request = etcd::RangeRequest {
                    key: key.clone(),
                    ..Default::default()
                };
                let answer = kv.range(request).await?.into_inner();
                answer.kvs.first().map_or(0, |kv| kv.mod_revision)
            }
            _ => 0,
        };
        Ok(Self {
            kv,
            alive,
            own: (key, revision),
        })
    }

    async fn once(&mut self, shared: &Shared, turn: u64) -> anyhow::Result<()> {
        // Spread over the key space without order, the same in every run.
        let key = || format!("{:08}", turn.wrapping_mul(2_654_435_761) % shared.key_space);
        match shared.op {
            Op::KeepAlive => {
                let alive = self.alive.as_mut();
                return alive.expect("opened for this").renew().await;
            }
            Op::Put => {
                let request = etcd::PutRequest {
                    key: key().into(),
                    value: shared.value.clone(),
                    ..Default::default()
                };
                self.kv.put(request).await?;
            }
            Op::CasPut => self.cas_put(shared).await?,
            Op::Get | Op::GetSerializable => {
                let request = etcd::RangeRequest {
                    key: key().into(),
                    serializable: shared.op == Op::GetSerializable,
                    ..Default::default()
                };
                self.kv.range(request).await?;
            }
            Op::List => {
                let answer = self.kv.range(list_request(LIST_PREFIX.into(), 0)).await?;
                anyhow::ensure!(!answer.get_ref().kvs.is_empty(), "an empty list");
            }
            Op::ListPaged => self.list_paged().await?,
        }
        Ok(())
    }

    async fn cas_put(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let (key, revision) = &self.own;
        let put = etcd::request_op::Request::RequestPut(etcd::PutRequest {
            key: key.clone(),
            value: shared.value.clone(),
            ..Default::default()
        });
        let get = etcd::request_op::Request::RequestRange(etcd::RangeRequest {
            key: key.clone(),
            ..Default::default()
        });
        let op = |request| etcd::RequestOp {
            request: Some(request),
        };
        let request = etcd::TxnRequest {
            compare: vec![etcd::Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Mod as i32,
                key: key.clone(),
                target_union: Some(TargetUnion::ModRevision(*revision)),
                ..Default::default()
            }],
            success: vec![op(put)],
            failure: vec![op(get)],
        };
        let answer = self.kv.txn(request).await?.into_inner();
        anyhow::ensure!(answer.succeeded, "somebody else wrote this client's key");
        self.own.1 = answer.header.map_or(0, |header| header.revision);
        Ok(())
    }

    async fn list_paged(&mut self) -> anyhow::Result<()> {
        let mut from = Bytes::from(LIST_PREFIX);
        loop {
            let answer = self.kv.range(list_request(from, PAGE)).await?.into_inner();
            let Some(last) = answer.kvs.last().filter(|_| answer.more) else {
                return Ok(());
            };
            from = [&last.key[..], &[0]].concat().into();
        }
    }
}

fn list_request(from: Bytes, limit: i64) -> etcd::RangeRequest {
    etcd::RangeRequest {
        key: from,
        // The slash and one more.
        range_end: "list0".into(),
        limit,
        ..Default::default()
    }
}

/// A lease and its stream.
struct KeepAlive {
    id: i64,
    requests: tokio::sync::mpsc::Sender<etcd::LeaseKeepAliveRequest>,
    answers: Streaming<etcd::LeaseKeepAliveResponse>,
}

impl KeepAlive {
    async fn open(channel: Channel) -> anyhow::Result<Self> {
        let mut lease = LeaseClient::new(channel);
        let granted = lease.lease_grant(etcd::LeaseGrantRequest { ttl: 600, id: 0 });
        let id = granted.await?.into_inner().id;
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        requests.send(etcd::LeaseKeepAliveRequest { id }).await?;
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let mut answers = lease.lease_keep_alive(stream).await?.into_inner();
        answers.message().await?;
        Ok(Self {
            id,
            requests,
            answers,
        })
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        let request = etcd::LeaseKeepAliveRequest { id: self.id };
        self.requests.send(request).await?;
        self.answers.message().await?;
        Ok(())
    }
}
