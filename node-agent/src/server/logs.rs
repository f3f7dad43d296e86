//! Container logs: reads CRI-format files (rotated ones first), filters, and follows. Memory stays bounded whatever the file
//! holds: lines are read one at a time, and a tail is found by counting lines first.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::query::Query;
use super::route::{Body, Refusal};
use crate::supervisor::cri_log::rotated_logs;
use crate::traits::{ContainerView, PodAccess, PodView};

/// How soon a new line is seen while following.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// Chunks waiting for a slow reader.
const BACKLOG: usize = 16;
/// What is sent at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// A line that the supervisor would not have written: the file is damaged there.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What `PodLogOptions` asks for.
#[derive(Clone, Debug, Default)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    limit_bytes: Option<u64>,
    since: Option<Timestamp>,
    stream: Option<&'static str>,
}

impl Options {
    fn parse(query: &Query, now: Timestamp) -> Result<Self, String> {
        let since = match (query.number("sinceSeconds")?, query.get("sinceTime")) {
            (Some(seconds), _) => now.checked_sub(Duration::from_secs(seconds)).ok(),
            (None, Some(text)) if !text.is_empty() => Some(
                text.parse()
                    .map_err(|_| format!("sinceTime is not a time: {text:?}"))?,
            ),
            _ => None,
        };
        let stream = match query.get("stream") {
            None | Some("" | "All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(other) => return Err(format!("stream must be All, Stdout or Stderr: {other:?}")),
        };
        Ok(Self {
            follow: query.flag(&["follow"]),
            previous: query.flag(&["previous"]),
            timestamps: query.flag(&["timestamps"]),
            tail_lines: query.number("tailLines")?,
            limit_bytes: query.number("limitBytes")?,
            since,
            stream,
        })
    }
}

pub(super) async fn serve(
    access: &Arc<dyn PodAccess>,
    pod: &PodView,
    container: &ContainerView,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let bad = |message| Refusal(StatusCode::BAD_REQUEST, message);
    let options = Options::parse(query, Timestamp::now()).map_err(bad)?;
    let path = choose(pod, container, &options)?;
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let alive = Alive {
        access: Arc::clone(access),
        namespace: pod.pod_ref.namespace.clone(),
        pod: pod.pod_ref.name.clone(),
        id: container.id.clone(),
    };
    spawn("container-logs", TaskKind::Connection, async move {
        let mut out = Out {
            sender,
            buffer: Vec::new(),
            left: options.limit_bytes,
        };
        // An error here is a reader that went away, or a file that did: either way the answer ends.
        if let Err(error) = stream(&path, &options, &alive, &mut out).await {
            tracing::debug!(%error, path = %path.display(), "log stream ended");
        }
    });
    let body = StreamBody::new(ReceiverStream::new(receiver).map(|chunk| Ok(Frame::data(chunk))));
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain"),
    );
    Ok(response)
}

fn choose(pod: &PodView, container: &ContainerView, options: &Options) -> Result<PathBuf, Refusal> {
    let bad = |message| Refusal(StatusCode::BAD_REQUEST, message);
    if options.previous {
        return container.previous_log_path.clone().ok_or_else(|| {
            bad(format!(
                "previous terminated container {:?} in pod {:?} not found",
                container.name, pod.pod_ref.name
            ))
        });
    }
    if container.id.is_empty() {
        let reason = container.reason.as_deref().unwrap_or("ContainerCreating");
        return Err(bad(format!(
            "container {:?} in pod {:?} is waiting to start: {reason}",
            container.name, pod.pod_ref.name
        )));
    }
    Ok(container.log_path.clone())
}

/// Whether the container whose log is followed still runs.
struct Alive {
    access: Arc<dyn PodAccess>,
    namespace: String,
    pod: String,
    id: String,
}

impl Alive {
    fn check(&self) -> bool {
        let view = self.access.find(&self.namespace, &self.pod);
        view.is_some_and(|view| view.containers.iter().any(|c| c.id == self.id && c.running))
    }
}

/// Where lines go: collected into chunks, cut at the byte limit.
struct Out {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
    left: Option<u64>,
}

impl Out {
    async fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let take = match self.left {
            Some(left) => bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => bytes.len(),
        };
        self.buffer.extend_from_slice(&bytes[..take]);
        if let Some(left) = &mut self.left {
            *left -= take as u64;
        }
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender
            .send(chunk)
            .await
            .map_err(|_| std::io::Error::other("the reader went away"))
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }
}

async fn stream(
    path: &Path,
    options: &Options,
    alive: &Alive,
    out: &mut Out,
) -> std::io::Result<()> {
    let mut files = rotated_logs(path)?;
    files.push(path.to_owned());
    let mut skip = match options.tail_lines {
        Some(lines) => skip_for_tail(&files, lines, options).await?,
        None => 0,
    };
    let last = files.len() - 1;
    for old in &files[..last] {
        let mut reader = BufReader::new(File::open(old).await?);
        copy(&mut reader, options, &mut skip, out).await?;
    }
    let mut reader = BufReader::new(File::open(path).await?);
    loop {
        // Asked before reading, so that what is written before the end is read too.
        let running = options.follow && alive.check();
        copy(&mut reader, options, &mut skip, out).await?;
        out.flush().await?;
        if !running || out.is_full() {
            return Ok(());
        }
        if let Some(rotated) = reopened(path, &mut reader).await? {
            copy(&mut reader, options, &mut skip, out).await?;
            reader = rotated;
        }
        tokio::select! {
            biased;
            () = out.sender.closed() => return Ok(()),
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
        }
    }
}

/// The new file, when the one being read was rotated away.
async fn reopened(
    path: &Path,
    reader: &mut BufReader<File>,
) -> std::io::Result<Option<BufReader<File>>> {
    use std::os::unix::fs::MetadataExt;
    let (Ok(current), open) = (
        tokio::fs::metadata(path).await,
        reader.get_ref().metadata().await?,
    ) else {
        return Ok(None);
    };
    if current.ino() == open.ino() {
        return Ok(None);
    }
    Ok(Some(BufReader::new(File::open(path).await?)))
}

/// Copies whole lines to the end of the file; a line still being written is left for the next call.
async fn copy(
    reader: &mut BufReader<File>,
    options: &Options,
    skip: &mut u64,
    out: &mut Out,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    while !out.is_full() {
        line.clear();
        let count = (&mut *reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await?;
        if count == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && (count as u64) < LINE_BYTES_MAX {
            let back = i64::try_from(count).unwrap_or_default();
            reader.seek(std::io::SeekFrom::Current(-back)).await?;
            return Ok(());
        }
        let Some(parsed) = Line::parse(&line).filter(|l| l.is_wanted(options)) else {
            continue;
        };
        if *skip > 0 {
            *skip -= u64::from(parsed.whole);
            continue;
        }
        if options.timestamps {
            out.push(parsed.time.as_bytes()).await?;
            out.push(b" ").await?;
        }
        out.push(parsed.text).await?;
        if parsed.whole {
            out.push(b"\n").await?;
        }
    }
    Ok(())
}

/// How many wanted lines come before the last `tail`.
async fn skip_for_tail(files: &[PathBuf], tail: u64, options: &Options) -> std::io::Result<u64> {
    let mut counts = VecDeque::new();
    let mut total = 0_u64;
    for file in files {
        let mut reader = BufReader::new(File::open(file).await?);
        let (mut line, mut count) = (Vec::new(), 0_u64);
        loop {
            line.clear();
            if (&mut reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .await?
                == 0
            {
                break;
            }
            count += u64::from(Line::parse(&line).is_some_and(|l| l.whole && l.is_wanted(options)));
        }
        total += count;
        counts.push_back(count);
    }
    Ok(total.saturating_sub(tail))
}

/// One line of the CRI format.
struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    whole: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = std::str::from_utf8(parts.next()?).ok()?;
        let tag = parts.next()?;
        Some(Self {
            time,
            stream,
            whole: tag.first() == Some(&b'F'),
            text: parts.next().unwrap_or_default(),
        })
    }

    fn is_wanted(&self, options: &Options) -> bool {
        let late = |since: Timestamp| {
            self.time
                .parse::<Timestamp>()
                .is_ok_and(|time| time >= since)
        };
        options.stream.is_none_or(|stream| stream == self.stream) && options.since.is_none_or(late)
    }
}
