//! What the client accepts: JSON, YAML or protobuf, and the object itself, a table, or its metadata alone.
//!
//! Invariant: the first acceptable offer wins, in the client's order of preference; nothing acceptable is 406.

use corten_api::protobuf;
use corten_api::status::Status;
use http::HeaderMap;
use http::header::ACCEPT;

use super::query::Query;
use crate::registry::Target;

/// How the bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// The object or list as it is.
    Object,
    /// Rows and columns.
    Table(Include),
    /// `PartialObjectMetadata` or its list.
    Metadata,
}

/// What a table's row carries besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    Nothing,
    Metadata,
    Object,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Negotiated {
    pub(super) format: Format,
    pub(super) view: View,
}

impl Negotiated {
    /// The media type of the answer, with the parameters that say what it is.
    pub(super) fn content_type(self) -> &'static str {
        match self.format {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf => protobuf::MEDIA_TYPE,
        }
    }

    /// The same for a watch.
    pub(super) fn stream_content_type(self) -> &'static str {
        match self.format {
            Format::Protobuf => protobuf::STREAM_MEDIA_TYPE,
            _ => self.content_type(),
        }
    }
}

const OFFERED: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];
/// What a watch can be answered in.
const OFFERED_STREAMS: [&str; 2] = ["application/json;stream=watch", protobuf::STREAM_MEDIA_TYPE];

pub(super) fn negotiate(
    headers: &HeaderMap,
    query: &Query,
    target: &Target,
    watching: bool,
) -> Result<Negotiated, Status> {
    let plain = Negotiated {
        format: Format::Json,
        view: View::Object,
    };
    let values = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let header = values.collect::<Vec<_>>().join(",");
    if header.trim().is_empty() {
        return Ok(plain);
    }
    let mut clauses: Vec<(u32, &str)> = header
        .split(',')
        .map(|clause| (quality(clause), clause))
        .collect();
    // Stable: equal preferences keep the client's order.
    clauses.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    for (_, clause) in clauses.iter().filter(|(quality, _)| *quality > 0) {
        if let Some(found) = clause_offer(clause, query, target, watching)? {
            return Ok(found);
        }
    }
    let streams = watching.then_some(OFFERED_STREAMS).into_iter().flatten();
    Err(Status::not_acceptable(OFFERED.into_iter().chain(streams)))
}

fn clause_offer(
    clause: &str,
    query: &Query,
    target: &Target,
    watching: bool,
) -> Result<Option<Negotiated>, Status> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next().unwrap_or("") {
        "application/json" | "*/*" | "application/*" | "text/json" => Format::Json,
        "application/yaml" | "text/yaml" | "application/x-yaml" if !watching => Format::Yaml,
        protobuf::MEDIA_TYPE => Format::Protobuf,
        _ => return Ok(None),
    };
    let (mut kind, mut group, mut version, mut stream) = ("", "", "", "");
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key.trim() {
            "as" => kind = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            "stream" => stream = value.trim(),
            _ => {}
        }
    }
    if !matches!(stream, "" | "watch") {
        return Ok(None);
    }
    let ours = group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
    // Reviews and other answers that are not stored have neither columns nor metadata of interest.
    let convertible = target.descriptor.has_verb("get") && target.subresource.is_empty();
    let view = match kind {
        "" => View::Object,
        // Tables are for people: they have no form in protobuf.
        "Table" if ours && version == "v1" && convertible && format != Format::Protobuf => {
            View::Table(include(query)?)
        }
        "PartialObjectMetadata" | "PartialObjectMetadataList"
            if ours && version == "v1" && convertible =>
        {
            View::Metadata
        }
        _ => return Ok(None),
    };
    Ok(Some(Negotiated { format, view }))
}

fn include(query: &Query) -> Result<Include, Status> {
    match query.include_object.as_deref().unwrap_or("") {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::Nothing),
        "Object" => Ok(Include::Object),
        other => Err(Status::bad_request(format!(
            "unrecognized includeObject value: {other:?}; use None, Metadata or Object"
        ))),
    }
}

/// The `q` parameter in thousandths.
fn quality(clause: &str) -> u32 {
    let given = clause
        .split(';')
        .find_map(|part| part.trim().strip_prefix("q="));
    let Some(given) = given.and_then(|value| value.trim().parse::<f32>().ok()) else {
        return 1000;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1000"
    )]
    let thousandths = (given.clamp(0.0, 1.0) * 1000.0) as u32;
    thousandths
}
