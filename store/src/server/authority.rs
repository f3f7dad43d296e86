//! Lets clients in whose `:authority` is not one: etcdctl 3.4 names `http://host:port` there when its endpoint is spelled
//! with a scheme, and the HTTP/2 library refuses such a request (PROTOCOL_ERROR) before any of our code sees it.
//!
//! Not a proxy, and no judgement about anything else in a request: bytes pass as they are, but for the value of such a
//! header. Nothing here reads the authority, so what it is replaced by does not matter.
//! Invariant: the replacement has the decoded length of what it replaces. The header table that both ends of a
//! connection keep is counted in decoded lengths, so both still drop the same entries.
//!
//! ```text
//!   socket ─▶ raw ─▶ frames ─┬─ HEADERS: hpack::sanitize ─┬─▶ ready ─▶ HTTP/2 library
//!                            └─ all others ───────────────┘
//! ```
//! A client names one authority on a connection. After the first that is in order the bytes are no longer looked at.

mod hpack;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use hpack::Found;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// What HTTP/2 lets a peer send before it is told that it may send more; larger frames are not looked into.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Bytes read at once while frames are looked at.
const READ_BYTES: usize = 16 * 1024;

/// A connection whose reads are put in order.
pub(crate) struct Tolerant<IO> {
    inner: IO,
    state: State,
}

enum State {
    /// Frames are looked at.
    Looking(Box<Look>),
    /// Bytes pass.
    Passing,
}

impl<IO> Tolerant<IO> {
    pub(crate) fn new(inner: IO) -> Self {
        Self {
            inner,
            state: State::Looking(Box::default()),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tolerant<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let State::Looking(look) = &mut this.state else {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        };
        // Once it is done, something is ready, unless the peer has ended: then nothing is the right answer.
        while look.ready.is_empty() && !look.done {
            let mut chunk = [0; READ_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                look.end();
            } else {
                look.take(chunk.filled());
            }
        }
        let count = look.ready.len().min(buf.remaining());
        buf.put_slice(&look.ready.split_to(count));
        if look.ready.is_empty() && look.done {
            this.state = State::Passing;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tolerant<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<IO: Connected> Connected for Tolerant<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

/// Cuts what arrives into frames.
#[derive(Default)]
struct Look {
    /// Arrived, not yet looked at: the beginning of a frame.
    raw: BytesMut,
    /// For the reader.
    ready: BytesMut,
    /// Bytes of the present frame that pass as they are.
    pass: usize,
    /// The bytes that every HTTP/2 connection begins with have been seen.
    begun: bool,
    /// Whatever comes now passes.
    done: bool,
}

impl Look {
    fn take(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        while !self.done && self.step() {}
        if self.done {
            self.flush();
        }
    }

    /// The peer sends no more: what is left passes as it is.
    fn end(&mut self) {
        self.done = true;
        self.flush();
    }

    fn flush(&mut self) {
        let rest = self.raw.split();
        self.ready.extend_from_slice(&rest);
    }

    /// Handles what is whole. Gives whether there may be more.
    fn step(&mut self) -> bool {
        if !self.begun {
            return self.preface();
        }
        if self.pass > 0 {
            let count = self.pass.min(self.raw.len());
            self.ready.extend_from_slice(&self.raw.split_to(count));
            self.pass -= count;
            return self.pass == 0;
        }
        let Some(header) = self.raw.first_chunk::<FRAME_HEADER>() else {
            return false;
        };
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, flags) = (header[3], header[4]);
        if kind != HEADERS || len > FRAME_BYTES_MAX {
            self.pass = FRAME_HEADER + len;
            return true;
        }
        if self.raw.len() < FRAME_HEADER + len {
            return false;
        }
        let frame = self.raw.split_to(FRAME_HEADER + len);
        self.headers(frame.freeze(), flags);
        true
    }

    fn preface(&mut self) -> bool {
        let count = self.raw.len().min(PREFACE.len());
        if self.raw[..count] != PREFACE[..count] {
            // Not HTTP/2: somebody else's to refuse.
            self.done = true;
            return false;
        }
        self.begun = count == PREFACE.len();
        if self.begun {
            self.ready.extend_from_slice(&self.raw.split_to(count));
        }
        self.begun
    }

    fn headers(&mut self, frame: Bytes, flags: u8) {
        let found = block_of(&frame, flags).map(|(from, to)| (from, to, &frame[from..to]));
        let Some((from, to, block)) = found else {
            self.ready.extend_from_slice(&frame);
            return;
        };
        match hpack::sanitize(block) {
            Found::Nothing => self.ready.extend_from_slice(&frame),
            Found::InOrder => {
                self.ready.extend_from_slice(&frame);
                self.done = true;
            }
            Found::Replaced(block) => {
                let len = frame.len() - FRAME_HEADER - (to - from) + block.len();
                if len > FRAME_BYTES_MAX {
                    self.ready.extend_from_slice(&frame);
                    return;
                }
                let size = u32::try_from(len).unwrap_or_default().to_be_bytes();
                self.ready.extend_from_slice(&size[1..]);
                self.ready.extend_from_slice(&frame[3..from]);
                self.ready.extend_from_slice(&block);
                self.ready.extend_from_slice(&frame[to..]);
            }
        }
    }
}

/// Where the compressed headers are within a HEADERS frame: after the lengths of padding and the priority, before the
/// padding.
fn block_of(frame: &Bytes, flags: u8) -> Option<(usize, usize)> {
    let mut rest = frame.slice(FRAME_HEADER..);
    let mut padding = 0;
    if flags & FLAG_PADDED != 0 {
        padding = usize::from(rest.try_get_u8().ok()?);
    }
    if flags & FLAG_PRIORITY != 0 {
        rest.try_get_u32().ok()?;
        rest.try_get_u8().ok()?;
    }
    let from = frame.len() - rest.len();
    let to = frame.len().checked_sub(padding)?;
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests;
