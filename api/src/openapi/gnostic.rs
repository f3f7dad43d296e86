//! The v2 document in protobuf, as the messages of the openapi.v2 package have it. Written field by field, because only
//! what our documents hold is needed. Invariant: keys that this writer does not know are vendor extensions or are left out.

use serde_json::{Map, Value};

/// Protobuf's wire format: what is needed of it.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn varint(&mut self, mut number: u64) {
        loop {
            let byte = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                self.bytes.push(byte);
                return;
            }
            self.bytes.push(byte | 0x80);
        }
    }

    fn raw(&mut self, tag: u32, bytes: &[u8]) {
        self.varint(u64::from(tag) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// An empty text is the default and is not written.
    fn text(&mut self, tag: u32, value: Option<&Value>) {
        if let Some(text) = value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            self.raw(tag, text.as_bytes());
        }
    }

    fn texts(&mut self, tag: u32, value: Option<&Value>) {
        for text in value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            self.raw(tag, text.as_bytes());
        }
    }

    fn flag(&mut self, tag: u32, value: Option<&Value>) {
        if value.and_then(Value::as_bool) == Some(true) {
            self.varint(u64::from(tag) << 3);
            self.varint(1);
        }
    }

    fn message(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        write(&mut inner);
        self.raw(tag, &inner.bytes);
    }

    /// A value of any type travels as YAML, which JSON is a part of.
    fn any(&mut self, tag: u32, value: &Value) {
        self.message(tag, |any| any.raw(2, format!("{value}\n").as_bytes()));
    }

    fn extensions(&mut self, tag: u32, object: &Map<String, Value>) {
        for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
            self.named(tag, name, |named| named.any(2, value));
        }
    }

    /// A pair of name and value.
    fn named(&mut self, tag: u32, name: &str, write: impl FnOnce(&mut Writer)) {
        self.message(tag, |named| {
            named.raw(1, name.as_bytes());
            write(named);
        });
    }
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    let object = value.and_then(Value::as_object);
    object
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_object()?)))
}

pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(1, document.get("swagger"));
    out.message(2, |info| {
        info.text(1, document.pointer("/info/title"));
        info.text(2, document.pointer("/info/version"));
    });
    out.message(8, |paths| {
        for (path, item) in entries(document.get("paths")) {
            paths.named(2, path, |named| {
                named.message(2, |out| path_item(out, item))
            });
        }
    });
    out.message(9, |definitions| {
        for (name, definition) in entries(document.get("definitions")) {
            definitions.named(1, name, |named| {
                named.message(2, |out| schema(out, definition))
            });
        }
    });
    for requirement in document
        .get("security")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(12, |out| {
            for (name, scopes) in requirement.as_object().into_iter().flatten() {
                out.named(1, name, |named| {
                    named.message(2, |array| array.texts(1, Some(scopes)))
                });
            }
        });
    }
    out.message(13, |definitions| {
        for (name, scheme) in entries(document.get("securityDefinitions")) {
            definitions.named(1, name, |named| {
                named.message(2, |item| item.message(2, |out| api_key(out, scheme)))
            });
        }
    });
    out.bytes
}

fn api_key(out: &mut Writer, scheme: &Map<String, Value>) {
    out.text(1, scheme.get("type"));
    out.text(2, scheme.get("name"));
    out.text(3, scheme.get("in"));
    out.text(4, scheme.get("description"));
}

fn path_item(out: &mut Writer, item: &Map<String, Value>) {
    let methods = [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (6, "options"),
        (7, "head"),
        (8, "patch"),
    ];
    for (tag, method) in methods {
        if let Some(operation) = item.get(method).and_then(Value::as_object) {
            out.message(tag, |out| write_operation(out, operation));
        }
    }
    parameters(out, 9, item.get("parameters"));
    out.extensions(10, item);
}

fn write_operation(out: &mut Writer, operation: &Map<String, Value>) {
    out.texts(1, operation.get("tags"));
    out.text(3, operation.get("description"));
    out.text(5, operation.get("operationId"));
    out.texts(6, operation.get("produces"));
    out.texts(7, operation.get("consumes"));
    parameters(out, 8, operation.get("parameters"));
    out.message(9, |responses| {
        for (code, response) in entries(operation.get("responses")) {
            responses.named(1, code, |named| {
                named.message(2, |value| {
                    value.message(1, |out| write_response(out, response))
                });
            });
        }
    });
    out.texts(10, operation.get("schemes"));
    out.extensions(13, operation);
}

fn write_response(out: &mut Writer, response: &Map<String, Value>) {
    out.text(1, response.get("description"));
    if let Some(found) = response.get("schema").and_then(Value::as_object) {
        out.message(2, |item| item.message(1, |out| schema(out, found)));
    }
}

fn parameters(out: &mut Writer, tag: u32, list: Option<&Value>) {
    for parameter in list
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
    {
        // ParametersItem, then Parameter.
        out.message(tag, |item| {
            item.message(1, |out| write_parameter(out, parameter))
        });
    }
}

fn write_parameter(out: &mut Writer, parameter: &Map<String, Value>) {
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or("");
    if place == "body" {
        out.message(1, |body| {
            body.text(1, parameter.get("description"));
            body.text(2, parameter.get("name"));
            body.text(3, parameter.get("in"));
            body.flag(4, parameter.get("required"));
            if let Some(found) = parameter.get("schema").and_then(Value::as_object) {
                body.message(5, |out| schema(out, found));
            }
        });
        return;
    }
    let query = place == "query";
    // NonBodyParameter; path parameters have no allowEmptyValue, so their later tags are one less.
    let shift = u32::from(query);
    out.message(2, |out| {
        out.message(if query { 3 } else { 4 }, |out| {
            out.flag(1, parameter.get("required"));
            out.text(2, parameter.get("in"));
            out.text(3, parameter.get("description"));
            out.text(4, parameter.get("name"));
            out.text(5 + shift, parameter.get("type"));
            out.text(6 + shift, parameter.get("format"));
            out.flag(19 + shift, parameter.get("uniqueItems"));
        });
    });
}

fn schema(out: &mut Writer, found: &Map<String, Value>) {
    out.text(1, found.get("$ref"));
    out.text(2, found.get("format"));
    out.text(4, found.get("description"));
    if let Some(default) = found.get("default") {
        out.any(5, default);
    }
    out.texts(19, found.get("required"));
    if let Some(inner) = found.get("additionalProperties").and_then(Value::as_object) {
        out.message(21, |item| item.message(1, |out| schema(out, inner)));
    }
    if found.contains_key("type") {
        out.message(22, |item| item.text(1, found.get("type")));
    }
    if let Some(inner) = found.get("items").and_then(Value::as_object) {
        out.message(23, |item| item.message(1, |out| schema(out, inner)));
    }
    if found.contains_key("properties") {
        out.message(25, |properties| {
            for (name, property) in entries(found.get("properties")) {
                properties.named(1, name, |named| {
                    named.message(2, |out| schema(out, property))
                });
            }
        });
    }
    out.extensions(31, found);
}
