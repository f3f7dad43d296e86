//! There and back for every kind, and against bytes worked out by hand.

use serde_json::{Value, json};

use super::*;
use crate::meta::GroupVersionKind;
use crate::schema::{self, Shape, Type};

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    out.extend_from_slice(bytes);
    out
}

fn wrapped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
}

#[test]
fn reads_what_go_writes() {
    let metadata = [field(1, b"a"), field(2, b""), field(8, b"")].concat();
    let entry = [field(1, b"k"), field(2, b"v")].concat();
    let raw = [field(1, &metadata), field(2, &entry)].concat();
    let expected = GroupVersionKind::from_static("", "v1", "ConfigMap");
    let read = parse(&wrapped("v1", "ConfigMap", &raw), &expected).unwrap();
    assert_eq!(
        read,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}})
    );
    let options = parse(&wrapped("apps/v1", "DeleteOptions", &[8, 0]), &expected).unwrap();
    assert_eq!(options["gracePeriodSeconds"], 0);
}

#[test]
fn refuses_nonsense() {
    let expected = GroupVersionKind::from_static("", "v1", "ConfigMap");
    for bad in [
        &b"{}"[..],
        b"k8s\0\x0a",
        b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"k8s\0\x0f",
    ] {
        assert_eq!(parse(bad, &expected).unwrap_err().code(), 400, "{bad:?}");
    }
}

/// A value for every field of a type, so deep.
pub(crate) fn sample(ty: &'static Type, depth: usize, n: &mut i64) -> Value {
    let fields = ty.fields().iter().filter(|field| field.tag != 0);
    let value = |field: &'static schema::Field, n: &mut i64| {
        Some((field.name.to_owned(), shaped(&field.shape, depth, n)?))
    };
    fields
        .filter_map(|field| value(field, n))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn shaped(shape: &Shape, depth: usize, n: &mut i64) -> Option<Value> {
    *n += 1;
    Some(match shape {
        Shape::Bool => true.into(),
        Shape::Int32 | Shape::Int64 => (-*n).into(),
        Shape::Double => json!(*n as f64 / 4.0),
        Shape::String => format!("text {n}").into(),
        Shape::Bytes => "aGVsbG8=".into(),
        Shape::Quantity => format!("{n}Mi").into(),
        Shape::IntOrString if *n % 2 == 0 => format!("{n}%").into(),
        Shape::IntOrString => (*n).into(),
        Shape::Time => "2026-01-02T03:04:05Z".into(),
        Shape::MicroTime => "1969-12-31T23:59:59.250000Z".into(),
        Shape::Raw | Shape::FieldsV1 | Shape::Json => json!({"any": [*n]}),
        Shape::SchemaOrBool => false.into(),
        Shape::SchemaOrStrings => json!(["a", "b"]),
        Shape::SchemaOrArray => json!([{"type": "string"}]),
        Shape::Object(_) if depth == 0 => return None,
        Shape::Object(id) => sample(id.get(), depth - 1, n),
        Shape::List(item) => Value::Array(vec![shaped(item, depth, n)?, shaped(item, depth, n)?]),
        Shape::Map(item) => json!({"one": shaped(item, depth, n)?, "two": shaped(item, depth, n)?}),
    })
}

/// Every field of every kind survives the way there and back.
#[test]
fn every_kind_is_read_as_it_was_written() {
    let mut kinds = 0;
    for ty in schema::types() {
        let Some(gvk) = ty.gvk.as_ref().filter(|gvk| !gvk.kind.ends_with("List")) else {
            continue;
        };
        let mut object = sample(ty, 6, &mut 0);
        let bytes = envelope(&gvk.api_version(), &gvk.kind, &message(&object, ty));
        object["apiVersion"] = gvk.api_version().into();
        object["kind"] = gvk.kind.as_ref().into();
        let read = parse(&bytes, gvk).unwrap();
        assert_eq!(read, object, "{}", ty.name);
        kinds += 1;
    }
    assert!(kinds > 60, "{kinds}");
}

#[test]
fn zero_is_kept_where_go_has_a_pointer() {
    let gvk = GroupVersionKind::from_static("apps", "v1", "Deployment");
    let ty = schema::lookup(&gvk).unwrap();
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": {"replicas": 0, "paused": false, "minReadySeconds": 0, "template": {"spec": {"nodeName": ""}}},
        "status": {"replicas": 0},
    });
    let bytes = envelope("apps/v1", "Deployment", &message(&object, ty));
    let read = parse(&bytes, &gvk).unwrap();
    assert_eq!(
        read["spec"],
        json!({"replicas": 0, "template": {"spec": {}}})
    );
    assert_eq!(read["status"], json!({}));
}

/// Bytes as upstream's client writes and reads them, worked out by hand from the messages' definitions.
#[test]
fn frames_and_lists_have_upstreams_form() {
    let frame = event_frame("ADDED", b"abc");
    assert_eq!(frame, b"\0\0\0\x0e\x0a\x05ADDED\x12\x05\x0a\x03abc");
    let items: [&[u8]; 2] = [b"first", b"second"];
    let metadata = json!({"resourceVersion": "7"});
    let mut list = ListWriter::new(
        "v1",
        "PodList",
        &metadata,
        items.iter().map(|item| item.len()),
    );
    let mut out = list.start();
    for item in items {
        ListWriter::before_item(&mut out, item.len());
        out.extend_from_slice(item);
    }
    out.extend_from_slice(&ListWriter::end());
    let inner = b"\x0a\x03\x12\x017\x12\x05first\x12\x06second";
    let mut expected = b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07PodList\x12".to_vec();
    expected.push(u8::try_from(inner.len()).unwrap());
    expected.extend_from_slice(inner);
    expected.extend_from_slice(b"\x1a\0\x22\0");
    assert_eq!(out, expected);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), pick in 0_usize..1000) {
        let kinds: Vec<_> = schema::types().iter().filter(|ty| ty.gvk.is_some()).collect();
        let gvk = kinds[pick % kinds.len()].gvk.as_ref().unwrap();
        let _ = parse(&wrapped(&gvk.api_version(), &gvk.kind, &bytes[..bytes.len().min(120)]), gvk);
        let _ = parse(&[MAGIC, &bytes].concat(), gvk);
    }
}
