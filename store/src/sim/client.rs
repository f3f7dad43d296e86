//! What clients ask of a member, and what they were told: through the etcd services, without a socket in between.
//!
//! Does not judge. Invariant: an operation whose answer did not come in time stays unknown, whatever comes later.

use std::sync::Arc;
use std::time::Duration;

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use corten_proto::etcd::mvccpb::event::EventType;
use etcd::kv_client::KvClient;
use etcd::watch_client::WatchClient;
use etcd::watch_request::RequestUnion;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use super::host::Served;

/// A request.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Put {
        key: String,
        value: String,
    },
    Get {
        key: String,
    },
    /// Puts if the key was last written at this revision.
    Swap {
        key: String,
        seen: i64,
        value: String,
    },
    Delete {
        key: String,
    },
    Compact {
        revision: i64,
    },
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Put {
        revision: i64,
    },
    /// Value and the revision that wrote it.
    Got {
        revision: i64,
        found: Option<(i64, String)>,
    },
    Swapped {
        revision: i64,
        done: bool,
    },
    Deleted {
        revision: i64,
        any: bool,
    },
    Compacted,
    /// What the status said.
    Failed(String),
}

/// One request and what became of it; times are of the world.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) client: usize,
    pub(super) ask: Ask,
    pub(super) begin: Duration,
    pub(super) told: Option<(Duration, Told)>,
}

/// What a watcher was shown: one revision's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revision: i64,
    pub(super) key: String,
    /// None: deleted.
    pub(super) value: Option<String>,
}

/// What comes out of the hosts.
#[derive(Debug)]
pub(super) enum News {
    Answer {
        operation: usize,
        told: Told,
    },
    Shown {
        watcher: usize,
        life: u32,
        changes: Vec<Change>,
    },
    Members {
        number: u64,
        members: super::membership::Listed,
    },
    WatchEnded {
        watcher: usize,
        life: u32,
        why: String,
    },
}

/// Where news is put, in the order it happens.
pub(super) type Inbox = Arc<Mutex<Vec<News>>>;

/// Asks a member; the answer comes as news.
pub(super) fn ask(served: &Served, operation: usize, ask: Ask, inbox: Inbox) {
    let routes = served.routes.clone();
    spawn("client", TaskKind::Background, async move {
        let told = perform(KvClient::new(routes), ask).await;
        let told = told.unwrap_or_else(|status| Told::Failed(status.message().to_owned()));
        inbox.lock().push(News::Answer { operation, told });
    });
}

async fn perform(mut kv: KvClient<Routes>, ask: Ask) -> Result<Told, tonic::Status> {
    let revision = |header: Option<etcd::ResponseHeader>| header.map_or(0, |it| it.revision);
    match ask {
        Ask::Put { key, value } => {
            let answer = kv.put(put(key, value)).await?.into_inner();
            Ok(Told::Put {
                revision: revision(answer.header),
            })
        }
        Ask::Get { key } => {
            let request = etcd::RangeRequest {
                key: key.into(),
                ..Default::default()
            };
            let answer = kv.range(request).await?.into_inner();
            let found = answer
                .kvs
                .first()
                .map(|kv| (kv.mod_revision, text(&kv.value)));
            Ok(Told::Got {
                revision: revision(answer.header),
                found,
            })
        }
        Ask::Swap { key, seen, value } => {
            let compare = etcd::Compare {
                result: etcd::compare::CompareResult::Equal as i32,
                target: etcd::compare::CompareTarget::Mod as i32,
                key: key.clone().into(),
                target_union: Some(etcd::compare::TargetUnion::ModRevision(seen)),
                ..Default::default()
            };
            let success = etcd::RequestOp {
                request: Some(etcd::request_op::Request::RequestPut(put(key, value))),
            };
            let request = etcd::TxnRequest {
                compare: vec![compare],
                success: vec![success],
                failure: Vec::new(),
            };
            let answer = kv.txn(request).await?.into_inner();
            Ok(Told::Swapped {
                revision: revision(answer.header),
                done: answer.succeeded,
            })
        }
        Ask::Delete { key } => {
            let request = etcd::DeleteRangeRequest {
                key: key.into(),
                ..Default::default()
            };
            let answer = kv.delete_range(request).await?.into_inner();
            Ok(Told::Deleted {
                revision: revision(answer.header),
                any: answer.deleted > 0,
            })
        }
        Ask::Compact { revision } => {
            let request = etcd::CompactionRequest {
                revision,
                physical: false,
            };
            kv.compact(request).await?;
            Ok(Told::Compacted)
        }
    }
}

fn put(key: String, value: String) -> etcd::PutRequest {
    etcd::PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Watches everything at a member from a revision on, as long as its process lives.
pub(super) fn watch(served: &Served, watcher: usize, life: u32, from: i64, inbox: Inbox) {
    let routes = served.routes.clone();
    spawn("watcher", TaskKind::Background, async move {
        let why = match follow(WatchClient::new(routes), watcher, life, from, &inbox).await {
            Ok(why) => why,
            Err(status) => status.to_string(),
        };
        inbox.lock().push(News::WatchEnded { watcher, life, why });
    });
}

async fn follow(
    mut client: WatchClient<Routes>,
    watcher: usize,
    life: u32,
    from: i64,
    inbox: &Inbox,
) -> Result<String, tonic::Status> {
    let (requests, stream) = mpsc::channel(1);
    let create = etcd::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: from,
        ..Default::default()
    };
    let create = etcd::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    // There is room for one.
    let _ = requests.send(create).await;
    let mut answers = client
        .watch(ReceiverStream::new(stream))
        .await?
        .into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.canceled {
            return Ok(format!("canceled at {}", answer.compact_revision));
        }
        let changes = answer.events.iter().map(|event| {
            let kv = event.kv.clone().unwrap_or_default();
            Change {
                revision: kv.mod_revision,
                key: text(&kv.key),
                value: (event.r#type() == EventType::Put).then(|| text(&kv.value)),
            }
        });
        let changes: Vec<Change> = changes.collect();
        if !changes.is_empty() {
            inbox.lock().push(News::Shown {
                watcher,
                life,
                changes,
            });
        }
    }
    Ok("the stream ended".to_owned())
}
