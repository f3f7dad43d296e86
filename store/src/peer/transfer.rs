//! A snapshot over the wire: its files in order, in chunks, each chunk and each file with a checksum.
//!
//! Does not install anything. Invariant: what `receive` returns is complete, verified and synced to disk; anything
//! less is an error and leaves nothing behind.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1 as pb;
use pb::snapshot_request::Part;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::connect::Client;
use crate::offload::offload;
use crate::raft::codec;
use crate::raft::snapshot::{SnapshotDir, sync_dir};
use crate::raft::types::{SnapshotMeta, TypeConfig, Vote};

/// Small enough to keep heartbeats of the same process from waiting, large enough to keep a disk busy.
const CHUNK_BYTES: usize = 512 << 10;
/// Between two parts; a disk that takes longer for half a megabyte is as good as gone.
const PART: Duration = Duration::from_secs(60);
/// Chunks read ahead of the network.
pub(crate) const CHUNKS_AHEAD: usize = 8;

/// Sends `snapshot`; returns the receiver's vote once it has installed it, or refused it for a higher vote.
pub(crate) async fn send(
    mut client: Client,
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
) -> Result<Vote, Status> {
    let (parts, stream) = mpsc::channel(CHUNKS_AHEAD);
    let reader = spawn(
        "snapshot-send",
        TaskKind::Connection,
        send_parts(vote, snapshot, parts),
    );
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

/// Sends `snapshot` to whoever takes the parts.
pub(crate) async fn send_parts(
    vote: Vote,
    snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
    parts: mpsc::Sender<pb::SnapshotRequest>,
) -> io::Result<()> {
    let send = async |part| {
        let sent = parts.send(pb::SnapshotRequest { part: Some(part) }).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    };
    let dir = snapshot.snapshot.clone();
    let files = offload(move || dir.files()).await??;
    send(Part::Head(pb::SnapshotHead {
        vote: Some(codec::vote_to_pb(&vote)),
        meta: Some(codec::snapshot_meta_to_pb(&snapshot.meta)),
        files: files
            .iter()
            .map(|(name, size)| pb::SnapshotFile {
                name: name.clone(),
                size: *size,
            })
            .collect(),
    }))
    .await?;
    let mut file_crc32c = Vec::with_capacity(files.len());
    for (number, (name, size)) in files.iter().enumerate() {
        let path = snapshot.snapshot.path().join(name);
        let mut file = offload(move || File::open(path)).await??;
        let mut crc = 0;
        let mut offset = 0;
        while offset < *size {
            let len = usize::try_from(*size - offset)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            let data;
            (file, data) = offload(move || read_chunk(file, len)).await??;
            crc = crc32c::crc32c_append(crc, &data);
            send(Part::Chunk(pb::SnapshotChunk {
                file: u32::try_from(number).map_err(io::Error::other)?,
                offset,
                crc32c: crc32c::crc32c(&data),
                data: Bytes::from(data),
            }))
            .await?;
            offset += len as u64;
        }
        file_crc32c.push(crc);
    }
    send(Part::Tail(pb::SnapshotTail { file_crc32c })).await
}

fn read_chunk(mut file: File, len: usize) -> io::Result<(File, Vec<u8>)> {
    let mut data = vec![0; len];
    file.read_exact(&mut data)?;
    Ok((file, data))
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
    let head = match next(&mut stream).await?.and_then(|message| message.part) {
        Some(Part::Head(head)) => head,
        _ => return Err(Status::invalid_argument("a snapshot begins with its head")),
    };
    let bad = |error: codec::CodecError| Status::invalid_argument(error.to_string());
    let vote = codec::required_vote(head.vote.as_ref()).map_err(bad)?;
    let meta = codec::snapshot_meta(head.meta.as_ref().unwrap_or(&pb::SnapshotMeta::default()))
        .map_err(bad)?;
    let dir = SnapshotDir::fresh(parent).map_err(disk)?;
    let (target, files) = (dir.clone(), head.files);
    let begun = offload(move || Arrival::begin(files, target)).await;
    let mut arrival = begun.map_err(ended)?.map_err(disk)?;
    // The connection's own window is what arrives ahead of the disk.
    while !arrival.complete {
        let Some(message) = next(&mut stream).await? else {
            return Err(disk(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the sender stopped before the end",
            )));
        };
        let taken = offload(move || arrival.take(message)).await;
        arrival = taken.map_err(ended)?.map_err(disk)?;
    }
    Ok(Received { vote, meta, dir })
}

/// The next part. A sender whose disk hangs answers the connection's own questions all the same.
async fn next(
    stream: &mut Streaming<pb::SnapshotRequest>,
) -> Result<Option<pb::SnapshotRequest>, Status> {
    match timeout(PART, stream.message()).await {
        Ok(part) => part,
        Err(_) => Err(Status::unavailable(format!(
            "no part of the snapshot came in {PART:?}"
        ))),
    }
}

fn disk(error: io::Error) -> Status {
    Status::internal(format!("cannot receive the snapshot: {error}"))
}

fn ended(error: tokio::task::JoinError) -> Status {
    Status::internal(error.to_string())
}

fn refuse(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A snapshot as far as it has arrived.
pub(crate) struct Arrival {
    dir: SnapshotDir,
    files: Vec<pb::SnapshotFile>,
    open: Vec<Incoming>,
    /// All of it is here, verified and synced.
    complete: bool,
}

impl Arrival {
    pub(crate) fn begin(files: Vec<pb::SnapshotFile>, dir: SnapshotDir) -> io::Result<Self> {
        std::fs::create_dir(dir.path())?;
        let mut open = Vec::with_capacity(files.len());
        for file in &files {
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
        Ok(Self {
            dir,
            files,
            open,
            complete: false,
        })
    }

    pub(crate) fn take(mut self, message: pb::SnapshotRequest) -> io::Result<Self> {
        match message.part {
            Some(Part::Chunk(chunk)) => {
                let file = self
                    .open
                    .get_mut(chunk.file as usize)
                    .ok_or_else(|| refuse("unknown file".to_owned()))?;
                file.write(&chunk)?;
            }
            Some(Part::Tail(tail)) => {
                let open = std::mem::take(&mut self.open);
                finish(&self.files, open, &tail, self.dir.path())?;
                self.complete = true;
            }
            Some(Part::Head(_)) | None => return Err(refuse("unexpected part".to_owned())),
        }
        Ok(self)
    }
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
