//! Pod Security: what a namespace's labels `pod-security.kubernetes.io/{enforce,warn}` ask of its pods.
//!
//! Pods are refused by `enforce` and warned of by `warn`; templates of workloads are warned of only, as their pods are refused
//! when they come. It keeps no record for `audit`, and judges every version by the rules of the newest (they only grow
//! stricter). Invariant: a label that cannot be read counts as the strictest level, never as none.

mod baseline;
mod containers;
mod restricted;
#[cfg(test)]
mod tests;

use corten_api::field::{FieldError, FieldPath};
use corten_api::status::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::registry::Registry;

const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];

/// How much a pod may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// Something that a level does not allow: what, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation {
    reason: String,
    detail: String,
}

impl Violation {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: detail.into(),
        }
    }
}

/// A pod or the template of one.
#[derive(Clone, Copy)]
struct PodView<'a> {
    metadata: &'a Value,
    spec: &'a Value,
}

/// Refuses pods that the namespace does not allow, and labels that mean nothing.
pub(super) fn validate(
    registry: &Registry,
    review: &Review<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(object) = object else { return Ok(()) };
    if review.is("", "namespaces") {
        return check_labels(review, object, old);
    }
    if !is_pod(review) || !is_significant(review, object, old) {
        return Ok(());
    }
    match judge(registry, review, "enforce", view_of_pod(object)) {
        None => Ok(()),
        Some(verdict) => Err(review
            .target
            .forbidden(&format!("violates PodSecurity {verdict}"))),
    }
}

/// What the client is told about an object that is let through.
pub(super) fn warnings(
    registry: &Registry,
    review: &Review<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Vec<String> {
    let template = &object["spec"]["template"];
    let view = if is_pod(review) && is_significant(review, object, old) {
        view_of_pod(object)
    } else if template.is_object() && review.target.subresource.is_empty() {
        view_of_pod(template)
    } else {
        return Vec::new();
    };
    let verdict = judge(registry, review, "warn", view);
    let warning = verdict.map(|verdict| format!("would violate PodSecurity {verdict}"));
    warning.into_iter().collect()
}

/// The violated policy and how, or none. `"restricted:latest": what (where), ...`
fn judge(registry: &Registry, review: &Review<'_>, mode: &str, pod: PodView<'_>) -> Option<String> {
    let namespaces = registry.caches().named("", "namespaces")?.snapshot();
    let labels =
        namespaces.get("", &review.target.namespace)?.value()["metadata"]["labels"].clone();
    let (level, version) = policy(&labels, mode);
    let violations = evaluate(level, pod);
    (!violations.is_empty())
        .then(|| format!("\"{}:{version}\": {}", level.name(), describe(&violations)))
}

fn policy(labels: &Value, mode: &str) -> (Level, String) {
    let label = |name: &str| labels[format!("{PREFIX}{name}")].as_str();
    let level = label(mode).map_or(Level::Privileged, |text| {
        Level::parse(text).unwrap_or(Level::Restricted)
    });
    let version = label(&format!("{mode}-version"));
    (level, version.unwrap_or("latest").to_owned())
}

/// All violations, in upstream's order: baseline's by name, then restricted's.
fn evaluate(level: Level, pod: PodView<'_>) -> Vec<Violation> {
    match level {
        Level::Privileged => Vec::new(),
        Level::Baseline => {
            let mut found = baseline::shared(pod);
            found.extend(baseline::replaced_by_restricted(pod));
            found.into_values().collect()
        }
        Level::Restricted => baseline::shared(pod)
            .into_values()
            .chain(restricted::all_of(pod))
            .collect(),
    }
}

fn describe(violations: &[Violation]) -> String {
    let one = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn view_of_pod(pod: &Value) -> PodView<'_> {
    PodView {
        metadata: &pod["metadata"],
        spec: &pod["spec"],
    }
}

/// Pods themselves, and their ephemeral containers.
fn is_pod(review: &Review<'_>) -> bool {
    let target = review.target;
    target.descriptor.group.is_empty()
        && target.descriptor.resource == "pods"
        && matches!(target.subresource.as_str(), "" | "ephemeralcontainers")
}

/// A pod from before the label may still be labelled, and end.
fn is_significant(review: &Review<'_>, new: &Value, old: Option<&Value>) -> bool {
    if review.operation == Operation::Create {
        return true;
    }
    old.is_none_or(|old| {
        ["containers", "initContainers", "ephemeralContainers"]
            .iter()
            .any(|list| old["spec"][*list] != new["spec"][*list])
    })
}

fn check_labels(review: &Review<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let mut errors = Vec::new();
    let path = FieldPath::new("metadata").child("labels");
    for mode in MODES {
        for (name, words) in [
            (
                format!("{PREFIX}{mode}"),
                "must be one of privileged, baseline, restricted",
            ),
            (
                format!("{PREFIX}{mode}-version"),
                "must be \"latest\" or \"v1.x\"",
            ),
        ] {
            let label = |object: &Value| {
                object["metadata"]["labels"][&name]
                    .as_str()
                    .map(str::to_owned)
            };
            let Some(text) = label(new) else { continue };
            let valid = match name.ends_with("-version") {
                true => is_version(&text),
                false => Level::parse(&text).is_some(),
            };
            // A label from before the check may stay.
            if !valid && old.and_then(label).as_deref() != Some(text.as_str()) {
                errors.push(FieldError::invalid(&path.key(&name), text.as_str(), words));
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let target = review.target;
    Err(Status::invalid(&target.group_kind(), &target.name, &errors))
}

fn is_version(text: &str) -> bool {
    text == "latest"
        || text.strip_prefix("v1.").is_some_and(|minor| {
            let digits = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
            digits && (minor == "0" || !minor.starts_with('0'))
        })
}
