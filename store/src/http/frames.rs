//! Cutting streams of bytes: JSON values out of a request's body, gRPC messages out of an answer's.
//!
//! Knows no message. Invariant: neither keeps more than one value of the largest size that is allowed, and what comes after
//! an error is not looked at.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::de::IgnoredAny;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::services::MESSAGE_BYTES_MAX;

/// JSON is longer than what it stands for: bytes are base64, and names are spelled out.
const JSON_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// A flag and a length before each gRPC message.
pub(super) const PREFIX: usize = 5;

/// Finds where a JSON object ends, each byte looked at once however small the pieces are that it comes in: reading from the
/// front again at each piece would let whoever sends single bytes keep a thread busy for hours.
#[derive(Default)]
struct Scan {
    /// Bytes looked at.
    seen: usize,
    /// Objects and lists that are open.
    open: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// The length up to the end of the object that the buffer begins with, if it is there; an error for what is none.
    fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Status> {
        for byte in &buffer[self.seen..] {
            self.seen += 1;
            if self.in_string {
                let escaped = self.escaped;
                self.escaped = *byte == b'\\' && !escaped;
                self.in_string = *byte != b'"' || escaped;
                continue;
            }
            match byte {
                b'{' => self.open += 1,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.open == 0 => {
                    return Err(Status::invalid_argument("the body is not a JSON object"));
                }
                b'[' => self.open += 1,
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.open -= 1;
                    if self.open == 0 {
                        return Ok(Some(self.seen));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// JSON objects, one after the other.
pub(super) struct Values {
    body: Body,
    buffer: BytesMut,
    scan: Scan,
    ended: bool,
}

impl Values {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            scan: Scan::default(),
            ended: false,
        }
    }

    /// The next value as text.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            match self.cut() {
                Ok(Some(value)) => return Some(Ok(value)),
                Ok(None) if self.ended => return None,
                Ok(None) => {}
                Err(status) => return Some(Err(self.end(status))),
            }
            if let Err(status) = self.read().await {
                return Some(Err(self.end(status)));
            }
        }
    }

    /// Nothing more is looked at.
    fn end(&mut self, status: Status) -> Status {
        self.ended = true;
        self.buffer.clear();
        self.scan = Scan::default();
        status
    }

    /// The only value; none for an empty body.
    pub(super) async fn only(mut self) -> Result<Option<Bytes>, Status> {
        let Some(value) = self.next().await.transpose()? else {
            return Ok(None);
        };
        match self.next().await {
            None => Ok(Some(value)),
            Some(_) => Err(Status::invalid_argument("more than one value in the body")),
        }
    }

    fn cut(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(len) = self.scan.end(&self.buffer)? {
            self.scan = Scan::default();
            let value = self.buffer.split_to(len).freeze();
            let wrong = |error: serde_json::Error| Status::invalid_argument(error.to_string());
            let _: IgnoredAny = serde_json::from_slice(&value).map_err(wrong)?;
            return Ok(Some(value));
        }
        if self.ended && self.scan.open > 0 {
            return Err(Status::invalid_argument("the body ends within a value"));
        }
        Ok(None)
    }

    async fn read(&mut self) -> Result<(), Status> {
        match self.body.frame().await {
            None => self.ended = true,
            Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                if self.buffer.len() + data.len() > JSON_BYTES_MAX {
                    return Err(Status::resource_exhausted(
                        "the request's body is too large",
                    ));
                }
                self.buffer.extend_from_slice(&data);
            }
        }
        Ok(())
    }
}

/// gRPC messages, one after the other, until the status.
pub(super) struct Messages {
    body: Body,
    buffer: BytesMut,
    ended: bool,
}

impl Messages {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            ended: false,
        }
    }

    /// The next message; none at a good end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            if let Some(message) = self.cut() {
                return Some(Ok(message));
            }
            if self.ended {
                // A part of a message is no end, whoever sent it.
                let cut = !std::mem::take(&mut self.buffer).is_empty();
                return cut.then(|| Err(Status::internal("the answer ends within a message")));
            }
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(status)) => {
                    self.ended = true;
                    return Some(Err(status));
                }
                None => {
                    self.ended = true;
                    continue;
                }
            };
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    self.ended = true;
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let status = Status::from_header_map(&trailers);
                    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                        return Some(Err(status));
                    }
                }
            }
        }
    }

    fn cut(&mut self) -> Option<Bytes> {
        let prefix = self.buffer.first_chunk::<PREFIX>()?;
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.buffer.len() < PREFIX + len {
            return None;
        }
        self.buffer.advance(PREFIX);
        Some(self.buffer.split_to(len).freeze())
    }
}

/// A message as gRPC sends it.
pub(super) fn framed(message: &[u8]) -> Result<Bytes, Status> {
    let len = u32::try_from(message.len())
        .map_err(|_| Status::resource_exhausted("the message is too large"))?;
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(len);
    frame.extend_from_slice(message);
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    fn body(pieces: &[&[u8]]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Bytes::copy_from_slice(piece))
            .collect();
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Status>(Frame::data(piece)));
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    async fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut values = Values::new(body(pieces));
        let mut seen = Vec::new();
        while let Some(value) = values.next().await {
            seen.push(match value {
                Ok(value) => String::from_utf8_lossy(&value).trim().to_owned(),
                Err(status) => format!("{:?}", status.code()),
            });
        }
        seen
    }

    async fn all(pieces: &[&str]) -> Vec<String> {
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        read(&pieces).await
    }

    /// What serde finds: the values, and whether something is wrong behind them.
    fn expected(text: &[u8]) -> Vec<String> {
        let values = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
        let mut seen = Vec::new();
        for value in values {
            match value {
                Ok(value) if value.is_object() => seen.push(value.to_string()),
                _ => {
                    seen.push("InvalidArgument".to_owned());
                    break;
                }
            }
        }
        seen
    }

    proptest::proptest! {
        /// Objects with odd strings, changed here and there and cut into pieces, are read as serde reads the whole.
        #[test]
        fn bodies_are_read_as_a_whole_wherever_they_are_cut(
            strings in proptest::collection::vec("[\"{}\\[\\]\\\\a ]{0,6}", 1..5),
            change in proptest::option::of((0_usize..60, 0_u8..128)),
            piece in 1_usize..9,
        ) {
            let mut text = Vec::new();
            for string in &strings {
                let value = serde_json::json!({ string: [string, { "n": 1 }] });
                text.extend_from_slice(value.to_string().as_bytes());
            }
            if let Some((at, byte)) = change && at < text.len() {
                text[at] = byte;
            }
            let pieces: Vec<_> = text.chunks(piece).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            let found = runtime.block_on(read(&pieces));
            let normal = found.iter().map(|value| match serde_json::from_str::<serde_json::Value>(value) {
                Ok(value) => value.to_string(),
                Err(_) => value.clone(),
            });
            proptest::prop_assert_eq!(normal.collect::<Vec<_>>(), expected(&text));
        }
    }

    #[tokio::test]
    async fn a_body_in_single_bytes_was_read_again_at_each() {
        let text = format!("{{\"k\":\"{}\"}}", "x".repeat(400_000));
        let pieces: Vec<_> = text.as_bytes().chunks(1).collect();
        let began = std::time::Instant::now();
        assert_eq!(read(&pieces).await, [text.as_str()]);
        let took = began.elapsed();
        assert!(
            took < std::time::Duration::from_secs(20),
            "it took {took:?}"
        );
    }

    #[tokio::test]
    async fn values_are_cut_wherever_the_network_cuts_them() {
        assert_eq!(
            all(&["{\"a\":", "1}{\"b", "\":2} ", "\n"]).await,
            ["{\"a\":1}", "{\"b\":2}"]
        );
        assert!(all(&[" ", "\n"]).await.is_empty());
        assert_eq!(all(&["{\"a\":1"]).await, ["InvalidArgument"], "cut short");
        assert_eq!(all(&["{}x{}"]).await, ["{}", "InvalidArgument"]);
        assert!(Values::new(body(&[b"{}{}"])).only().await.is_err());
        assert!(
            Values::new(body(&[]))
                .only()
                .await
                .expect("empty")
                .is_none()
        );
    }
}
