//! gzip for large answers to clients that ask for it.
//!
//! Watches and streams are never compressed: each event must leave at once. Invariant: the compressed body decodes to
//! exactly the frames of the original, in order.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use crate::request::{Body, BoxError};

/// Smaller answers cost more to compress than to send; the threshold is upstream's.
const MIN_BYTES: u64 = 128 * 1024;

/// Whether the client accepts gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let mut parts = item.split(';').map(str::trim);
            matches!(parts.next(), Some("gzip" | "*"))
                && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
        })
}

/// Compresses a response that is large, or of unknown size.
pub(crate) fn apply(response: Response<Body>) -> Response<Body> {
    let small = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|size| size < MIN_BYTES);
    if small || response.headers().contains_key(CONTENT_ENCODING) || !response.status().is_success()
    {
        return response;
    }
    compressed(response)
}

/// Compresses whatever the size.
pub(crate) fn compressed(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    head.headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    head.headers.remove(CONTENT_LENGTH);
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    Response::from_parts(
        head,
        Gzip {
            body,
            encoder: Some(encoder),
        }
        .boxed_unsync(),
    )
}

/// Compresses a document at once.
pub(crate) fn whole(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let done = encoder.write_all(bytes).and_then(|()| encoder.finish());
    done.expect("writing to memory cannot fail").into()
}

struct Gzip {
    body: Body,
    /// `None` when the trailer has been written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

/// What is handed on at once.
const CHUNK: usize = 32 * 1024;

impl http_body::Body for Gzip {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            let Some(encoder) = this.encoder.as_mut() else {
                return Poll::Ready(None);
            };
            if encoder.get_ref().len() >= CHUNK {
                return Poll::Ready(Some(Ok(Frame::data(
                    std::mem::take(encoder.get_mut()).into(),
                ))));
            }
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && let Err(error) = encoder.write_all(&data)
                    {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let Some(encoder) = this.encoder.take() else {
                        return Poll::Ready(None);
                    };
                    return Poll::Ready(Some(match encoder.finish() {
                        Ok(rest) => Ok(Frame::data(rest.into())),
                        Err(error) => Err(error.into()),
                    }));
                }
            }
        }
    }
}
