//! Fan-out: changes at a steady rate, many watchers of the same ConfigMaps, how long an event takes to each of them, and
//! whether each gets each.
//!
//! Invariant: a change is made at its time, whether or not earlier ones have been answered. A watch that the server ends is
//! begun again where it was, as clients do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::client::{Call, Client, Connection, Format, quoted, resource_version};
use super::objects;
use super::report::{Outcome, Tally, micros};
use super::requests::config_maps_path;
use super::servers::Side;

/// Watches on one connection, as a client with many informers has them.
const PER_CONNECTION: usize = 100;
/// Watches that are opened at the same time.
const OPENED_AT_ONCE: usize = 50;
/// After the last change; what has not come by then counts as lost.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until memory after opening has settled.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Fan {
    pub(crate) watchers: usize,
    pub(crate) changes: usize,
    pub(crate) pause: Duration,
}

/// What a fan-out gave: delays from before a change was asked for to its event at a watcher; and a remark.
pub(crate) async fn fan_out(side: &Side, fan: Fan) -> Result<(Outcome, String)> {
    let before = side.api.resident_mib()?;
    let connections = side
        .bench
        .client(fan.watchers.div_ceil(PER_CONNECTION))
        .await?;
    let sent = Arc::new(Sent::new(fan.changes));
    let (finish, finished) = watch::channel(false);
    let watchers = open(side, fan, &connections, &sent, &finished).await?;
    tokio::time::sleep(SETTLE).await;
    let after = side.api.resident_mib()?;
    let began = Instant::now();
    let (made, refused) = change(side, fan, &sent).await?;
    let patience = spawn("patience", TaskKind::Background, async move {
        tokio::time::sleep(PATIENCE).await;
        finish.send_replace(true);
    });
    let (mut all, mut cuts, mut lost) = (Tally::default(), 0, 0);
    for watcher in watchers {
        let watcher: Watcher = watcher.await?;
        cuts += watcher.cuts;
        // Fewer events than changes is a loss, or the change itself had failed.
        lost += made.saturating_sub(watcher.delays.len());
        all.add(Tally {
            micros: watcher.delays,
            ..Tally::default()
        });
        if let Some(why) = watcher.gave_up {
            all.fail(why);
        }
    }
    patience.abort();
    let each = (after - before) * 1024.0 / super::report::count(fan.watchers.max(1));
    let remark = format!(
        "{} watchers, {made} changes: {lost} events lost, {cuts} watches cut by the server and begun again, {refused} changes failed; {each:.1} KiB resident for each open watch",
        fan.watchers
    );
    Ok((all.done(began.elapsed()), remark))
}

/// When each change was asked for, in microseconds since `began`, and one more so that 0 is never.
struct Sent {
    began: Instant,
    at: Vec<AtomicU32>,
}

impl Sent {
    fn new(changes: usize) -> Self {
        Self {
            began: Instant::now(),
            at: (0..changes).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn mark(&self, number: usize) {
        let now = micros(self.began.elapsed()).saturating_add(1);
        self.at[number].store(now, Ordering::Relaxed);
    }

    fn delay(&self, number: usize) -> Option<u32> {
        let now = micros(self.began.elapsed()).saturating_add(1);
        let sent = self.at.get(number)?.load(Ordering::Relaxed);
        (sent > 0).then(|| now.saturating_sub(sent))
    }
}

type Watchers = Vec<tokio::task::JoinHandle<Watcher>>;

async fn open(
    side: &Side,
    fan: Fan,
    connections: &Client,
    sent: &Arc<Sent>,
    finished: &watch::Receiver<bool>,
) -> Result<Watchers> {
    let path = config_maps_path(objects::WATCHED);
    let list = side.client.at(0);
    let list = list.call(Call::get(path, Format::Json)).await?;
    let version = resource_version(&list[..])?.to_owned();
    let mut watchers = Vec::with_capacity(fan.watchers);
    for first in (0..fan.watchers).step_by(OPENED_AT_ONCE) {
        let last = fan.watchers.min(first + OPENED_AT_ONCE);
        let opening = (first..last).map(async |number| {
            let connection = connections.at(number);
            let body = begin(&connection, &version).await?;
            anyhow::Ok((connection, body))
        });
        for (connection, body) in futures::future::try_join_all(opening).await? {
            let watcher = Watcher::new(connection, &version, Arc::clone(sent));
            let work = watcher.run(body, finished.clone());
            watchers.push(spawn("watcher", TaskKind::Background, work));
        }
    }
    Ok(watchers)
}

/// Begins a watch behind a version.
async fn begin(connection: &Connection, version: &str) -> Result<Incoming> {
    let path = format!(
        "{}?watch=true&resourceVersion={version}&allowWatchBookmarks=true",
        config_maps_path(objects::WATCHED)
    );
    let answer = connection.open(Call::get(path, Format::Json)).await?;
    Ok(answer.into_body())
}

/// Makes the changes; returns how many were made and how many failed.
async fn change(side: &Side, fan: Fan, sent: &Arc<Sent>) -> Result<(usize, usize)> {
    let mut changes = Vec::with_capacity(fan.changes);
    let mut timer = tokio::time::interval(fan.pause);
    for number in 0..fan.changes {
        timer.tick().await;
        let (connection, sent) = (side.client.at(number), Arc::clone(sent));
        let work = async move {
            let name = objects::watched_name(number);
            let path = format!("{}/{name}", config_maps_path(objects::WATCHED));
            let body = format!(r#"{{"data":{{"seq":"{number}"}}}}"#);
            sent.mark(number);
            connection.call(Call::merge_patch(path, body.into())).await
        };
        changes.push(spawn("change", TaskKind::Background, work));
    }
    let mut failed = 0;
    for change in changes {
        failed += usize::from(change.await?.is_err());
    }
    Ok((fan.changes - failed, failed))
}

struct Watcher {
    connection: Connection,
    /// Where to go on if the watch is cut.
    version: String,
    sent: Arc<Sent>,
    /// Which changes were seen.
    seen: Vec<bool>,
    delays: Vec<u32>,
    cuts: usize,
    gave_up: Option<String>,
}

impl Watcher {
    fn new(connection: Connection, version: &str, sent: Arc<Sent>) -> Self {
        Self {
            connection,
            version: version.to_owned(),
            seen: vec![false; sent.at.len()],
            delays: Vec::with_capacity(sent.at.len()),
            sent,
            cuts: 0,
            gave_up: None,
        }
    }

    /// Reads until all changes have come, the time is up, or the server does not go on.
    async fn run(mut self, mut body: Incoming, mut finished: watch::Receiver<bool>) -> Self {
        loop {
            let ended = tokio::select! {
                biased;
                _ = finished.wait_for(|finished| *finished) => return self,
                ended = self.read(&mut body) => ended,
            };
            if self.delays.len() == self.seen.len() {
                return self;
            }
            if let Err(error) = ended {
                self.gave_up = Some(format!("{error:#}"));
                return self;
            }
            self.cuts += 1;
            match begin(&self.connection, &self.version).await {
                Ok(again) => body = again,
                Err(error) => {
                    self.gave_up = Some(format!("{error:#}"));
                    return self;
                }
            }
        }
    }

    /// Reads a watch until it ends or nothing more is expected.
    async fn read(&mut self, body: &mut Incoming) -> Result<()> {
        let mut rest: Vec<u8> = Vec::new();
        while self.delays.len() < self.seen.len() {
            let Some(Ok(frame)) = body.frame().await else {
                return Ok(());
            };
            let data: Bytes = frame.into_data().unwrap_or_default();
            for line in data.split_inclusive(|byte| *byte == b'\n') {
                if line.last() != Some(&b'\n') {
                    rest.extend_from_slice(line);
                } else if rest.is_empty() {
                    self.event(line)?;
                } else {
                    rest.extend_from_slice(line);
                    self.event(&rest)?;
                    rest.clear();
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, line: &[u8]) -> Result<()> {
        if line.starts_with(br#"{"type":"BOOKMARK""#) {
            return Ok(());
        }
        let shown = || String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        let number = quoted(line, "seq").with_context(|| format!("an event {}", shown()))?;
        let number: usize = number.parse()?;
        let Some(delay) = self.sent.delay(number) else {
            return Ok(());
        };
        if !std::mem::replace(&mut self.seen[number], true) {
            self.delays.push(delay);
            resource_version(line)?.clone_into(&mut self.version);
        }
        Ok(())
    }
}
