//! Frames of SPDY/3: reading from bytes that a peer sent (bounded, never trusted) and writing. Pure apart from the reader.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Larger frames are refused: clients send at most 32 KiB at a time.
const FRAME_BYTES_MAX: usize = 4 << 20;
const CONTROL: u8 = 0x80;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;

/// A frame as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        headers: Bytes,
    },
    SynReply {
        id: u32,
        headers: Bytes,
    },
    Data {
        id: u32,
        fin: bool,
        data: Bytes,
    },
    Reset {
        id: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// SETTINGS, WINDOW_UPDATE, HEADERS: nothing to do.
    Other,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("frame is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads the next frame; `None` at a clean end. Not cancel-safe: one task reads.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, FrameError> {
    let mut head = [0_u8; 8];
    match io.read(&mut head[..1]).await? {
        0 => return Ok(None),
        _ => io.read_exact(&mut head[1..]).await?,
    };
    let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge(length));
    }
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await?;
    let mut payload = Bytes::from(payload);
    let fin = head[4] & FLAG_FIN != 0;
    if head[0] & CONTROL == 0 {
        let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        return Ok(Some(Frame::Data {
            id,
            fin,
            data: payload,
        }));
    }
    if u16::from_be_bytes([head[0] & !CONTROL, head[1]]) != VERSION {
        return Err(FrameError::Malformed("not SPDY/3"));
    }
    let mut number = || {
        if payload.remaining() >= 4 {
            Ok(payload.get_u32() & 0x7fff_ffff)
        } else {
            Err(FrameError::Malformed("too short"))
        }
    };
    let frame = match u16::from_be_bytes([head[2], head[3]]) {
        1 => {
            let id = number()?;
            number()?; // associated stream
            if payload.remaining() < 2 {
                return Err(FrameError::Malformed("too short"));
            }
            payload.advance(2); // priority and slot
            Frame::SynStream {
                id,
                fin,
                headers: payload,
            }
        }
        2 => {
            let id = number()?;
            Frame::SynReply {
                id,
                headers: payload,
            }
        }
        3 => Frame::Reset { id: number()? },
        6 => Frame::Ping { id: number()? },
        7 => Frame::GoAway,
        _ => Frame::Other,
    };
    Ok(Some(frame))
}

/// Writes a frame.
pub(super) fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    match frame {
        Frame::Data { id, fin, data } => {
            out.put_u32(*id);
            put_length(&mut out, u8::from(*fin) * FLAG_FIN, data.len());
            out.put_slice(data);
        }
        Frame::SynStream { id, fin, headers } => {
            control(&mut out, 1, u8::from(*fin) * FLAG_FIN, headers.len() + 10);
            out.put_u32(*id);
            out.put_u32(0);
            out.put_u16(0);
            out.put_slice(headers);
        }
        Frame::SynReply { id, headers } => {
            control(&mut out, 2, 0, headers.len() + 4);
            out.put_u32(*id);
            out.put_slice(headers);
        }
        Frame::Reset { id } => {
            control(&mut out, 3, 0, 8);
            out.put_u32(*id);
            out.put_u32(CANCEL);
        }
        Frame::Ping { id } => {
            control(&mut out, 6, 0, 4);
            out.put_u32(*id);
        }
        Frame::GoAway => {
            control(&mut out, 7, 0, 8);
            out.put_u32(0);
            out.put_u32(0);
        }
        Frame::Other => {}
    }
    out.freeze()
}

/// RST_STREAM's status for "not wanted any more".
const CANCEL: u32 = 5;

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(u16::from(CONTROL) << 8 | VERSION);
    out.put_u16(kind);
    put_length(out, flags, length);
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).expect("our own frames are below the limit");
    assert!(length < 1 << 24, "our own frames are below the limit");
    out.put_u32(u32::from(flags) << 24 | length);
}
