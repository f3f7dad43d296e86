//! Reads the generated table. Its lines are `=NAME GROUP/VERSION/KIND FLAGS`, followed by the fields of the type,
//! `NAME SHAPE TAGS FLAGS`, all separated by tabs. TAGS is the protobuf tag, after `TAG:GoName/` for each embedded message.
//! Invariant: a table that does not fit this form fails the tests, so reading may assume the form.

use std::collections::HashMap;

use super::{Field, ListKind, Shape, Strategy, Type, TypeId};
use crate::meta::GroupVersionKind;

const FORM: &str = "the generated table is well formed";

pub(super) fn read(text: &'static str) -> Vec<Type> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let names = lines()
        .filter_map(|line| line.strip_prefix('='))
        .map(|line| line.split('\t').next().expect(FORM));
    let ids: HashMap<&str, TypeId> = names
        .enumerate()
        .map(|(id, name)| {
            (
                name,
                TypeId(u16::try_from(id).expect("there are a few hundred types")),
            )
        })
        .collect();
    let mut types: Vec<Type> = Vec::with_capacity(ids.len());
    for line in lines() {
        match line.strip_prefix('=') {
            Some(rest) => types.push(read_type(rest)),
            None => types
                .last_mut()
                .expect(FORM)
                .fields
                .push(read_field(line, &ids)),
        }
    }
    types
}

fn read_type(line: &'static str) -> Type {
    let mut parts = line.split('\t');
    let name = parts.next().expect(FORM);
    let gvk = parts.next().filter(|gvk| !gvk.is_empty()).map(|gvk| {
        let mut parts = gvk.split('/');
        let mut part = || parts.next().expect(FORM);
        GroupVersionKind::from_static(part(), part(), part())
    });
    Type {
        name,
        gvk,
        atomic: parts.next() == Some("atomic"),
        fields: Vec::new(),
    }
}

fn read_field(line: &'static str, ids: &HashMap<&str, TypeId>) -> Field {
    let mut parts = line.split('\t');
    let mut part = || parts.next().expect(FORM);
    let (name, shape) = (part(), read_shape(part(), ids));
    let mut tags: Vec<&str> = part().split('/').collect();
    let tag = tags.pop().expect(FORM).parse().expect(FORM);
    let inlined = tags.into_iter().map(|tag| {
        let (tag, name) = tag.split_once(':').expect(FORM);
        (tag.parse().expect(FORM), name)
    });
    let mut field = Field {
        name,
        shape,
        tag,
        inlined: inlined.collect(),
        required: false,
        list: ListKind::Unset,
        atomic: false,
        strategy: Strategy::default(),
        merge_key: None,
        default: None,
    };
    part()
        .split(' ')
        .for_each(|flag| read_flag(flag, &mut field));
    field
}

fn read_flag(flag: &'static str, field: &mut Field) {
    let is_list = matches!(field.shape, Shape::List(_));
    match flag.split_once('=') {
        Some(("key", key)) => match &mut field.list {
            ListKind::Map(keys) => keys.push(key),
            _ => field.list = ListKind::Map(vec![key]),
        },
        Some(("merge-key", key)) => field.merge_key = Some(key),
        Some(("patch", "merge")) => field.strategy.merge = true,
        Some(("patch", "replace")) => field.strategy.replace = true,
        Some(("patch", "retainKeys")) => field.strategy.retain_keys = true,
        Some(("default", default)) => field.default = Some(default),
        None if flag == "required" => field.required = true,
        None if flag == "atomic" && is_list => field.list = ListKind::Atomic,
        None if flag == "atomic" => field.atomic = true,
        None if flag == "set" => field.list = ListKind::Set,
        None if flag == "map" && field.list == ListKind::Unset => {
            field.list = ListKind::Map(Vec::new())
        }
        None if matches!(flag, "" | "map") => {}
        _ => unreachable!("{FORM}: {flag}"),
    }
}

fn read_shape(text: &str, ids: &HashMap<&str, TypeId>) -> Shape {
    if let Some(item) = text.strip_prefix("[]") {
        return Shape::List(Box::new(read_shape(item, ids)));
    }
    if let Some(item) = text.strip_prefix("{}") {
        return Shape::Map(Box::new(read_shape(item, ids)));
    }
    match text {
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "string" => Shape::String,
        "bytes" => Shape::Bytes,
        "quantity" => Shape::Quantity,
        "intstr" => Shape::IntOrString,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "raw" => Shape::Raw,
        "fields" => Shape::FieldsV1,
        "json" => Shape::Json,
        "schema-or-array" => Shape::SchemaOrArray,
        "schema-or-bool" => Shape::SchemaOrBool,
        "schema-or-strings" => Shape::SchemaOrStrings,
        name => Shape::Object(*ids.get(name).expect(FORM)),
    }
}
