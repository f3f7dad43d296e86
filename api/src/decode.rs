//! From bytes to checked objects: the one place where what clients send is read.
//!
//! JSON and YAML are read in one pass against the schema: wrong types are refused in upstream's words, unknown fields are
//! dropped, nulls and empty optional lists and maps vanish as they do in Go, and quantities, times and bytes get their canonical
//! text. What a kind demands beyond its schema is checked by the kind. Invariant: every field of an object that leaves here
//! is known to the schema and has the schema's type.

use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::meta::{self, GroupVersion, GroupVersionKind};
use crate::quote::quote;
use crate::schema;
use crate::status::Status;

mod scalar;
#[cfg(test)]
mod tests;
mod walk;

/// Bodies larger than this are refused with 413 by the caller, before they are read.
pub const BODY_BYTES_MAX: usize = 3 << 20;
/// Objects nested deeper than this are refused: deeper than any real one, and safe for every stack.
pub const DEPTH_MAX: usize = 120;

/// What to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and warn.
    #[default]
    Warn,
    /// Refuse the object.
    Strict,
}

/// How the bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML, of which JSON is a part.
    Yaml,
}

impl Encoding {
    /// The encoding of a media type, parameters ignored. An empty one means JSON.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type.split(';').next().unwrap_or("").trim() {
            "" | "application/json" | "text/json" | "*/*" => Some(Encoding::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Some(Encoding::Yaml),
            _ => None,
        }
    }
}

/// A checked object, and what the client should be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, with `apiVersion` and `kind`.
    pub object: Value,
    /// One text for each unknown or duplicate field, when the validation is `Warn`.
    pub warnings: Vec<String>,
}

/// Reads an object of this kind. `apiVersion` and `kind` may be left out, but not be others.
pub fn decode(
    bytes: &[u8],
    encoding: Encoding,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    match encoding {
        Encoding::Json => {
            let mut json = serde_json::Deserializer::from_slice(bytes);
            let context = walk::Context::default();
            let seed = walk::root(gvk, &context);
            let result = seed
                .deserialize(&mut json)
                .and_then(|value| json.end().map(|()| value));
            let result = result.map_err(|error| syntax_error(&error));
            finish(result, context, Some(bytes), gvk, validation)
        }
        Encoding::Yaml => {
            let context = walk::Context::default();
            let options = yaml_options();
            let result =
                serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |yaml| {
                    walk::root(gvk, &context).deserialize(yaml)
                });
            let result =
                result.map_err(|error| format!("error converting YAML to JSON: yaml: {error}"));
            finish(result, context, Some(bytes), gvk, validation)
        }
    }
}

/// Holds an object that was made otherwise, by a patch for example, to the same rules.
pub fn check(
    object: Value,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let context = walk::Context::default();
    let result = walk::root(gvk, &context)
        .deserialize(object)
        .map_err(|error: serde_json::Error| error.to_string());
    finish(result, context, None, gvk, validation)
}

/// Reads JSON or YAML that has no schema, such as a patch.
pub fn parse(bytes: &[u8], encoding: Encoding) -> Result<Value, Status> {
    let result = match encoding {
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| syntax_error(&error)),
        Encoding::Yaml => {
            serde_saphyr::with_deserializer_from_slice_with_options(bytes, yaml_options(), |yaml| {
                yaml.deserialize_any(walk::AnyVisitor)
            })
            .map_err(|error| format!("error converting YAML to JSON: yaml: {error}"))
        }
    };
    result.map_err(Status::bad_request)
}

fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    // The walk itself tells of duplicates; the last one wins, as in JSON.
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
    options.legacy_octal_numbers = true;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = DEPTH_MAX;
    }
    options
}

/// Syntax errors in the words of Go's decoder, where it has a word for them.
fn syntax_error(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = error.to_string();
    if text.starts_with("recursion limit exceeded") {
        return "exceeded max depth".to_owned();
    }
    text
}

fn finish(
    result: Result<Value, String>,
    context: walk::Context,
    body: Option<&[u8]>,
    gvk: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let (failure, faults) = context.finish();
    if let Some(failure) = failure {
        return Err(cannot_be_handled(gvk, gvk, &failure));
    }
    let mut object = result.map_err(|error| unrecognized(gvk, &error, body))?;
    check_kind(&object, gvk)?;
    meta::set_gvk(&mut object, gvk);
    match validation {
        FieldValidation::Strict if !faults.is_empty() => {
            let faults = format!("strict decoding error: {}", faults.join(", "));
            Err(cannot_be_handled(gvk, gvk, &faults))
        }
        FieldValidation::Warn => Ok(Decoded {
            object,
            warnings: faults,
        }),
        _ => Ok(Decoded {
            object,
            warnings: Vec::new(),
        }),
    }
}

fn cannot_be_handled(found: &GroupVersionKind, wanted: &GroupVersionKind, why: &str) -> Status {
    let (kind, version) = (&found.kind, quote(&found.version));
    Status::bad_request(format!(
        "{kind} in version {version} cannot be handled as a {}: {why}",
        wanted.kind
    ))
}

fn unrecognized(gvk: &GroupVersionKind, error: &str, body: Option<&[u8]>) -> Status {
    let summary = body.map(summarize).unwrap_or_default();
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {error}{summary}",
        gvk.kind
    ))
}

/// The start of a body, for the client to recognize it by.
fn summarize(body: &[u8]) -> String {
    const SUMMARY_BYTES: usize = 30;
    let start = &body[..body.len().min(SUMMARY_BYTES)];
    let dots = if body.len() > SUMMARY_BYTES {
        " ..."
    } else {
        ""
    };
    match std::str::from_utf8(start) {
        Ok(text) if text.starts_with('{') => format!(" ({text}{dots})"),
        _ => {
            use std::fmt::Write;
            let hex = start.iter().fold(String::new(), |mut out, byte| {
                write!(out, "{byte:02x}").expect("writing to a String cannot fail");
                out
            });
            format!(" ({hex}{dots})")
        }
    }
}

/// What the object says it is must be what the path says.
fn check_kind(object: &Value, wanted: &GroupVersionKind) -> Result<(), Status> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let found = match GroupVersion::parse(api_version) {
        None if api_version.is_empty() => wanted.group_version(),
        None => {
            let error = format!("unexpected GroupVersion string: {api_version}");
            return Err(Status::bad_request(error));
        }
        Some(found) => found,
    };
    let found = found.with_kind(if kind.is_empty() {
        wanted.kind.to_string()
    } else {
        kind.to_owned()
    });
    if found == *wanted {
        return Ok(());
    }
    if schema::lookup(&found).is_none() {
        let error = format!(
            "no kind {} is registered for version {}",
            quote(&found.kind),
            quote(&found.api_version())
        );
        return Err(cannot_be_handled(&found, wanted, &error));
    }
    if found.kind == wanted.kind {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            found.api_version(),
            wanted.api_version()
        )));
    }
    let group = |gvk: &GroupVersionKind| match gvk.group.split('.').next() {
        None | Some("") => "core".to_owned(),
        Some(group) => group.to_owned(),
    };
    let error = format!(
        "converting ({}.{}) to ({}.{}): unknown conversion",
        found.version,
        found.kind,
        group(wanted),
        wanted.kind
    );
    Err(cannot_be_handled(&found, wanted, &error))
}
