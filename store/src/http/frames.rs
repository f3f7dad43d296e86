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
const PREFIX: usize = 5;

/// JSON values, one after the other.
pub(super) struct Values {
    body: Body,
    buffer: BytesMut,
    ended: bool,
}

impl Values {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
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
                Err(status) => {
                    self.ended = true;
                    self.buffer.clear();
                    return Some(Err(status));
                }
            }
            if let Err(status) = self.read().await {
                self.ended = true;
                self.buffer.clear();
                return Some(Err(status));
            }
        }
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
        let mut values =
            serde_json::Deserializer::from_slice(&self.buffer).into_iter::<IgnoredAny>();
        match values.next() {
            None => {
                self.buffer.clear();
                Ok(None)
            }
            Some(Ok(_)) => {
                let len = values.byte_offset();
                Ok(Some(self.buffer.split_to(len).freeze()))
            }
            Some(Err(error)) if error.is_eof() && !self.ended => Ok(None),
            Some(Err(error)) => Err(Status::invalid_argument(error.to_string())),
        }
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
                return None;
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

    fn body(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Bytes::from_static(piece.as_bytes()))
            .collect();
        let frames = pieces
            .into_iter()
            .map(|piece| Ok::<_, Status>(Frame::data(piece)));
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    async fn all(pieces: &[&'static str]) -> Vec<String> {
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

    #[tokio::test]
    async fn values_are_cut_wherever_the_network_cuts_them() {
        assert_eq!(
            all(&["{\"a\":", "1}{\"b", "\":2} ", "\n"]).await,
            ["{\"a\":1}", "{\"b\":2}"]
        );
        assert!(all(&[" ", "\n"]).await.is_empty());
        assert_eq!(all(&["{\"a\":1"]).await, ["InvalidArgument"], "cut short");
        assert_eq!(all(&["{}x{}"]).await, ["{}", "InvalidArgument"]);
        assert!(Values::new(body(&["{}{}"])).only().await.is_err());
        assert!(
            Values::new(body(&[]))
                .only()
                .await
                .expect("empty")
                .is_none()
        );
    }
}
