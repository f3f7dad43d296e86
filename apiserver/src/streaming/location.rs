//! Where on the node agent a stream begins: path and query in the kubelet's words.
//!
//! Pure. Invariant: only known parameters are passed on, checked, so that an agent need not trust a client's query.

use corten_api::field::{FieldError, FieldPath};
use corten_api::meta::GroupKind;
use corten_api::status::Status;
use serde_json::Value;

use super::container;
use crate::request::{query_pairs, query_value};

/// A path and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
}

impl Location {
    pub(super) fn resolve(subresource: &str, pod: &Value, query: &str) -> Result<Self, Status> {
        match subresource {
            "log" => log(pod, query),
            "exec" | "attach" => command(subresource, pod, query),
            _ => port_forward(pod, query),
        }
    }

    pub(super) fn uri(&self) -> Result<http::Uri, http::uri::InvalidUri> {
        let mut text = self.path.clone();
        for (number, (key, value)) in self.query.iter().enumerate() {
            text.push(if number == 0 { '?' } else { '&' });
            text.push_str(key);
            text.push('=');
            text.push_str(&encode(value));
        }
        text.parse()
    }
}

fn path(prefix: &str, pod: &Value, container: Option<&str>) -> String {
    let of = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    let mut path = format!("/{prefix}/{}/{}", of("namespace"), of("name"));
    if let Some(container) = container {
        path.push('/');
        path.push_str(container);
    }
    path
}

fn log(pod: &Value, query: &str) -> Result<Location, Status> {
    let mut errors = Vec::new();
    let mut parameters = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query_value(query, flag).is_some_and(|value| is_true(&value)) {
            parameters.push((flag, "true".to_owned()));
        }
    }
    let bounds = [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ];
    for (name, min, complaint) in bounds {
        let Some(text) = query_value(query, name).filter(|text| !text.is_empty()) else {
            continue;
        };
        match text.parse::<i64>() {
            Ok(number) if number >= min => parameters.push((name, number.to_string())),
            Ok(number) => errors.push(FieldError::invalid(
                &FieldPath::new(name),
                number,
                complaint,
            )),
            Err(_) => {
                return Err(Status::bad_request(format!(
                    "unable to decode {name} {text:?} as a number"
                )));
            }
        }
    }
    for name in ["sinceTime", "stream"] {
        if let Some(text) = query_value(query, name).filter(|text| !text.is_empty()) {
            parameters.push((name, text.into_owned()));
        }
    }
    let has = |name: &str| parameters.iter().any(|(known, _)| *known == name);
    if has("sinceTime") && has("sinceSeconds") {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden(&FieldPath::root(), why));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(
            &GroupKind::new("", "PodLogOptions"),
            name_of(pod),
            &errors,
        ));
    }
    let container = container::choose(pod, &query_value(query, "container").unwrap_or_default())?;
    Ok(Location {
        path: path("containerLogs", pod, Some(&container)),
        query: parameters,
    })
}

fn command(subresource: &str, pod: &Value, query: &str) -> Result<Location, Status> {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        let what = if subresource == "exec" {
            "exec into"
        } else {
            "attach to"
        };
        let message =
            format!("cannot {what} a container in a completed pod; current phase is {phase}");
        return Err(Status::bad_request(message));
    }
    let container = container::choose(pod, &query_value(query, "container").unwrap_or_default())?;
    let asked = |name: &str| query_value(query, name).is_some_and(|value| is_true(&value));
    let mut parameters = Vec::new();
    for (theirs, agents) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        // A terminal has one output stream: errors come with it.
        if asked(theirs) && !(theirs == "stderr" && asked("tty")) {
            parameters.push((agents, "1".to_owned()));
        }
    }
    if parameters.iter().all(|(name, _)| *name == "tty") {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    if subresource == "exec" {
        let words = query_pairs(query).filter(|(name, _)| name == "command");
        let before = parameters.len();
        parameters.extend(words.map(|(_, word)| ("command", word.into_owned())));
        if parameters.len() == before {
            return Err(Status::bad_request(
                "you must specify a command for the container",
            ));
        }
    }
    Ok(Location {
        path: path(subresource, pod, Some(&container)),
        query: parameters,
    })
}

fn port_forward(pod: &Value, query: &str) -> Result<Location, Status> {
    let mut parameters = Vec::new();
    for (_, list) in query_pairs(query).filter(|(name, _)| matches!(&**name, "ports" | "port")) {
        for port in list.split(',') {
            match port.trim().parse::<u16>() {
                Ok(number) if number > 0 => parameters.push(("port", number.to_string())),
                _ => {
                    return Err(Status::bad_request(format!(
                        "unable to parse {port:?} as a port"
                    )));
                }
            }
        }
    }
    Ok(Location {
        path: path("portForward", pod, None),
        query: parameters,
    })
}

fn name_of(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

fn is_true(value: &str) -> bool {
    !matches!(value, "false" | "0" | "False" | "FALSE" | "f")
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
