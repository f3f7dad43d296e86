//! The API described for clients: OpenAPI v3 per group and version, and v2 as a whole, in JSON and in protobuf.
//!
//! The documents are built from the field table and the kinds, so they say exactly what this server serves. They are large and
//! built anew on each call: callers keep them. Invariant: every reference in a document resolves within it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::kinds::{self, ResourceDescriptor};
use crate::meta::GroupVersion;
use crate::schema;

mod definitions;
mod descriptions;
mod gnostic;
mod parameters;
mod paths;
#[cfg(test)]
mod tests;

/// What clients ask for when they want the v2 document in protobuf.
pub const V2_PROTOBUF_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The Content-Type of that answer: with a dot where the other has a sign that Go's parser of media types refuses.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The version of the API that is described.
const API_VERSION: &str = "v1.35.0";

/// The two dialects differ in where things stand more than in what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, definition: &str) -> String {
        match self {
            Dialect::V2 => format!("#/definitions/{definition}"),
            Dialect::V3 => format!("#/components/schemas/{definition}"),
        }
    }
}

/// The v3 document of a group and version.
pub fn v3(group: &str, version: &str) -> Value {
    let mut found = Document::build(Dialect::V3, &kinds::registry().in_version(group, version));
    let group_version = GroupVersion::new(group.to_owned(), version.to_owned());
    found.add_discovery_of(&group_version);
    let definitions = found.definitions();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": API_VERSION},
        "paths": found.paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    })
}

/// The v2 document of the whole API.
pub fn v2() -> Value {
    let all: Vec<&'static ResourceDescriptor> = kinds::registry().all().collect();
    let mut found = Document::build(Dialect::V2, &all);
    for group in kinds::registry().groups() {
        for version in &group.versions {
            found.add_discovery_of(&GroupVersion::new(group.name, *version));
        }
    }
    let definitions = found.definitions();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": API_VERSION},
        "paths": found.paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

/// The v2 document in protobuf, from its JSON form.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    gnostic::encode(document)
}

fn bearer_token() -> Value {
    json!({"description": "Bearer token authentication", "type": "apiKey", "name": "authorization", "in": "header"})
}

/// A document on its way: paths, and the definitions they lead to.
struct Document {
    dialect: Dialect,
    paths: Map<String, Value>,
    used: BTreeSet<&'static str>,
}

impl Document {
    fn build(dialect: Dialect, descriptors: &[&'static ResourceDescriptor]) -> Self {
        let mut document = Document {
            dialect,
            paths: Map::new(),
            used: BTreeSet::new(),
        };
        for descriptor in descriptors {
            document.add_resource(descriptor);
        }
        document
    }

    /// A reference to a definition, which thereby belongs to the document.
    fn refer(&mut self, definition: &'static str) -> Value {
        self.used.insert(definition);
        json!({"$ref": self.dialect.reference(definition)})
    }

    /// The definitions that are used, and those they use.
    fn definitions(&self) -> Map<String, Value> {
        let mut all: BTreeSet<&'static str> = BTreeSet::new();
        let mut open: Vec<&'static str> = self.used.iter().copied().collect();
        while let Some(name) = open.pop() {
            if !all.insert(name) {
                continue;
            }
            for field in schema::by_name(name)
                .map(schema::Type::fields)
                .unwrap_or_default()
            {
                open.extend(definitions::referred(&field.shape));
            }
        }
        let descriptions = descriptions::Descriptions::load();
        let define = |name: &'static str| {
            (
                name.to_owned(),
                definitions::define(self.dialect, name, &descriptions),
            )
        };
        all.into_iter().map(define).collect()
    }
}
