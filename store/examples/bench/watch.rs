//! Fan-out: one writer, many watchers of the same prefix, and how long an event takes to each of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb as etcd;
use etcd::kv_client::KvClient;
use etcd::watch_client::WatchClient;
use etcd::watch_request::RequestUnion;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::report::Outcome;

/// Watchers on one stream, as a client with many informers has them.
const PER_STREAM: usize = 100;
const PREFIX: &str = "watched/";

/// `watchers` get `events` puts, made one after another with `pause` between; the outcome's latencies are from before the
/// put to the event at a watcher.
pub(crate) async fn fan_out(
    channels: &[Channel],
    watchers: usize,
    events: usize,
    pause: Duration,
) -> anyhow::Result<Outcome> {
    let sent: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let mut streams = Vec::new();
    let mut left = watchers;
    for channel in channels.iter().cycle() {
        if left == 0 {
            break;
        }
        let here = left.min(PER_STREAM);
        left -= here;
        let stream = open(channel.clone(), here).await?;
        let work = receive(stream, here * events, Arc::clone(&sent));
        streams.push(spawn("watch", TaskKind::Background, work));
    }
    let mut kv = KvClient::new(channels[0].clone());
    let began = Instant::now();
    for number in 0..events {
        sent.lock().push(Instant::now());
        let request = etcd::PutRequest {
            key: format!("{PREFIX}k").into(),
            value: format!("{number:0256}").into(),
            ..Default::default()
        };
        kv.put(request).await?;
        tokio::time::sleep(pause).await;
    }
    let mut latencies = Vec::new();
    for stream in streams {
        latencies.extend(stream.await??);
    }
    Ok(Outcome::new(latencies, 0, began.elapsed()))
}

type Stream = (
    mpsc::Sender<etcd::WatchRequest>,
    tonic::Streaming<etcd::WatchResponse>,
);

async fn open(channel: Channel, watchers: usize) -> anyhow::Result<Stream> {
    let (requests, stream) = mpsc::channel(watchers);
    for _ in 0..watchers {
        let create = etcd::WatchCreateRequest {
            key: PREFIX.into(),
            // The slash and one more.
            range_end: "watched0".into(),
            ..Default::default()
        };
        requests
            .send(etcd::WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            })
            .await?;
    }
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut answers = WatchClient::new(channel).watch(stream).await?.into_inner();
    for _ in 0..watchers {
        let answer = answers.message().await?;
        anyhow::ensure!(
            answer.is_some_and(|answer| answer.created),
            "not a new watch"
        );
    }
    Ok((requests, answers))
}

/// Reads until `expected` events have come; the value of each is the number of its put.
async fn receive(
    (requests, mut answers): Stream,
    expected: usize,
    sent: Arc<Mutex<Vec<Instant>>>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(expected);
    while latencies.len() < expected {
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| anyhow::anyhow!("the watch ended"))?;
        let now = Instant::now();
        for event in answer.events {
            let value = event.kv.map(|kv| kv.value).unwrap_or_default();
            let number: usize = std::str::from_utf8(&value)?.parse()?;
            latencies.push(now - sent.lock()[number]);
        }
    }
    drop(requests);
    Ok(latencies)
}
