//! Tables and bare metadata: what kubectl prints, and what metadata-only informers watch.
//!
//! Cells come from the kind's strategy. Invariant: every row carries the object's metadata unless the client asked for less,
//! because kubectl takes label columns and names from there.

use corten_api::kinds::{ResourceDescriptor, table};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::negotiate::Include;

pub(super) const API_VERSION: &str = "meta.k8s.io/v1";

/// The object's metadata in an envelope of its own.
pub(super) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": API_VERSION,
        "metadata": object["metadata"],
    })
}

/// One row.
pub(super) fn row(
    descriptor: &ResourceDescriptor,
    object: Value,
    include: Include,
    now: Timestamp,
) -> Value {
    let mut row = Map::new();
    row.insert(
        "cells".to_owned(),
        table::row(descriptor, &object, now).into(),
    );
    match include {
        Include::Nothing => {}
        Include::Metadata => {
            row.insert("object".to_owned(), partial(&object));
        }
        Include::Object => {
            row.insert("object".to_owned(), object);
        }
    }
    Value::Object(row)
}

/// A table of these rows; later events of a watch leave the columns out.
pub(super) fn table(
    descriptor: &ResourceDescriptor,
    metadata: Value,
    rows: Vec<Value>,
    with_columns: bool,
) -> Value {
    let columns = if with_columns {
        table::column_definitions(descriptor).into()
    } else {
        Value::Null
    };
    json!({
        "kind": "Table",
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}
