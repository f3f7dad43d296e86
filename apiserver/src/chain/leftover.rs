//! What a handler left unread of a request's body, and reading it after the answer is known.
//!
//! An answer that comes before the end of the body makes the transport cut the request short: over HTTP/1.1 the connection,
//! over HTTP/2 the stream. The client may learn of the cut first and never see the answer. Invariant: what is read here
//! is bounded in bytes and time, and nothing of it is kept.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::request::{Body, BoxError};

/// Bytes that are read and thrown away; whoever sends more may miss the answer.
const BYTES_MAX: usize = 16 << 20;
/// A client that sends no further in this time has to find its answer by itself.
const WAIT: Duration = Duration::from_secs(5);

/// Where a body comes back to when its reader lets go of it.
#[derive(Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Body>>>);

impl Leftover {
    /// The same body, which comes back here unless it is read to its end.
    pub(super) fn watch(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let watched = Watched {
            body: Some(body),
            home: self.clone(),
        };
        watched.boxed_unsync()
    }

    /// Reads what came back.
    pub(super) async fn read(&self) {
        let Some(body) = self.0.lock().take() else {
            return;
        };
        // Not finishing is no fault: the answer is the same, only less sure to arrive.
        let _ = tokio::time::timeout(WAIT, drain(body)).await;
    }
}

async fn drain(mut body: Body) {
    let mut read = 0;
    while read < BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

struct Watched {
    /// `None` after the end.
    body: Option<Body>,
    home: Leftover,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.home.0.lock() = Some(body);
        }
    }
}
