//! Answers as HTTP responses: single objects, and lists that are streamed item by item.
//!
//! Invariant: a list in plain JSON never exists as one buffer; its items are the cache's own bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use corten_api::status::Status;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::negotiate::{Format, Include, View};
use super::{Call, binary, pretty, table};
use crate::cache::Item;
use crate::registry::{Answer, Content, List, Target};
use crate::request::{Body, BoxError, full};
use crate::storage::Revision;

/// Items are gathered into pieces of about this size: large enough for TLS and HTTP/2, small enough to start early.
const PIECE: usize = 32 << 10;

/// A single object or Status.
pub(super) fn answer(call: &Call<'_>, answer: Answer) -> Result<Response<Body>, Status> {
    let as_is = call.accepted.view == View::Object
        && call.accepted.format == Format::Json
        && !call.query.pretty;
    let bytes = match &answer.content {
        Content::Item(item) if as_is && !converts(&call.target, call) => item.json.clone(),
        Content::Item(item) if is_plain_protobuf(call) => {
            let descriptor = call.target.descriptor;
            binary::item(item, &descriptor.api_version(), descriptor.kind)
        }
        Content::Item(item) => view_bytes(call, object_of(call, item))?,
        Content::Value(value) => view_bytes(call, value.clone())?,
        Content::Status(status) => {
            pretty::write(&status.to_json(), call.accepted.format, call.query.pretty)?
        }
    };
    let mut response = Response::new(full(bytes));
    *response.status_mut() = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::OK);
    set_headers(call, &mut response);
    for warning in &answer.warnings {
        add_warning(&mut response, warning);
    }
    Ok(response)
}

/// Whether items go out in protobuf as they are stored.
fn is_plain_protobuf(call: &Call<'_>) -> bool {
    call.accepted.format == Format::Protobuf
        && call.accepted.view == View::Object
        && !converts(&call.target, call)
}

/// Whether the requested view of the kind differs from the stored one.
fn converts(target: &Target, call: &Call<'_>) -> bool {
    let cache = call.api.registry.caches().of(target.descriptor);
    cache.is_some_and(|cache| !std::ptr::eq(cache.descriptor, target.descriptor))
}

/// The object as a tree, in the requested version.
pub(super) fn object_of(call: &Call<'_>, item: &Item) -> Value {
    let mut object = item.value();
    if converts(&call.target, call) {
        call.target
            .descriptor
            .strategy
            .decode_from_storage(&mut object);
        corten_api::meta::set_gvk(&mut object, &call.target.named("").gvk());
    }
    object
}

fn view_bytes(call: &Call<'_>, object: Value) -> Result<Bytes, Status> {
    let value = match call.accepted.view {
        View::Object => object,
        View::Metadata => table::partial(&object),
        View::Table(include) => {
            let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
            let descriptor = call.target.descriptor;
            let rows = vec![table::row(descriptor, object, include, call.context.now)];
            table::table(descriptor, metadata, rows, true)
        }
    };
    pretty::write(&value, call.accepted.format, call.query.pretty)
}

/// A page of objects.
pub(super) fn list(call: &Call<'_>, list: List) -> Result<Response<Body>, Status> {
    let metadata = list_metadata(&list);
    if call.accepted.format == Format::Protobuf {
        return Ok(binary_list(call, &metadata, &list.items));
    }
    let plain = call.accepted.format == Format::Json && !call.query.pretty;
    let items = match call.accepted.view {
        View::Object | View::Metadata if plain => {
            let (kind, api_version) = list_type(call);
            let start = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
            return Ok(streamed(call, &start, list.items));
        }
        View::Table(include) => {
            let value = list_table(call, metadata, &list, include);
            return finished(call, &value);
        }
        View::Metadata => list
            .items
            .iter()
            .map(|item| table::partial(&object_of(call, item)))
            .collect(),
        View::Object => list
            .items
            .iter()
            .map(|item| object_of(call, item))
            .collect::<Vec<_>>(),
    };
    let (kind, api_version) = list_type(call);
    let value =
        json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items});
    finished(call, &value)
}

/// A list in protobuf: its length stands in front, so the items' bytes are at hand before the first is sent.
fn binary_list(call: &Call<'_>, metadata: &Value, items: &[Arc<Item>]) -> Response<Body> {
    let (kind, api_version) = list_type(call);
    let partial = call.accepted.view == View::Metadata;
    let items = if is_plain_protobuf(call) {
        binary::items(items, |item| binary::item_message(item))
    } else {
        binary::items(items, |item| {
            let object = object_of(call, item);
            let object = if partial {
                table::partial(&object)
            } else {
                object
            };
            binary::message(&object).into()
        })
    };
    let pieces = binary::list(&api_version, kind, metadata, items, PIECE);
    let pieces = futures::stream::iter(pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece))));
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    set_headers(call, &mut response);
    response
}

fn list_type(call: &Call<'_>) -> (&'static str, String) {
    match call.accepted.view {
        View::Metadata => ("PartialObjectMetadataList", table::API_VERSION.to_owned()),
        _ => (
            call.target.descriptor.list_kind,
            call.target.descriptor.api_version(),
        ),
    }
}

fn list_metadata(list: &List) -> Value {
    let mut metadata = Map::new();
    if list.revision != Revision::ZERO {
        let revision = list.revision.to_string();
        metadata.insert("resourceVersion".to_owned(), revision.into());
    }
    if let Some(token) = &list.continue_token {
        metadata.insert("continue".to_owned(), token.as_str().into());
    }
    if let Some(remaining) = list.remaining {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    Value::Object(metadata)
}

fn list_table(call: &Call<'_>, metadata: Value, list: &List, include: Include) -> Value {
    let descriptor = call.target.descriptor;
    let now = Timestamp::now();
    let row = |item: &Arc<Item>| table::row(descriptor, object_of(call, item), include, now);
    table::table(
        descriptor,
        metadata,
        list.items.iter().map(row).collect(),
        true,
    )
}

fn finished(call: &Call<'_>, value: &Value) -> Result<Response<Body>, Status> {
    let bytes = pretty::write(value, call.accepted.format, call.query.pretty)?;
    let mut response = Response::new(full(bytes));
    set_headers(call, &mut response);
    Ok(response)
}

/// `{...start..., "items":[` item `,` item `]}` in pieces.
fn streamed(call: &Call<'_>, start: &Value, items: Vec<Arc<Item>>) -> Response<Body> {
    let mut head = start.to_string();
    // The closing brace follows behind the items.
    head.pop();
    head.push_str(",\"items\":[");
    let convert = Conversion {
        partial: call.accepted.view == View::Metadata,
        target: converts(&call.target, call).then(|| call.target.clone()),
    };
    let state = Some((
        BytesMut::from(head.as_str()),
        VecDeque::from(items),
        convert,
        true,
    ));
    let pieces = futures::stream::unfold(state, |state| async move {
        let (mut piece, mut items, convert, mut first) = state?;
        while piece.len() < PIECE {
            let Some(item) = items.pop_front() else {
                piece.extend_from_slice(b"]}\n");
                return Some((Ok::<_, BoxError>(Frame::data(piece.freeze())), None));
            };
            if !first {
                piece.extend_from_slice(b",");
            }
            first = false;
            piece.extend_from_slice(&convert.bytes(&item));
        }
        let rest = Some((BytesMut::with_capacity(PIECE), items, convert, first));
        Some((Ok(Frame::data(piece.freeze())), rest))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    set_headers(call, &mut response);
    response
}

/// What has to be done to an item before it is sent; usually nothing.
struct Conversion {
    partial: bool,
    /// Set when the requested version is not the stored one.
    target: Option<Target>,
}

impl Conversion {
    fn bytes(&self, item: &Item) -> Bytes {
        if !self.partial && self.target.is_none() {
            return item.json.clone();
        }
        let mut object = item.value();
        if let Some(target) = &self.target {
            target.descriptor.strategy.decode_from_storage(&mut object);
            corten_api::meta::set_gvk(&mut object, &target.gvk());
        }
        if self.partial {
            object = table::partial(&object);
        }
        Bytes::from(object.to_string())
    }
}

pub(super) fn set_headers(call: &Call<'_>, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(call.accepted.content_type()),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
}

/// RFC 7234 with code 299: kubectl prints the text to the user.
pub(super) fn add_warning(response: &mut Response<Body>, text: &str) {
    let mut quoted = String::with_capacity(text.len() + 2);
    for character in text.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
        response
            .headers_mut()
            .append(HeaderName::from_static("warning"), value);
    }
}
