//! The wire between a supervisor and its clients (the agent): frames of `kind u8, length u32 big endian, payload`.
//! Pure encoding; both sides bound the payload.

use serde::{Deserialize, Serialize};

/// Largest payload either side sends.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Bytes before the payload.
pub const HEADER: usize = 5;

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Client: stream bytes to and from the container; payload is `AttachHello`.
    Attach = 1,
    /// Client: tell me when it exits.
    Watch = 2,
    Stdin = 3,
    StdinClose = 4,
    /// Client: two u16, width and height.
    Resize = 5,
    /// Client: one i32, a signal for the container's first process.
    Signal = 6,
    Stdout = 11,
    Stderr = 12,
    /// Server: the exit record as JSON; the last frame.
    Exit = 13,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Attach,
            2 => Self::Watch,
            3 => Self::Stdin,
            4 => Self::StdinClose,
            5 => Self::Resize,
            6 => Self::Signal,
            11 => Self::Stdout,
            12 => Self::Stderr,
            13 => Self::Exit,
            _ => return None,
        })
    }
}

/// Which streams an attach wants.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AttachHello {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// The peer does not speak this protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed frame")]
pub struct Malformed;

/// Appends one frame; longer payloads are split by the caller.
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    let length = u32::try_from(payload.len()).expect("payloads are at most MAX_PAYLOAD");
    out.push(kind as u8);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Takes the first whole frame off `buffer`; None when more bytes are needed.
pub fn decode(buffer: &mut Vec<u8>) -> Result<Option<(Kind, Vec<u8>)>, Malformed> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let kind = Kind::from_byte(header[0]).ok_or(Malformed)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > MAX_PAYLOAD {
        return Err(Malformed);
    }
    if buffer.len() < HEADER + length {
        return Ok(None);
    }
    let payload = buffer[HEADER..HEADER + length].to_vec();
    buffer.drain(..HEADER + length);
    Ok(Some((kind, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split() {
        let mut wire = Vec::new();
        encode(Kind::Stdout, b"hello", &mut wire);
        encode(Kind::Exit, b"", &mut wire);
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in wire {
            buffer.push(byte);
            while let Some(frame) = decode(&mut buffer).expect("well formed") {
                seen.push(frame);
            }
        }
        assert_eq!(
            seen,
            vec![(Kind::Stdout, b"hello".to_vec()), (Kind::Exit, vec![])]
        );
    }

    #[test]
    fn unknown_kinds_and_giant_lengths_are_refused() {
        assert_eq!(decode(&mut vec![99, 0, 0, 0, 0]), Err(Malformed));
        assert_eq!(decode(&mut vec![3, 0xff, 0, 0, 0]), Err(Malformed));
    }
}
