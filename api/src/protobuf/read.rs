//! Bytes of protobuf as trees, by the schema's tags. It checks nothing else: the tree goes through `decode` like any other.
//!
//! Go writes plain numbers, booleans and texts even when they are zero, and leaves pointers out when they are nil. A zero is
//! therefore dropped, unless the field is one of those that Go keeps behind a pointer, where zero means something.
//! Invariant: malformed bytes are refused, never a panic, and nesting is bounded as in JSON.

use base64::Engine;
use serde_json::{Map, Value, json};

use super::MAGIC;
use super::pointers::zero_means;
use crate::decode::DEPTH_MAX;
use crate::meta::GroupVersionKind;
use crate::schema::{self, Field, Shape, Type};
use crate::status::Status;

/// One field on the wire.
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

type Result<T> = std::result::Result<T, Malformed>;

/// What cannot be read.
struct Malformed(&'static str);

/// A body as a tree. `expected` tells the type when the envelope does not.
pub fn parse(body: &[u8], expected: &GroupVersionKind) -> std::result::Result<Value, Status> {
    read(body, expected).map_err(|Malformed(why)| {
        Status::bad_request(format!("the body is not valid protobuf: {why}"))
    })
}

fn read(body: &[u8], expected: &GroupVersionKind) -> Result<Value> {
    let envelope = body
        .strip_prefix(MAGIC)
        .ok_or(Malformed("it does not begin with k8s"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut rest = envelope;
    while let Some((tag, wire)) = next(&mut rest)? {
        match (tag, wire) {
            (1, Wire::Bytes(mut meta)) => {
                while let Some((tag, wire)) = next(&mut meta)? {
                    match (tag, wire) {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3, Wire::Bytes(bytes)) if !bytes.is_empty() => {
                return Err(Malformed("it is compressed"));
            }
            _ => {}
        }
    }
    let named = if kind == "DeleteOptions" {
        schema::by_name(&format!("{}.DeleteOptions", schema::META_V1))
    } else {
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        schema::lookup(&GroupVersionKind::new(
            group.to_owned(),
            version.to_owned(),
            kind.clone(),
        ))
    };
    let ty = named
        .or_else(|| schema::lookup(expected))
        .ok_or(Malformed("its kind is not known"))?;
    let mut object = Map::new();
    if !kind.is_empty() {
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), kind.into());
    }
    message(raw, ty, &mut Vec::new(), &mut object, 0)?;
    Ok(Value::Object(object))
}

/// Reads a message of a type into a map. `inside` are the tags of embedded structs on the way here.
fn message(
    mut bytes: &[u8],
    ty: &'static Type,
    inside: &mut Vec<u32>,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Malformed("it is nested too deeply"));
    }
    while let Some((tag, wire)) = next(&mut bytes)? {
        let path = inside.len();
        let here = |field: &&Field| {
            field.inlined.len() >= path
                && field
                    .inlined
                    .iter()
                    .zip(inside.iter())
                    .all(|((tag, _), inside)| tag == inside)
        };
        let mut fields = ty.fields().iter().filter(here);
        let own = fields
            .clone()
            .find(|field| field.inlined.len() == path && field.tag == tag);
        if let Some(field) = own {
            set(ty, field, &wire, into, depth)?;
            continue;
        }
        let embedded = fields.any(|field| {
            field
                .inlined
                .get(path)
                .is_some_and(|(inlined, _)| *inlined == tag)
        });
        if let (true, Wire::Bytes(bytes)) = (embedded, &wire) {
            inside.push(tag);
            message(bytes, ty, inside, into, depth + 1)?;
            inside.pop();
        }
    }
    Ok(())
}

fn set(
    ty: &'static Type,
    field: &'static Field,
    wire: &Wire<'_>,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    match &field.shape {
        Shape::List(item) => {
            let list = into.entry(field.name).or_insert_with(|| json!([]));
            let list = list
                .as_array_mut()
                .ok_or(Malformed("a list is also something else"))?;
            let numbers = matches!(**item, Shape::Int32 | Shape::Int64 | Shape::Bool);
            if let (true, Wire::Bytes(bytes)) = (numbers, wire) {
                let mut packed = *bytes;
                while !packed.is_empty() {
                    list.push(value(item, &Wire::Varint(varint(&mut packed)?), depth)?);
                }
            } else {
                list.push(value(item, wire, depth)?);
            }
        }
        Shape::Map(item) => {
            let Wire::Bytes(mut entry) = *wire else {
                return Err(Malformed("a map is no message"));
            };
            let (mut key, mut held) = (String::new(), Value::Null);
            while let Some((tag, wire)) = next(&mut entry)? {
                match (tag, &wire) {
                    (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                    (2, wire) => held = map_value(item, wire, depth)?,
                    _ => {}
                }
            }
            if held.is_null() {
                held = zero_of(item);
            }
            let map = into.entry(field.name).or_insert_with(|| json!({}));
            map.as_object_mut()
                .ok_or(Malformed("a map is also something else"))?
                .insert(key, held);
        }
        shape => {
            let value = value(shape, wire, depth)?;
            let zero = match &value {
                Value::Null => true,
                // Of a schema or a boolean: a message, which is there or not.
                Value::Bool(flag) => !flag && *shape == Shape::Bool,
                Value::Number(number) => {
                    number.as_f64() == Some(0.0) && !matches!(shape, Shape::IntOrString)
                }
                Value::String(text) => text.is_empty(),
                _ => false,
            };
            let means = field.required || zero_means(ty, field);
            if !zero || (means && !value.is_null()) {
                into.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Lists in maps travel in a message of their own.
fn map_value(shape: &Shape, wire: &Wire<'_>, depth: usize) -> Result<Value> {
    let Shape::List(item) = shape else {
        return value(shape, wire, depth);
    };
    let Wire::Bytes(mut bytes) = *wire else {
        return Err(Malformed("a list is no message"));
    };
    let mut list = Vec::new();
    while let Some((tag, wire)) = next(&mut bytes)? {
        if tag == 1 {
            list.push(value(item, &wire, depth)?);
        }
    }
    Ok(list.into())
}

fn zero_of(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => "".into(),
        Shape::Object(_) | Shape::Map(_) => json!({}),
        Shape::List(_) => json!([]),
        _ => Value::Null,
    }
}

fn value(shape: &Shape, wire: &Wire<'_>, depth: usize) -> Result<Value> {
    Ok(match (shape, wire) {
        (Shape::Bool, Wire::Varint(number)) => (*number != 0).into(),
        (Shape::Int32 | Shape::Int64, Wire::Varint(number)) => number.cast_signed().into(),
        (Shape::Double, Wire::Fixed64(bits)) => json!(f64::from_bits(*bits)),
        (Shape::String, Wire::Bytes(bytes)) => text(bytes)?.into(),
        (Shape::Bytes, Wire::Bytes(bytes)) => base64::engine::general_purpose::STANDARD
            .encode(bytes)
            .into(),
        (Shape::Quantity, Wire::Bytes(bytes)) => first_text(bytes)?.into(),
        (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Shape::Time | Shape::MicroTime, Wire::Bytes(bytes)) => {
            time(bytes, *shape == Shape::MicroTime)?
        }
        (Shape::Raw | Shape::FieldsV1 | Shape::Json, Wire::Bytes(bytes)) => {
            let text = first_text(bytes)?;
            if text.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_str(&text).map_err(|_| Malformed("embedded JSON cannot be read"))?
        }
        (
            Shape::SchemaOrArray | Shape::SchemaOrBool | Shape::SchemaOrStrings,
            Wire::Bytes(bytes),
        ) => schema_or(shape, bytes, depth)?,
        (Shape::Object(id), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            message(bytes, id.get(), &mut Vec::new(), &mut object, depth + 1)?;
            object.into()
        }
        _ => return Err(Malformed("a field has a wrong wire type")),
    })
}

/// The alternatives in schemas of custom resources: a schema, or many of them, a boolean, or texts.
fn schema_or(shape: &Shape, mut bytes: &[u8], depth: usize) -> Result<Value> {
    let props = schema::by_name(super::SCHEMA_PROPS).ok_or(Malformed("schemas are not known"))?;
    let read = |bytes: &[u8]| {
        let mut object = Map::new();
        message(bytes, props, &mut Vec::new(), &mut object, depth + 1)?;
        Ok(Value::Object(object))
    };
    let (mut one, mut many, mut allows) = (None, Vec::new(), false);
    while let Some((tag, wire)) = next(&mut bytes)? {
        match (shape, tag, wire) {
            (Shape::SchemaOrBool, 1, Wire::Varint(flag)) => allows = flag != 0,
            (Shape::SchemaOrBool, 2, Wire::Bytes(bytes)) | (_, 1, Wire::Bytes(bytes)) => {
                one = Some(read(bytes)?);
            }
            (Shape::SchemaOrArray, 2, Wire::Bytes(bytes)) => many.push(read(bytes)?),
            (Shape::SchemaOrStrings, 2, Wire::Bytes(bytes)) => many.push(text(bytes)?.into()),
            _ => {}
        }
    }
    Ok(match (shape, one) {
        (_, Some(schema)) => schema,
        (Shape::SchemaOrBool, None) => allows.into(),
        (_, None) => many.into(),
    })
}

fn first_text(mut bytes: &[u8]) -> Result<String> {
    while let Some((tag, wire)) = next(&mut bytes)? {
        if let (1, Wire::Bytes(bytes)) = (tag, wire) {
            return text(bytes);
        }
    }
    Ok(String::new())
}

fn int_or_string(mut bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut words) = (false, 0, String::new());
    while let Some((tag, wire)) = next(&mut bytes)? {
        match (tag, wire) {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => words = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { words.into() } else { number.into() })
}

/// An empty message is Go's zero time, which JSON writes as null.
fn time(mut bytes: &[u8], micro: bool) -> Result<Value> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((tag, wire)) = next(&mut bytes)? {
        match (tag, wire) {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(value)) => nanos = i32::try_from(value).unwrap_or(0),
            _ => {}
        }
    }
    let time =
        jiff::Timestamp::new(seconds, nanos).map_err(|_| Malformed("a time is out of range"))?;
    Ok(if micro {
        crate::meta::format_micro_time(time).into()
    } else {
        crate::meta::format_time(time).into()
    })
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a text is not UTF-8"))
}

/// Takes the next field off the bytes.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u32, Wire<'a>)>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = varint(bytes)?;
    let tag = u32::try_from(key >> 3).map_err(|_| Malformed("a tag is too large"))?;
    let wire = match key & 7 {
        0 => Wire::Varint(varint(bytes)?),
        1 => {
            let (fixed, rest) = bytes.split_first_chunk::<8>().ok_or(Malformed(CUT))?;
            *bytes = rest;
            Wire::Fixed64(u64::from_le_bytes(*fixed))
        }
        2 => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| Malformed(CUT))?;
            let (held, rest) = bytes.split_at_checked(length).ok_or(Malformed(CUT))?;
            *bytes = rest;
            Wire::Bytes(held)
        }
        5 => {
            let (_, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed(CUT))?;
            *bytes = rest;
            Wire::Fixed32
        }
        _ => return Err(Malformed("a wire type is not known")),
    };
    Ok(Some((tag, wire)))
}

const CUT: &str = "it ends too early";

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Malformed(CUT))?;
        *bytes = rest;
        if shift < 64 {
            number |= u64::from(first & 0x7f) << shift;
        }
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed("a number is too long"))
}
