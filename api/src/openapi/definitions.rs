//! Definitions: each type as a JSON schema with upstream's extensions, which tell clients how lists and maps merge.
//! Invariant: a definition refers only to definitions that `referred` names.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::descriptions::Descriptions;
use crate::kinds;
use crate::meta::GroupVersionKind;
use crate::schema::{self, Field, ListKind, META_V1, Shape, Type};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
const SCHEMA_OR_ARRAY: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray";
const SCHEMA_OR_BOOL: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool";
const SCHEMA_OR_STRINGS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray";
/// The body of a patch.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// The definition a shape refers to.
pub(super) fn referred(shape: &Shape) -> Option<&'static str> {
    let name = match shape {
        Shape::Bool
        | Shape::Int32
        | Shape::Int64
        | Shape::Double
        | Shape::String
        | Shape::Bytes => return None,
        Shape::Quantity => QUANTITY,
        Shape::IntOrString => INT_OR_STRING,
        Shape::Time => TIME,
        Shape::MicroTime => MICRO_TIME,
        Shape::Raw => RAW,
        Shape::FieldsV1 => FIELDS_V1,
        Shape::Json => JSON,
        Shape::SchemaOrArray => SCHEMA_OR_ARRAY,
        Shape::SchemaOrBool => SCHEMA_OR_BOOL,
        Shape::SchemaOrStrings => SCHEMA_OR_STRINGS,
        Shape::Object(id) => id.get().name,
        Shape::List(item) | Shape::Map(item) => return referred(item),
    };
    Some(name)
}

pub(super) fn define(dialect: Dialect, name: &str, descriptions: &Descriptions) -> Value {
    let mut out = match schema::by_name(name) {
        Some(ty) => define_type(dialect, ty, descriptions),
        None => define_scalar(dialect, name),
    };
    if let Some(description) = descriptions.of_type(name) {
        out.insert("description".to_owned(), Value::from(description));
    }
    Value::Object(out)
}

fn define_scalar(dialect: Dialect, name: &str) -> Map<String, Value> {
    let v3 = dialect == Dialect::V3;
    let value = match name {
        QUANTITY if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        QUANTITY => json!({"type": "string"}),
        INT_OR_STRING if v3 => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        INT_OR_STRING => json!({"format": "int-or-string", "type": "string"}),
        TIME | MICRO_TIME => json!({"format": "date-time", "type": "string"}),
        JSON | SCHEMA_OR_ARRAY | SCHEMA_OR_BOOL | SCHEMA_OR_STRINGS => json!({}),
        _ => json!({"type": "object"}),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn define_type(dialect: Dialect, ty: &Type, descriptions: &Descriptions) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".to_owned(), json!("object"));
    let required: Vec<&str> = ty
        .fields()
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    if !required.is_empty() {
        out.insert("required".to_owned(), json!(required));
    }
    let property = |field: &Field| {
        let description = descriptions
            .of_field(ty.name, field.name)
            .or_else(|| own_description(field.name));
        (
            field.name.to_owned(),
            define_field(dialect, field, description),
        )
    };
    let properties: Map<String, Value> = ty.fields().iter().map(property).collect();
    if !properties.is_empty() {
        out.insert("properties".to_owned(), Value::Object(properties));
    }
    if ty.atomic {
        out.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    let kinds = kinds_of(ty);
    if !kinds.is_empty() {
        out.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            Value::Array(kinds),
        );
    }
    out
}

/// What the sources say of no kind in particular, in our words.
fn own_description(field: &str) -> Option<String> {
    let text = match field {
        "apiVersion" => "The group and version of this representation of the object.",
        "kind" => "What the object is.",
        "metadata" => "Metadata of the list.",
        "items" => "The objects of the list.",
        _ => return None,
    };
    Some(text.to_owned())
}

pub(super) fn kind_json(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version})
}

/// The kinds a type stands for; two of them belong to every group.
fn kinds_of(ty: &Type) -> Vec<Value> {
    if ![
        format!("{META_V1}.DeleteOptions"),
        format!("{META_V1}.WatchEvent"),
    ]
    .contains(&ty.name.to_owned())
    {
        return ty.gvk.iter().map(kind_json).collect();
    }
    let versions = |group: kinds::Group| {
        group
            .versions
            .into_iter()
            .map(move |version| (group.name, version))
    };
    let all = kinds::registry().groups().into_iter().flat_map(versions);
    all.map(|(group, version)| kind_json(&GroupVersionKind::new(group, version, ty.go_name())))
        .collect()
}

fn define_field(dialect: Dialect, field: &Field, description: Option<String>) -> Value {
    let mut out = shape(dialect, &field.shape);
    // A reference may have no siblings in v3, and is better left without in v2 where clients ignore them.
    if let (Dialect::V3, Some(reference)) = (dialect, out.get("$ref").cloned()) {
        out = Map::new();
        out.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    if let Some(description) = description {
        out.insert("description".to_owned(), Value::from(description));
    }
    if let Some(default) = field
        .default
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
    {
        out.insert("default".to_owned(), default);
    }
    extensions(field, &mut out);
    Value::Object(out)
}

fn extensions(field: &Field, out: &mut Map<String, Value>) {
    let list_type = match &field.list {
        ListKind::Unset => None,
        ListKind::Atomic => Some("atomic"),
        ListKind::Set => Some("set"),
        ListKind::Map(keys) => {
            out.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
            Some("map")
        }
    };
    if let Some(list_type) = list_type {
        out.insert("x-kubernetes-list-type".to_owned(), json!(list_type));
    }
    if field.atomic {
        out.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    if let Some(key) = field.merge_key {
        out.insert("x-kubernetes-patch-merge-key".to_owned(), json!(key));
    }
    let strategy = field.strategy;
    let words = [
        (strategy.merge, "merge"),
        (strategy.replace, "replace"),
        (strategy.retain_keys, "retainKeys"),
    ];
    let words: Vec<&str> = words
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, word)| *word)
        .collect();
    if !words.is_empty() {
        out.insert(
            "x-kubernetes-patch-strategy".to_owned(),
            json!(words.join(",")),
        );
    }
}

fn shape(dialect: Dialect, shape: &Shape) -> Map<String, Value> {
    let value = match shape {
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::String => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::List(item) => json!({"type": "array", "items": self::shape(dialect, item)}),
        Shape::Map(item) => {
            json!({"type": "object", "additionalProperties": self::shape(dialect, item)})
        }
        other => match referred(other) {
            Some(name) => json!({"$ref": dialect.reference(name)}),
            None => json!({}),
        },
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
