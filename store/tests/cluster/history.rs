//! Watchers that stay through every fault, one at each member, and what they saw compared with what is stored.
//!
//! Not a check of what was acknowledged; that is `crash`. Invariant: whatever a watcher was shown stays history for ever:
//! the same revision with the same changes on every member, without gaps, nothing twice, and the changes of one revision
//! together.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use corten_proto::etcd::mvccpb::event::EventType;
use etcd::watch_client::WatchClient;
use etcd::watch_request::RequestUnion;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::harness::{DEADLINE, wait_for};
use super::process::Processes;

/// A store is at 1 when it is empty.
const FIRST: i64 = 2;
/// Before a member that is down is asked again.
const RETRY: Duration = Duration::from_millis(50);

/// What a revision did with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: String,
    /// None: it was deleted.
    pub(crate) value: Option<Bytes>,
}

impl Change {
    pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Change {
        Change {
            key: key.to_owned(),
            value: Some(value.into()),
        }
    }

    pub(crate) fn delete(key: &str) -> Change {
        Change {
            key: key.to_owned(),
            value: None,
        }
    }
}

/// Changes by revision, in the order in which watchers are told of them.
pub(crate) type History = BTreeMap<i64, Vec<Change>>;

/// A watcher at each member.
pub(crate) struct Followers {
    /// The revision up to which they are to see everything.
    until: watch::Sender<Option<i64>>,
    tasks: Vec<JoinHandle<History>>,
}

impl Followers {
    /// Starts them, from the first revision on.
    pub(crate) fn start(processes: &Processes) -> Followers {
        let (until, _) = watch::channel(None);
        let members = 0..processes.client_ports.len();
        let tasks = members.map(|i| follow(processes.channel(i), until.subscribe()));
        let tasks = tasks
            .map(|task| spawn("follower", TaskKind::Background, task))
            .collect();
        Followers { until, tasks }
    }

    /// Waits until they have seen everything, and compares: with each other, and with the history that every member
    /// tells a watcher that comes now. Gives it.
    pub(crate) async fn finish(self, processes: &Processes) -> History {
        let now = revision(processes).await;
        self.until.send_replace(Some(now));
        let mut seen = Vec::new();
        for task in self.tasks {
            let followed = timeout(DEADLINE, task).await.expect("sees everything");
            seen.push(followed.expect("no panic"));
        }
        let (_late, until) = watch::channel(Some(now));
        for i in 0..processes.client_ports.len() {
            let replayed = timeout(DEADLINE, follow(processes.channel(i), until.clone())).await;
            seen.push(replayed.expect("tells everything"));
        }
        let history = seen.remove(0);
        let revisions: Vec<i64> = history.keys().copied().collect();
        assert_eq!(
            revisions,
            (FIRST..=now).collect::<Vec<_>>(),
            "a revision was left out"
        );
        for (number, other) in seen.iter().enumerate() {
            let differs = history
                .iter()
                .find(|(at, changes)| other.get(at) != Some(*changes));
            assert_eq!(differs, None, "watcher {} saw another history", number + 1);
            assert_eq!(other.len(), history.len());
        }
        history
    }
}

async fn revision(processes: &Processes) -> i64 {
    wait_for("the present revision", async || {
        let request = etcd::RangeRequest {
            key: "none".into(),
            ..Default::default()
        };
        let answer = processes.kv(0).range(request).await.ok()?;
        Some(answer.into_inner().header?.revision)
    })
    .await
}

/// Watches one member from the first revision on, over all its restarts, until the end that it is told.
async fn follow(channel: Channel, mut until: watch::Receiver<Option<i64>>) -> History {
    let mut seen = History::new();
    // A restart loses what was not shown; it is asked for again.
    while follow_once(&channel, &mut seen, &mut until).await.is_err() {
        sleep(RETRY).await;
    }
    seen
}

fn last(seen: &History) -> i64 {
    seen.last_key_value().map_or(FIRST - 1, |(at, _)| *at)
}

async fn follow_once(
    channel: &Channel,
    seen: &mut History,
    until: &mut watch::Receiver<Option<i64>>,
) -> Result<(), tonic::Status> {
    let (requests, stream) = mpsc::channel(1);
    let create = etcd::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: last(seen) + 1,
        ..Default::default()
    };
    let create = etcd::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    requests.send(create).await.expect("the stream is open");
    let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut answers = client
        .watch(ReceiverStream::new(stream))
        .await?
        .into_inner();
    while until
        .borrow_and_update()
        .is_none_or(|until| last(seen) < until)
    {
        let answer = tokio::select! {
            // Cancel-safe, both: a message is taken whole or not at all.
            answer = answers.message() => answer?,
            Ok(()) = until.changed() => continue,
        };
        let answer = answer.ok_or_else(|| tonic::Status::unavailable("the stream has ended"))?;
        assert!(!answer.canceled, "{answer:?}");
        // Whoever is shown a part of a transaction takes it for the whole.
        let told = last(seen);
        for event in answer.events {
            let kv = event.kv.expect("every event has a key");
            let key = String::from_utf8(kv.key.to_vec()).expect("text");
            let (at, newest) = (kv.mod_revision, last(seen));
            let in_turn = at == newest + 1 || (at == newest && newest > told);
            assert!(in_turn, "{key} at {at} comes out of turn, after {newest}");
            let value = (event.r#type == EventType::Put as i32).then_some(kv.value);
            seen.entry(at).or_default().push(Change { key, value });
        }
    }
    Ok(())
}
