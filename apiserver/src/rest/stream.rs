//! Watches as HTTP bodies: one JSON object per line, or a frame of protobuf, until the client's time is over.
//!
//! Invariant: an event's line or frame is made once for all watchers of one view; a watcher that cannot keep up is ended, and its
//! client resumes where it was.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::encode::set_headers;
use super::negotiate::{Format, Include, View};
use super::{Call, binary, table};
use crate::cache::{Delivery, Event, EventType, Item, Watch};
use crate::registry::Target;
use crate::request::{Body, BoxError};
use crate::storage::Revision;

/// What is ready is sent together up to this size.
const PIECE: usize = 64 << 10;

/// A response that streams a watch.
pub(super) fn watch(call: &Call<'_>, watch: Watch) -> Response<Body> {
    let cache = call.api.registry.caches().of(call.target.descriptor);
    let stored = cache.is_none_or(|cache| std::ptr::eq(cache.descriptor, call.target.descriptor));
    let state = Lines {
        watch,
        binary: call.accepted.format == Format::Protobuf,
        view: call.accepted.view,
        target: call.target.clone(),
        stored,
        bookmarks: call.query.allow_bookmarks,
        marks_initial_end: call.query.marks_initial_end(),
        columns_sent: false,
        deadline: Instant::now() + call.query.watch_timeout(),
    };
    let pieces = futures::stream::unfold(state, |mut lines| async move {
        let piece = lines.next_piece().await?;
        Some((Ok::<_, BoxError>(Frame::data(piece)), lines))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    set_headers(call, &mut response);
    let content_type = HeaderValue::from_static(call.accepted.stream_content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

struct Lines {
    watch: Watch,
    binary: bool,
    view: View,
    target: Target,
    /// Whether the requested version is the stored one.
    stored: bool,
    bookmarks: bool,
    marks_initial_end: bool,
    columns_sent: bool,
    deadline: Instant,
}

impl Lines {
    /// Waits for something to send; none ends the response.
    async fn next_piece(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::new();
        loop {
            let delivery = tokio::time::timeout_at(self.deadline, self.watch.next())
                .await
                .ok()??;
            let Some(line) = self.line(&delivery) else {
                // What this client is not told of must not hold back what it is told.
                if !piece.is_empty() && !self.watch.has_more() {
                    return Some(piece.freeze());
                }
                continue;
            };
            if piece.is_empty() && (line.len() >= PIECE || !self.watch.has_more()) {
                return Some(line);
            }
            piece.extend_from_slice(&line);
            if piece.len() >= PIECE || !self.watch.has_more() {
                return Some(piece.freeze());
            }
        }
    }

    fn line(&mut self, delivery: &Delivery) -> Option<Bytes> {
        match delivery {
            Delivery::Initial(item) if self.is_plain_binary() => {
                Some(self.item_frame(EventType::Added, item))
            }
            Delivery::Initial(item) => {
                Some(self.object_line(EventType::Added, &item.json, || item.value()))
            }
            Delivery::Event(kind, event) => Some(self.event_line(*kind, event)),
            Delivery::Bookmark {
                revision,
                initial_end: true,
            } if self.marks_initial_end => Some(self.bookmark(*revision, true)),
            Delivery::Bookmark {
                initial_end: true, ..
            } => None,
            Delivery::Bookmark { revision, .. } => {
                self.bookmarks.then(|| self.bookmark(*revision, false))
            }
        }
    }

    /// The line of an event, shared between the watchers with the same view.
    fn event_line(&mut self, kind: EventType, event: &Arc<Event>) -> Bytes {
        let first_row = matches!(self.view, View::Table(_)) && !self.columns_sent;
        if first_row || !self.stored {
            let bytes = event.object(kind);
            return self.object_line(kind, &bytes, || tree(&bytes));
        }
        let encoding = match self.view {
            View::Object if self.binary => 6,
            View::Metadata if self.binary => 7,
            View::Object => 1,
            View::Metadata => 2,
            View::Table(Include::Metadata) => 3,
            View::Table(Include::Object) => 4,
            View::Table(Include::Nothing) => 5,
        };
        if self.is_plain_binary()
            && kind != EventType::Deleted
            && let Some(item) = &event.new
        {
            return event.encoded(kind, encoding, || self.item_frame(kind, item));
        }
        let object = event.object(kind);
        event.encoded(kind, encoding, || {
            self.object_line(kind, &object, || tree(&object))
        })
    }

    /// Whether objects go out in protobuf as they are stored.
    fn is_plain_binary(&self) -> bool {
        self.binary && self.view == View::Object && self.stored
    }

    fn item_frame(&self, kind: EventType, item: &Item) -> Bytes {
        let descriptor = self.target.descriptor;
        let object = binary::item(item, &descriptor.api_version(), descriptor.kind);
        binary::frame(kind.as_str(), &object)
    }

    /// The line or frame of any object.
    fn written(&self, kind: &str, object: &Value) -> Bytes {
        if self.binary {
            binary::frame(kind, &binary::object(object))
        } else {
            line(kind, object.to_string().as_bytes())
        }
    }

    fn object_line(
        &mut self,
        kind: EventType,
        json: &Bytes,
        tree: impl FnOnce() -> Value,
    ) -> Bytes {
        if self.view == View::Object && self.stored && !self.binary {
            return line(kind.as_str(), json);
        }
        let mut object = tree();
        if !self.stored {
            self.target
                .descriptor
                .strategy
                .decode_from_storage(&mut object);
            corten_api::meta::set_gvk(&mut object, &self.target.gvk());
        }
        let value = match self.view {
            View::Object => object,
            View::Metadata => table::partial(&object),
            View::Table(include) => {
                let with_columns = !std::mem::replace(&mut self.columns_sent, true);
                let descriptor = self.target.descriptor;
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let row = table::row(descriptor, object, include, Timestamp::now());
                table::table(descriptor, metadata, vec![row], with_columns)
            }
        };
        self.written(kind.as_str(), &value)
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.view {
            View::Table(_) => table::table(self.target.descriptor, metadata, Vec::new(), false),
            View::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": table::API_VERSION, "metadata": metadata,
            }),
            View::Object => json!({
                "kind": self.target.descriptor.kind,
                "apiVersion": self.target.descriptor.api_version(),
                "metadata": metadata,
            }),
        };
        self.written("BOOKMARK", &object)
    }
}

fn tree(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("the cache's bytes are JSON")
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 40);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(kind.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
