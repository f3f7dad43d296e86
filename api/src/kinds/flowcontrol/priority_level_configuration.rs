//! PriorityLevelConfiguration: how much of the server the requests of a level may have, and what becomes of the rest.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::mandatory::{EXEMPT, fixed_spec, levels};
use super::{ENTROPY_BITS_MAX, GROUP, entropy_bits, validate_conditions};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{Generation, keep_client_metadata};
use crate::kinds::value::{Get, remove, same, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};

/// `prioritylevelconfigurations` of flowcontrol.apiserver.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "PriorityLevelConfiguration",
    list_kind: "PriorityLevelConfigurationList",
    resource: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "prioritylevelconfigurations",
    subresources: &[Subresource::status("PriorityLevelConfiguration")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Type", "Whether the level has limits."),
        Column::text("NominalConcurrencyShares", "Its part of the server."),
        Column::text("Queues", "Queues that its flows are spread over."),
        Column::text("HandSize", "Queues that one flow may use."),
        Column::text("QueueLengthLimit", "Requests that may wait in a queue."),
        Column::AGE,
    ],
    strategy: &PriorityLevelConfiguration,
};

/// What older versions of the API kept in an annotation, and this one has a field for.
const ZERO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
const DEFAULT_SHARES: i64 = 30;
/// The numbers of a queuing level and their defaults.
const QUEUING: [(&str, i64); 3] = [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)];
const QUEUES_MAX: i64 = 10_000_000;

struct PriorityLevelConfiguration;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::CLUSTER
};

impl Strategy for PriorityLevelConfiguration {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec") else {
            return;
        };
        for (kind, shares) in [("exempt", 0), ("limited", DEFAULT_SHARES)] {
            let Some(part) = spec.get_mut(kind) else {
                continue;
            };
            for (key, value) in [("nominalConcurrencyShares", shares), ("lendablePercent", 0)] {
                if !part.has(key) {
                    set(part, key, value);
                }
            }
        }
        if let Some(queuing) = spec.pointer_mut("/limited/limitResponse/queuing") {
            for (key, value) in QUEUING {
                if queuing.int(key).unwrap_or(0) == 0 {
                    set(queuing, key, value);
                }
            }
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({}));
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        keep_client_metadata(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let meta = object.at("metadata");
        if meta.at("annotations").has(ZERO_SHARES) {
            let detail = format!("annotation '{ZERO_SHARES}' is forbidden");
            errors.forbidden(&Path::new("metadata.annotations"), detail);
        }
        let (name, spec) = (meta.text("name"), object.at("spec"));
        validate_spec(name, spec, errors);
        validate_fixed(name, spec, errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate_conditions(new.at("status"), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let limited = spec.at("limited");
        let queuing = limited.at("limitResponse").at("queuing");
        let number = |part: &Value, key: &str| match part.int(key) {
            Some(number) => Value::from(number),
            None => "<none>".into(),
        };
        vec![
            meta.text("name").into(),
            spec.text("type").into(),
            number(limited, "nominalConcurrencyShares"),
            number(queuing, "queues"),
            number(queuing, "handSize"),
            number(queuing, "queueLengthLimit"),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

/// Mandatory levels stay as they are, but for how much the exempt one lends.
fn validate_fixed(name: &str, spec: &Value, errors: &mut Errors) {
    let Some(fixed) = fixed_spec(levels(), name) else {
        return;
    };
    let path = Path::new("spec");
    if name != EXEMPT {
        if !same(spec, fixed) {
            let detail = format!("spec of '{name}' must equal the fixed value");
            errors.invalid(&path, spec, detail);
        }
        return;
    }
    let without = |spec: &Value| {
        let mut spec = spec.clone();
        remove(&mut spec, "exempt");
        spec
    };
    if !same(&without(spec), &without(fixed)) {
        let detail =
            format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
        errors.invalid(&path, spec, detail);
    }
}

fn validate_spec(name: &str, spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let kind = spec.text("type");
    if (name == EXEMPT) != (kind == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.invalid(&path.child("type"), kind, detail);
    }
    let (limited, exempt) = (spec.opt("limited"), spec.opt("exempt"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                let detail = "must be nil if the type is not Limited";
                errors.forbidden(&path.child("limited"), detail);
            }
            if let Some(exempt) = exempt {
                validate_part(exempt, &path.child("exempt"), errors);
            }
        }
        "Limited" => {
            if exempt.is_some() {
                let detail = "must be nil if the type is Limited";
                errors.forbidden(&path.child("exempt"), detail);
            }
            let at = path.child("limited");
            match limited {
                None => errors.required(&at, "must not be empty when type is Limited"),
                Some(limited) => validate_limited(limited, &at, errors),
            }
        }
        _ => errors.not_supported(&path.child("type"), kind, &["Exempt", "Limited"]),
    }
}

fn validate_limited(limited: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_shares(limited, path, errors);
    let response = limited.at("limitResponse");
    let at = path.child("limitResponse");
    let (kind, queuing) = (response.text("type"), response.opt("queuing"));
    let at_queuing = at.child("queuing");
    match (kind, queuing) {
        ("Reject", Some(_)) => errors.forbidden(
            &at_queuing,
            "must be nil if limited.limitResponse.type is not Limited",
        ),
        ("Queue", None) => errors.required(
            &at_queuing,
            "must not be empty if limited.limitResponse.type is Limited",
        ),
        ("Queue", Some(queuing)) => validate_queuing(queuing, &at_queuing, errors),
        ("Reject", None) => {}
        _ => errors.not_supported(&at.child("type"), kind, &["Queue", "Reject"]),
    }
    validate_lending(limited, path, errors);
    if let Some(percent) = limited.int("borrowingLimitPercent").filter(|p| *p < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, detail);
    }
}

fn validate_part(part: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_shares(part, path, errors);
    validate_lending(part, path, errors);
}

fn validate_shares(part: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(shares) = part.int("nominalConcurrencyShares").filter(|s| *s < 0) {
        let at = path.child("nominalConcurrencyShares");
        errors.invalid(&at, shares, "must be a non-negative integer");
    }
}

fn validate_lending(part: &Value, path: &Path<'_>, errors: &mut Errors) {
    let percent = part.int("lendablePercent");
    if let Some(percent) = percent.filter(|percent| !(0..=100).contains(percent)) {
        let at = path.child("lendablePercent");
        errors.invalid(&at, percent, "must be between 0 and 100, inclusive");
    }
}

fn validate_queuing(queuing: &Value, path: &Path<'_>, errors: &mut Errors) {
    let number = |key: &str| queuing.int(key).unwrap_or(0);
    let (length, queues, hand) = (
        number("queueLengthLimit"),
        number("queues"),
        number("handSize"),
    );
    if length <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    let at = path.child("queues");
    if queues <= 0 {
        errors.invalid(&at, queues, "must be positive");
    } else if queues > QUEUES_MAX {
        errors.invalid(
            &at,
            queues,
            format!("must not be greater than {QUEUES_MAX}"),
        );
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.invalid(&at, hand, detail);
    } else {
        let bits = match (u32::try_from(queues), u32::try_from(hand)) {
            (Ok(queues), Ok(hand)) => entropy_bits(queues, hand),
            _ => u32::MAX,
        };
        if bits > ENTROPY_BITS_MAX {
            let detail = format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than \
                 {ENTROPY_BITS_MAX}"
            );
            errors.invalid(&at, hand, detail);
        }
    }
}

#[cfg(test)]
mod tests;
