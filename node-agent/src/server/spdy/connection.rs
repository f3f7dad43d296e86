//! One SPDY connection: a reader that hands out streams and their data, a writer that takes frames from all of them. Both
//! queues are bounded; a stream that nobody reads holds up its connection and no other.

use std::collections::HashMap;

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{self, Frame, FrameError};
use super::headers::{Decoder, Encoder, Headers};

/// Frames and chunks in flight.
const BACKLOG: usize = 32;
/// Streams open at once on one connection.
const STREAMS_MAX: usize = 2_048;

/// A connection whose streams the client opens.
pub(in crate::server) struct Connection {
    streams: mpsc::Receiver<IncomingStream>,
}

/// A stream that the client opened.
pub(in crate::server) struct IncomingStream {
    headers: Headers,
    data: mpsc::Receiver<Bytes>,
    writer: StreamWriter,
}

/// Our direction of a stream.
#[derive(Clone)]
pub(in crate::server) struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

/// The connection is gone.
#[derive(Debug)]
pub(in crate::server) struct Gone;

impl StreamWriter {
    pub(in crate::server) async fn send(&self, data: Bytes) -> Result<(), Gone> {
        self.frames
            .send(Frame::Data {
                id: self.id,
                fin: false,
                data,
            })
            .await
            .map_err(|_| Gone)
    }

    /// Ends our direction.
    pub(in crate::server) async fn finish(&self) {
        // A connection that is gone has ended it already.
        let _ = self
            .frames
            .send(Frame::Data {
                id: self.id,
                fin: true,
                data: Bytes::new(),
            })
            .await;
    }
}

impl IncomingStream {
    /// A header by its lower-case name.
    pub(in crate::server) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(in crate::server) async fn send(&mut self, data: Bytes) -> Result<(), Gone> {
        self.writer.send(data).await
    }

    pub(in crate::server) async fn finish(&mut self) {
        self.writer.finish().await;
    }

    /// The client's data (closed at its end) and our direction.
    pub(in crate::server) fn split(self) -> (mpsc::Receiver<Bytes>, StreamWriter) {
        (self.data, self.writer)
    }
}

impl Connection {
    pub(in crate::server) fn start(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (read, write) = tokio::io::split(io);
        let (frames, outgoing) = mpsc::channel(BACKLOG);
        let (opened, streams) = mpsc::channel(BACKLOG);
        spawn(
            "spdy-write",
            TaskKind::Connection,
            write_loop(write, outgoing),
        );
        spawn("spdy-read", TaskKind::Connection, async move {
            let reader = Reader {
                frames,
                opened,
                data: HashMap::new(),
                decoder: Decoder::new(),
                encoder: Encoder::new(),
            };
            if let Err(error) = reader.run(Box::pin(read)).await {
                tracing::debug!(%error, "SPDY connection ended");
            }
        });
        Self { streams }
    }

    /// The next stream; `None` when the connection has ended.
    pub(in crate::server) async fn accept(&mut self) -> Option<IncomingStream> {
        self.streams.recv().await
    }
}

async fn write_loop(write: impl AsyncWrite + Send, mut frames: mpsc::Receiver<Frame>) {
    let mut write = Box::pin(write);
    while let Some(next) = frames.recv().await {
        let mut sent = write.write_all(&frame::encode(&next)).await;
        if sent.is_ok() && frames.is_empty() {
            sent = write.flush().await;
        }
        if sent.is_err() {
            return;
        }
    }
    let _ = write.write_all(&frame::encode(&Frame::GoAway)).await;
    let _ = write.shutdown().await;
}

struct Reader {
    frames: mpsc::Sender<Frame>,
    opened: mpsc::Sender<IncomingStream>,
    data: HashMap<u32, mpsc::Sender<Bytes>>,
    decoder: Decoder,
    encoder: Encoder,
}

impl Reader {
    async fn run(mut self, mut read: impl AsyncRead + Unpin) -> Result<(), FrameError> {
        while let Some(next) = frame::read(&mut read).await? {
            match next {
                Frame::SynStream { id, fin, headers } => {
                    if !self.open(id, fin, &headers).await? {
                        return Ok(());
                    }
                }
                Frame::Data { id, fin, data } => {
                    // A stream that nobody reads any more is passed over.
                    if let Some(sender) = self.data.get(&id)
                        && !data.is_empty()
                        && sender.send(data).await.is_err()
                    {
                        self.data.remove(&id);
                    }
                    if fin {
                        self.data.remove(&id);
                    }
                }
                Frame::Reset { id } => drop(self.data.remove(&id)),
                Frame::Ping { id } => {
                    if self.frames.send(Frame::Ping { id }).await.is_err() {
                        return Ok(());
                    }
                }
                Frame::GoAway => return Ok(()),
                Frame::SynReply { .. } | Frame::Other => {}
            }
        }
        Ok(())
    }

    /// False when the connection's owner has gone.
    async fn open(&mut self, id: u32, fin: bool, block: &[u8]) -> Result<bool, FrameError> {
        let headers = self
            .decoder
            .decode(block)
            .map_err(|_| FrameError::Malformed("header block"))?;
        if self.data.len() >= STREAMS_MAX {
            return Ok(self.frames.send(Frame::Reset { id }).await.is_ok());
        }
        let reply = Frame::SynReply {
            id,
            headers: self.encoder.encode(&[]),
        };
        let (sender, data) = mpsc::channel(BACKLOG);
        if !fin {
            self.data.insert(id, sender);
        }
        let writer = StreamWriter {
            id,
            frames: self.frames.clone(),
        };
        if self.frames.send(reply).await.is_err() {
            return Ok(false);
        }
        Ok(self
            .opened
            .send(IncomingStream {
                headers,
                data,
                writer,
            })
            .await
            .is_ok())
    }
}
