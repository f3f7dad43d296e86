//! The etcd services over a store in memory, through real gRPC in one process.
//! Not the semantics in depth; those are tested in the core. Here: streams, headers, errors, backups.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of a test: their panic is its failure"
)]

mod users;

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corten_proto::etcd::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest, PutRequest, RangeRequest,
    SnapshotRequest, StatusRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse, cluster_client::ClusterClient, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
    watch_create_request::FilterType, watch_request::RequestUnion,
};
use corten_store::{memory, replica::backup};
use corten_store_core::{Store, backend::Backend, memory::MemoryBackend};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

const PATIENCE: Duration = Duration::from_secs(10);

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn put(channel: &Channel, key: &str, value: &str, lease: i64) -> i64 {
    let request = PutRequest {
        key: b(key),
        value: b(value),
        lease,
        ..Default::default()
    };
    let response = KvClient::new(channel.clone())
        .put(request)
        .await
        .unwrap()
        .into_inner();
    response.header.unwrap().revision
}

struct Watching {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watching {
    async fn open(channel: &Channel) -> Self {
        let (requests, receiver) = mpsc::channel(8);
        let stream = ReceiverStream::new(receiver);
        let answers = WatchClient::new(channel.clone())
            .watch(stream)
            .await
            .unwrap()
            .into_inner();
        Self { requests, answers }
    }

    async fn send(&self, request: RequestUnion) {
        self.requests
            .send(WatchRequest {
                request_union: Some(request),
            })
            .await
            .unwrap();
    }

    async fn create(&mut self, create: WatchCreateRequest) -> WatchResponse {
        self.send(RequestUnion::CreateRequest(create)).await;
        self.next().await
    }

    async fn next(&mut self) -> WatchResponse {
        let next = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        next.expect("an answer in time")
            .unwrap()
            .expect("the stream stays open")
    }

    /// Events until `count` have come, as `key=value` or `-key`.
    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.len() < count {
            for event in self.next().await.events {
                let kv = event.kv.unwrap();
                let key = String::from_utf8_lossy(&kv.key).into_owned();
                let value = String::from_utf8_lossy(&kv.value);
                seen.push(if event.r#type == 1 {
                    format!("-{key}")
                } else {
                    format!("{key}={value}")
                });
            }
        }
        seen
    }
}

#[tokio::test]
async fn watches_replay_history_and_go_on_live() {
    let channel = memory::channel();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        put(&channel, key, value, 0).await;
    }
    let mut watching = Watching::open(&channel).await;
    let all = WatchCreateRequest {
        key: b("a"),
        range_end: b("z"),
        start_revision: 2,
        ..Default::default()
    };
    let created = watching.create(all).await;
    assert!(created.created && !created.canceled);
    assert_eq!(created.header.unwrap().revision, 4);
    assert_eq!(watching.events(3).await, ["a=1", "b=2", "a=3"]);
    put(&channel, "c", "4", 0).await;
    assert_eq!(watching.events(1).await, ["c=4"]);
    watching
        .send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
        .await;
    let progress = watching.next().await;
    assert_eq!(
        (progress.watch_id, progress.header.unwrap().revision),
        (-1, 5)
    );
    watching
        .send(RequestUnion::CancelRequest(WatchCancelRequest {
            watch_id: created.watch_id,
        }))
        .await;
    assert!(watching.next().await.canceled);
}

#[tokio::test]
async fn one_stream_carries_many_watches() {
    let channel = memory::channel();
    let mut watching = Watching::open(&channel).await;
    let mut ids = Vec::new();
    for key in ["a", "b"] {
        let created = watching
            .create(WatchCreateRequest {
                key: b(key),
                ..Default::default()
            })
            .await;
        ids.push(created.watch_id);
    }
    put(&channel, "b", "1", 0).await;
    let answer = watching.next().await;
    assert_eq!((answer.watch_id, answer.events.len()), (ids[1], 1));
    let taken = WatchCreateRequest {
        key: b("c"),
        watch_id: ids[1],
        ..Default::default()
    };
    let refused = watching.create(taken).await;
    assert!(refused.created && refused.canceled);
    assert_eq!(
        refused.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
}

#[tokio::test]
async fn filters_leave_out_puts_or_deletions() {
    let channel = memory::channel();
    let mut seen = Vec::new();
    for filter in [FilterType::Noput, FilterType::Nodelete] {
        let mut watching = Watching::open(&channel).await;
        let only = WatchCreateRequest {
            key: b("k"),
            filters: vec![filter.into()],
            ..Default::default()
        };
        watching.create(only).await;
        put(&channel, "k", "1", 0).await;
        let delete = DeleteRangeRequest {
            key: b("k"),
            ..Default::default()
        };
        let mut kv = KvClient::new(channel.clone());
        kv.delete_range(delete).await.unwrap();
        put(&channel, "k", "2", 0).await;
        let count = if filter == FilterType::Noput { 1 } else { 2 };
        seen.push(watching.events(count).await);
    }
    assert_eq!(seen[0], ["-k"]);
    assert_eq!(seen[1], ["k=1", "k=2"]);
}

#[tokio::test]
async fn a_watch_from_before_the_compaction_is_cancelled() {
    let channel = memory::channel();
    for value in ["1", "2", "3"] {
        put(&channel, "a", value, 0).await;
    }
    let request = CompactionRequest {
        revision: 4,
        physical: true,
    };
    KvClient::new(channel.clone())
        .compact(request)
        .await
        .unwrap();
    let mut watching = Watching::open(&channel).await;
    let created = watching
        .create(WatchCreateRequest {
            key: b("a"),
            start_revision: 2,
            ..Default::default()
        })
        .await;
    assert!(created.created && !created.canceled);
    let cancelled = watching.next().await;
    assert!(cancelled.canceled);
    assert_eq!(cancelled.compact_revision, 4);
    let request = RangeRequest {
        key: b("a"),
        revision: 3,
        ..Default::default()
    };
    let error = KvClient::new(channel).range(request).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
    assert_eq!(
        error.message(),
        "etcdserver: mvcc: required revision has been compacted"
    );
}

#[tokio::test]
async fn leases_expire_unless_renewed() {
    let channel = memory::channel();
    let mut leases = LeaseClient::new(channel.clone());
    let granted = leases
        .lease_grant(LeaseGrantRequest { ttl: 1, id: 0 })
        .await
        .unwrap()
        .into_inner();
    assert!(granted.id > 0);
    assert_eq!(granted.ttl, 2, "raised to the minimum");
    put(&channel, "a", "1", granted.id).await;
    let request = LeaseTimeToLiveRequest {
        id: granted.id,
        keys: true,
    };
    let ttl = leases
        .lease_time_to_live(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (ttl.granted_ttl, ttl.keys.as_slice()),
        (2, [b("a")].as_slice())
    );
    let (sender, receiver) = mpsc::channel(1);
    sender
        .send(LeaseKeepAliveRequest { id: granted.id })
        .await
        .unwrap();
    let mut renewals = leases
        .lease_keep_alive(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(renewals.message().await.unwrap().unwrap().ttl, 2);
    let mut watching = Watching::open(&channel).await;
    watching
        .create(WatchCreateRequest {
            key: b("a"),
            ..Default::default()
        })
        .await;
    assert_eq!(watching.events(1).await, ["-a"]);
    sender
        .send(LeaseKeepAliveRequest { id: granted.id })
        .await
        .unwrap();
    assert_eq!(renewals.message().await.unwrap().unwrap().ttl, 0);
    let request = LeaseTimeToLiveRequest {
        id: granted.id,
        keys: false,
    };
    assert_eq!(
        leases
            .lease_time_to_live(request)
            .await
            .unwrap()
            .into_inner()
            .ttl,
        -1
    );
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_in_words() {
    let channel = memory::channel();
    let value = Bytes::from(vec![0; 1536 * 1024]);
    let request = PutRequest {
        key: b("k"),
        value,
        ..Default::default()
    };
    let error = KvClient::new(channel.clone())
        .put(request)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    let error = KvClient::new(channel)
        .range(RangeRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
}

#[tokio::test]
async fn members_status_and_what_is_not_there() {
    let channel = memory::channel();
    let mut cluster = ClusterClient::new(channel.clone());
    let members = cluster
        .member_list(MemberListRequest { linearizable: true })
        .await
        .unwrap()
        .into_inner();
    let header = members.header.unwrap();
    assert_eq!(
        (members.members.len(), members.members[0].id),
        (1, header.member_id)
    );
    let request = MemberAddRequest {
        peer_ur_ls: vec!["http://a:2380".to_owned()],
        is_learner: false,
    };
    assert_eq!(
        cluster.member_add(request).await.unwrap_err().code(),
        Code::Unimplemented
    );
    let status = MaintenanceClient::new(channel.clone())
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.version.starts_with("3.6."));
    assert_eq!(status.leader, header.member_id);
}

#[tokio::test]
async fn a_backup_restores_to_the_same_content() {
    let channel = memory::channel();
    for number in 0..500 {
        put(&channel, &format!("key-{number}"), &"v".repeat(number), 0).await;
    }
    let mut maintenance = MaintenanceClient::new(channel);
    let hash = maintenance
        .hash_kv(HashKvRequest { revision: 0 })
        .await
        .unwrap()
        .into_inner();
    let mut pieces = maintenance
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut copy = BytesMut::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        copy.extend_from_slice(&piece.blob);
    }
    let copy = copy.freeze();
    assert_eq!(
        copy.len() % 512,
        32,
        "etcdctl looks for the hash by the length"
    );
    let backend = Arc::new(MemoryBackend::new());
    backup::restore(backend.as_ref() as &dyn Backend, &mut Cursor::new(&copy)).unwrap();
    let (store, _) = Store::open(backend).unwrap();
    let restored = store.hash_kv(0).unwrap();
    assert_eq!(
        (restored.hash, restored.revision.get()),
        (hash.hash, hash.hash_revision)
    );
    for place in [3, 1000, copy.len() - 1] {
        let mut damaged = copy.to_vec();
        damaged[place] ^= 1;
        let backend = MemoryBackend::new();
        assert!(backup::restore(&backend, &mut Cursor::new(damaged)).is_err());
    }
    for len in [0, 7, 8, 40, 1000, copy.len() - 1] {
        let backend = MemoryBackend::new();
        assert!(backup::restore(&backend, &mut Cursor::new(&copy[..len])).is_err());
    }
}
