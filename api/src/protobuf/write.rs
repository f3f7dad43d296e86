//! Trees as bytes of protobuf, by the schema's tags.
//!
//! Invariant: what the schema does not know is left out, and what does not fit its field is left out too: objects passed `decode`
//! before they are stored, and an answer must not fail for one field.

use base64::Engine;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::MAGIC;
use crate::schema::{self, Field, Shape, Type};

/// The bytes of an object of a type, without an envelope.
pub fn message(object: &Value, ty: &'static Type) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    if let Some(map) = object.as_object() {
        fields(map, ty, &mut Vec::new(), &mut out);
    }
    out
}

/// The bytes of a `PartialObjectMetadata` with this metadata, without an envelope.
pub fn metadata_message(metadata: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    named(&mut out, 1, metadata, "ObjectMeta");
    out
}

fn named(out: &mut Vec<u8>, tag: u32, value: &Value, name: &str) {
    let ty = schema::by_name(&format!("{}.{name}", schema::META_V1));
    if let (Some(ty), Some(map)) = (ty, value.as_object()) {
        nested(out, tag, |out| fields(map, ty, &mut Vec::new(), out));
    }
}

/// Puts the bytes of an object into an envelope that says what it is.
pub fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = head(api_version, kind, raw.len());
    out.extend_from_slice(raw);
    tail(&mut out);
    out
}

/// Everything before the object's bytes.
fn head(api_version: &str, kind: &str, raw: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw + 64);
    out.extend_from_slice(MAGIC);
    nested(&mut out, 1, |out| {
        bytes_field(out, 1, api_version.as_bytes());
        bytes_field(out, 2, kind.as_bytes());
    });
    key(&mut out, 2, LENGTH_DELIMITED);
    varint(&mut out, raw as u64);
    out
}

/// Everything behind them: no encoding, no other content type.
fn tail(out: &mut Vec<u8>) {
    bytes_field(out, 3, b"");
    bytes_field(out, 4, b"");
}

/// A watch event behind its length; `object` is in its envelope.
pub fn event_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 32);
    out.extend_from_slice(&[0; 4]);
    bytes_field(&mut out, 1, event.as_bytes());
    nested(&mut out, 2, |out| bytes_field(out, 1, object));
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// Writes a list whose items' bytes are at hand, piece by piece.
#[derive(Debug)]
pub struct ListWriter {
    start: Vec<u8>,
}

impl ListWriter {
    /// For items of these lengths; `metadata` is the list's.
    pub fn new(
        api_version: &str,
        list_kind: &str,
        metadata: &Value,
        lengths: impl Iterator<Item = usize>,
    ) -> Self {
        let mut inner = Vec::with_capacity(64);
        named(&mut inner, 1, metadata, "ListMeta");
        let items: usize = lengths.map(|length| 1 + varint_len(length) + length).sum();
        let mut start = head(api_version, list_kind, inner.len() + items);
        start.extend_from_slice(&inner);
        Self { start }
    }

    /// What comes before the first item.
    pub fn start(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.start)
    }

    /// What comes before an item of this length.
    pub fn before_item(out: &mut impl Extend<u8>, length: usize) {
        let mut bytes = Vec::with_capacity(6);
        key(&mut bytes, 2, LENGTH_DELIMITED);
        varint(&mut bytes, length as u64);
        out.extend(bytes);
    }

    /// What comes behind the last one.
    pub fn end() -> Bytes {
        let mut out = Vec::new();
        tail(&mut out);
        out.into()
    }
}

/// The fields of an object that belong directly below `inside`, the tags of embedded structs on the way here.
fn fields(map: &Map<String, Value>, ty: &'static Type, inside: &mut Vec<u32>, out: &mut Vec<u8>) {
    let depth = inside.len();
    let mut embedded: Vec<u32> = Vec::new();
    for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        let Some(field) = ty.field(name) else {
            continue;
        };
        let way = field.inlined.iter().map(|(tag, _)| *tag);
        if !way.clone().take(depth).eq(inside.iter().copied()) {
            continue;
        }
        match field.inlined.get(depth) {
            Some((tag, _)) if !embedded.contains(tag) => embedded.push(*tag),
            Some(_) => {}
            None => write_field(field, value, out),
        }
    }
    for tag in embedded {
        inside.push(tag);
        nested(out, tag, |out| fields(map, ty, inside, out));
        inside.pop();
    }
}

fn write_field(field: &Field, value: &Value, out: &mut Vec<u8>) {
    // apiVersion and kind travel in the envelope.
    if field.tag == 0 {
        return;
    }
    match (&field.shape, value) {
        (Shape::List(item), Value::Array(values)) => {
            for value in values {
                write_item(field.tag, item, value, out);
            }
        }
        (Shape::Map(item), Value::Object(map)) => {
            for (name, value) in map {
                nested(out, field.tag, |out| {
                    bytes_field(out, 1, name.as_bytes());
                    match (&**item, value) {
                        // Lists in maps travel in a message of their own.
                        (Shape::List(item), Value::Array(values)) => nested(out, 2, |out| {
                            for value in values {
                                write_item(1, item, value, out);
                            }
                        }),
                        (shape, value) => write_item(2, shape, value, out),
                    }
                });
            }
        }
        (shape, value) => write_item(field.tag, shape, value, out),
    }
}

/// One value. A null in a list is an empty message, so that the others keep their places.
fn write_item(tag: u32, shape: &Shape, value: &Value, out: &mut Vec<u8>) {
    match (shape, value) {
        (Shape::Bool, Value::Bool(flag)) => varint_field(out, tag, u64::from(*flag)),
        (Shape::Int32 | Shape::Int64, Value::Number(number)) => {
            if let Some(number) = number.as_i64() {
                varint_field(out, tag, number.cast_unsigned());
            }
        }
        (Shape::Double, Value::Number(number)) => {
            if let Some(number) = number.as_f64() {
                key(out, tag, FIXED_64);
                out.extend_from_slice(&number.to_bits().to_le_bytes());
            }
        }
        (Shape::String, Value::String(text)) => bytes_field(out, tag, text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => {
            if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) {
                bytes_field(out, tag, &bytes);
            }
        }
        (Shape::Quantity, Value::String(text)) => {
            nested(out, tag, |out| bytes_field(out, 1, text.as_bytes()));
        }
        (Shape::Quantity, Value::Number(number)) => {
            nested(out, tag, |out| {
                bytes_field(out, 1, number.to_string().as_bytes())
            });
        }
        (Shape::IntOrString, value) => nested(out, tag, |out| int_or_string(value, out)),
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            nested(out, tag, |out| time(text, out));
        }
        (Shape::Raw | Shape::FieldsV1 | Shape::Json, value) => {
            nested(out, tag, |out| {
                bytes_field(out, 1, value.to_string().as_bytes())
            });
        }
        (Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings, value) => {
            nested(out, tag, |out| schema_or(shape, value, out));
        }
        (Shape::Object(id), Value::Object(map)) => {
            nested(out, tag, |out| fields(map, id.get(), &mut Vec::new(), out));
        }
        (Shape::Object(_), Value::Null) => nested(out, tag, |_| {}),
        _ => {}
    }
}

fn int_or_string(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            varint_field(out, 1, 1);
            varint_field(out, 2, 0);
            bytes_field(out, 3, text.as_bytes());
        }
        value => {
            varint_field(out, 1, 0);
            varint_field(out, 2, value.as_i64().unwrap_or(0).cast_unsigned());
            bytes_field(out, 3, b"");
        }
    }
}

fn time(text: &str, out: &mut Vec<u8>) {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        let nanos = i64::from(time.subsec_nanosecond());
        // Before 1970 jiff counts both parts down, the message counts nanoseconds up.
        let borrow = i64::from(nanos < 0);
        varint_field(out, 1, (time.as_second() - borrow).cast_unsigned());
        varint_field(out, 2, (nanos + borrow * 1_000_000_000).cast_unsigned());
    }
}

/// The alternatives in schemas of custom resources: a schema, or many of them, a boolean, or texts.
fn schema_or(shape: &Shape, value: &Value, out: &mut Vec<u8>) {
    let Some(props) = schema::by_name(super::SCHEMA_PROPS) else {
        return;
    };
    let schema = |out: &mut Vec<u8>, tag: u32, value: &Value| {
        if let Some(map) = value.as_object() {
            nested(out, tag, |out| fields(map, props, &mut Vec::new(), out));
        }
    };
    match (shape, value) {
        (Shape::SchemaOrBool, Value::Bool(allows)) => varint_field(out, 1, u64::from(*allows)),
        (Shape::SchemaOrBool, value) => {
            varint_field(out, 1, 1);
            schema(out, 2, value);
        }
        (Shape::SchemaOrArray, Value::Array(values)) => {
            values.iter().for_each(|value| schema(out, 2, value));
        }
        (Shape::SchemaOrStrings, Value::Array(values)) => {
            for text in values.iter().filter_map(Value::as_str) {
                bytes_field(out, 2, text.as_bytes());
            }
        }
        (_, value) => schema(out, 1, value),
    }
}

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

fn key(out: &mut Vec<u8>, tag: u32, wire: u32) {
    varint(out, u64::from(tag << 3 | wire));
}

fn varint_field(out: &mut Vec<u8>, tag: u32, number: u64) {
    key(out, tag, VARINT);
    varint(out, number);
}

fn bytes_field(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    key(out, tag, LENGTH_DELIMITED);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A message whose length is known once it is written: most are short, so room for one byte of length is left.
fn nested(out: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, tag, LENGTH_DELIMITED);
    let at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "less than 128")]
        let byte = length as u8;
        out[at] = byte;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    varint(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than 128")]
    out.push(number as u8);
}

fn varint_len(number: usize) -> usize {
    let bits = usize::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
