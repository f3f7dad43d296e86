//! A snapshot over the wire: its files in order, in chunks, each chunk and each file with a checksum.
//!
//! Does not install anything. Invariant: what `receive` returns is complete, verified and synced to disk; anything
//! less is an error and leaves nothing behind.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1 as pb;
use pb::snapshot_request::Part;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::connect::Client;
use crate::raft::codec;
use crate::raft::snapshot::{SnapshotDir, sync_dir};
use crate::raft::types::{SnapshotMeta, TypeConfig, Vote};

/// Small enough to keep heartbeats of the same process from waiting, large enough to keep a disk busy.
const CHUNK_BYTES: usize = 512 << 10;
/// Chunks read ahead of the network, or received ahead of the disk.
const CHUNKS_AHEAD: usize = 8;

/// Sends `snapshot`; returns the receiver's vote once it has installed it, or refused it for a higher vote.
pub(crate) async fn send(
    mut client: Client,
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
) -> Result<Vote, Status> {
    let (parts, stream) = mpsc::channel(CHUNKS_AHEAD);
    let reader = tokio::task::spawn_blocking(move || read_parts(&vote, &snapshot, &parts));
    let answer = client.install_snapshot(ReceiverStream::new(stream)).await;
    // The receiver's refusal says more than the reader's "nobody listens".
    let answer = match (answer, reader.await) {
        (Err(status), Ok(Err(error))) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Status::internal(format!(
                "cannot read the snapshot: {error} ({status})"
            )));
        }
        (answer, _) => answer?,
    };
    codec::required_vote(answer.into_inner().vote.as_ref())
        .map_err(|error| Status::internal(error.to_string()))
}

fn read_parts(
    vote: &Vote,
    snapshot: &openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
    parts: &mpsc::Sender<pb::SnapshotRequest>,
) -> io::Result<()> {
    let send = |part| {
        parts
            .blocking_send(pb::SnapshotRequest { part: Some(part) })
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    };
    let files = snapshot.snapshot.files()?;
    send(Part::Head(pb::SnapshotHead {
        vote: Some(codec::vote_to_pb(vote)),
        meta: Some(codec::snapshot_meta_to_pb(&snapshot.meta)),
        files: files
            .iter()
            .map(|(name, size)| pb::SnapshotFile {
                name: name.clone(),
                size: *size,
            })
            .collect(),
    }))?;
    let mut file_crc32c = Vec::with_capacity(files.len());
    for (number, (name, size)) in files.iter().enumerate() {
        let mut file = File::open(snapshot.snapshot.path().join(name))?;
        let mut crc = 0;
        let mut offset = 0;
        while offset < *size {
            let len = usize::try_from(*size - offset)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            let mut data = vec![0; len];
            file.read_exact(&mut data)?;
            crc = crc32c::crc32c_append(crc, &data);
            send(Part::Chunk(pb::SnapshotChunk {
                file: u32::try_from(number).map_err(io::Error::other)?,
                offset,
                crc32c: crc32c::crc32c(&data),
                data: Bytes::from(data),
            }))?;
            offset += len as u64;
        }
        file_crc32c.push(crc);
    }
    send(Part::Tail(pb::SnapshotTail { file_crc32c }))
}

/// A snapshot that arrived whole.
pub(crate) struct Received {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) dir: SnapshotDir,
}

/// Receives a snapshot into a fresh folder under `parent`.
pub(crate) async fn receive(
    mut stream: Streaming<pb::SnapshotRequest>,
    parent: &Path,
) -> Result<Received, Status> {
    let head = match stream.message().await?.and_then(|message| message.part) {
        Some(Part::Head(head)) => head,
        _ => return Err(Status::invalid_argument("a snapshot begins with its head")),
    };
    let bad = |error: codec::CodecError| Status::invalid_argument(error.to_string());
    let vote = codec::required_vote(head.vote.as_ref()).map_err(bad)?;
    let meta = codec::snapshot_meta(head.meta.as_ref().unwrap_or(&pb::SnapshotMeta::default()))
        .map_err(bad)?;
    let dir = SnapshotDir::fresh(parent).map_err(disk)?;
    let (parts, queue) = mpsc::channel(CHUNKS_AHEAD);
    let target = dir.clone();
    let writer = tokio::task::spawn_blocking(move || write_parts(&head.files, &target, queue));
    let feeder = spawn("snapshot-receive", TaskKind::Connection, async move {
        while let Some(message) = stream.message().await? {
            if parts.send(message).await.is_err() {
                // The writer has failed; its own error is the one to report.
                return Ok(());
            }
        }
        Ok::<(), Status>(())
    });
    let written = writer
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    feeder
        .await
        .map_err(|error| Status::internal(error.to_string()))??;
    written.map_err(disk)?;
    Ok(Received { vote, meta, dir })
}

fn disk(error: io::Error) -> Status {
    Status::internal(format!("cannot receive the snapshot: {error}"))
}

pub(crate) fn write_parts(
    files: &[pb::SnapshotFile],
    dir: &SnapshotDir,
    mut parts: mpsc::Receiver<pb::SnapshotRequest>,
) -> io::Result<()> {
    let refuse = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    std::fs::create_dir(dir.path())?;
    let mut open = Vec::with_capacity(files.len());
    for file in files {
        if file.name.is_empty() || file.name.contains('/') || file.name.starts_with('.') {
            return Err(refuse(format!("file name {:?}", file.name)));
        }
        open.push(Incoming {
            file: None,
            path: dir.path().join(&file.name),
            offset: 0,
            crc: 0,
        });
    }
    while let Some(message) = parts.blocking_recv() {
        match message.part {
            Some(Part::Chunk(chunk)) => {
                let file = open
                    .get_mut(chunk.file as usize)
                    .ok_or_else(|| refuse("unknown file".to_owned()))?;
                file.write(&chunk)?;
            }
            Some(Part::Tail(tail)) => return finish(files, open, &tail, dir.path()),
            Some(Part::Head(_)) | None => return Err(refuse("unexpected part".to_owned())),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the sender stopped before the end",
    ))
}

/// A file as far as it has arrived.
struct Incoming {
    file: Option<File>,
    path: std::path::PathBuf,
    offset: u64,
    crc: u32,
}

impl Incoming {
    fn write(&mut self, chunk: &pb::SnapshotChunk) -> io::Result<()> {
        if chunk.offset != self.offset || crc32c::crc32c(&chunk.data) != chunk.crc32c {
            let why = format!(
                "chunk at {} of {} is damaged",
                chunk.offset,
                self.path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::create(&self.path)?),
        };
        file.write_all(&chunk.data)?;
        self.crc = crc32c::crc32c_append(self.crc, &chunk.data);
        self.offset += chunk.data.len() as u64;
        Ok(())
    }
}

fn finish(
    files: &[pb::SnapshotFile],
    open: Vec<Incoming>,
    tail: &pb::SnapshotTail,
    dir: &Path,
) -> io::Result<()> {
    for ((file, incoming), crc) in files.iter().zip(open).zip(&tail.file_crc32c) {
        if incoming.offset != file.size || incoming.crc != *crc {
            let why = format!("file {} arrived incomplete or damaged", file.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        match incoming.file {
            Some(file) => file.sync_all()?,
            None => File::create(incoming.path)?.sync_all()?,
        }
    }
    if tail.file_crc32c.len() != files.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the tail does not match the head",
        ));
    }
    sync_dir(dir)
}
