//! Answers in protobuf: objects in their envelope, lists piece by piece, frames of a watch.
//!
//! Invariant: the bytes of a stored object are made once, with its item, and shared by every list and watch.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use corten_api::meta::GroupVersionKind;
use corten_api::protobuf::{self, ListWriter};
use corten_api::schema;
use serde_json::Value;

use crate::cache::Item;

/// An object or Status in its envelope.
pub(super) fn object(value: &Value) -> Bytes {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    protobuf::envelope(api_version, kind, &message(value)).into()
}

/// An object's bytes without an envelope.
pub(super) fn message(value: &Value) -> Vec<u8> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    let kind = text("kind");
    if kind == "PartialObjectMetadata" {
        return protobuf::metadata_message(&value["metadata"]);
    }
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    let gvk = GroupVersionKind::new(group.to_owned(), version.to_owned(), kind.to_owned());
    let shared = || schema::by_name(&format!("{}.{kind}", schema::META_V1));
    let ty = schema::lookup(&gvk).or_else(shared);
    ty.map_or_else(Vec::new, |ty| protobuf::message(value, ty))
}

/// A stored object in its envelope.
pub(super) fn item(item: &Item, api_version: &str, kind: &str) -> Bytes {
    protobuf::envelope(api_version, kind, &item_message(item)).into()
}

/// A stored object's bytes without an envelope.
pub(super) fn item_message(item: &Item) -> Bytes {
    item.protobuf(message)
}

/// A list whose items' bytes are known, in pieces of about this size.
pub(super) fn list(
    api_version: &str,
    list_kind: &str,
    metadata: &Value,
    items: Vec<Bytes>,
    piece: usize,
) -> impl Iterator<Item = Bytes> + use<> {
    let lengths = items.iter().map(Bytes::len);
    let mut writer = ListWriter::new(api_version, list_kind, metadata, lengths);
    let mut items = VecDeque::from(items);
    let mut start = Some(writer.start());
    std::iter::from_fn(move || {
        let mut out = BytesMut::from(start.as_deref().unwrap_or_default());
        if start.take().is_none() && items.is_empty() {
            return None;
        }
        while let Some(item) = items.pop_front() {
            ListWriter::before_item(&mut out, item.len());
            out.extend_from_slice(&item);
            if out.len() >= piece {
                break;
            }
        }
        if items.is_empty() {
            out.extend_from_slice(&ListWriter::end());
        }
        Some(out.freeze())
    })
}

/// One event of a watch; the object is in its envelope.
pub(super) fn frame(event: &str, object: &[u8]) -> Bytes {
    protobuf::event_frame(event, object).into()
}

/// The bytes of all items of a list.
pub(super) fn items(items: &[Arc<Item>], bytes: impl Fn(&Arc<Item>) -> Bytes) -> Vec<Bytes> {
    items.iter().map(bytes).collect()
}
