//! CertificateSigningRequest: somebody asks a signer for a certificate, an approver agrees, the signer issues.
//!
//! Invariant: who asks is what the server saw, and stays; only the approver says Approved or Denied, and only the signer
//! sets the certificate, once.

mod contents;
mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use self::contents::organizations;
use self::validate::{Through, validate};
use crate::field::FieldError;
use crate::kinds::descriptor::{ALL_VERBS, GET_PATCH_UPDATE};
use crate::kinds::strategy::{NameRule, keep_but_metadata, keep_system_metadata};
use crate::kinds::value::{Get, items_at, keep, object_at, remove, set};
use crate::kinds::{
    Column, Errors, Fields, Request, ResourceDescriptor, Rules, Strategy, Subresource, duration,
    object_meta,
};
use crate::meta::format_time;

/// `certificatesigningrequests` of certificates.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "certificates.k8s.io",
    version: "v1",
    kind: "CertificateSigningRequest",
    list_kind: "CertificateSigningRequestList",
    resource: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    categories: &[],
    namespaced: false,
    storage_prefix: "certificatesigningrequests",
    subresources: &[
        Subresource::own(APPROVAL, "CertificateSigningRequest", GET_PATCH_UPDATE),
        Subresource::status("CertificateSigningRequest"),
    ],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName", "Who is asked to sign."),
        Column::text("Requestor", "Who asks."),
        Column::text(
            "RequestedDuration",
            "For how long the certificate shall be good.",
        ),
        Column::text("Condition", "How far it has come."),
    ],
    strategy: &CertificateSigningRequest,
};

const APPROVAL: &str = "approval";
/// What only the approver may say.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
/// What the server knows of the one who asks.
const REQUESTER: [&str; 4] = ["username", "uid", "groups", "extra"];

struct CertificateSigningRequest;

static RULES: Rules = Rules {
    // Names are free but for what a path can hold.
    name: NameRule::PathSegment,
    status: true,
    ..Rules::CLUSTER
};

impl Strategy for CertificateSigningRequest {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn init(&self, object: &mut Value) {
        if let Some(spec) = object_at(object, "spec") {
            for key in REQUESTER {
                remove(spec, key);
            }
        }
        set(object, "status", json!({}));
    }

    fn note_request(&self, new: &mut Value, old: Option<&Value>, request: &Request<'_>) {
        match old {
            None => note_requester(new, request),
            Some(old) => note_times(new, old, request.now),
        }
    }

    fn carry_over(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        for decision in DECISIONS {
            keep_conditions(new, old, decision);
        }
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate(object, None, Through::Main, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, Some(old), Through::Main, errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, Some(old), Through::Status, errors);
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        let conditions =
            (subresource == APPROVAL).then(|| new.at("status").at("conditions").clone());
        keep_but_metadata(new, old, &[]);
        if let Some(conditions) = conditions
            && let Some(status) = object_at(new, "status")
        {
            match conditions {
                Value::Null => {
                    remove(status, "conditions");
                }
                conditions => set(status, "conditions", conditions),
            }
        }
        keep_system_metadata(new, old);
    }

    fn validate_subresource_update(
        &self,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Errors::new();
        object_meta::validate_update(new, old, &mut errors);
        if subresource == APPROVAL {
            validate(new, Some(old), Through::Approval, &mut errors);
        }
        errors.finish()
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        fields.add("spec.signerName", object.at("spec").text("signerName"));
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let or_none = |text: &str| match text {
            "" => "<none>".to_owned(),
            text => text.to_owned(),
        };
        let wanted = spec.int("expirationSeconds").map(duration::human);
        vec![
            meta.text("name").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            or_none(spec.text("signerName")).into(),
            spec.text("username").into(),
            or_none(&wanted.unwrap_or_default()).into(),
            state(object.at("status")).into(),
        ]
    }
}

fn note_requester(object: &mut Value, request: &Request<'_>) {
    let Some(spec) = object_at(object, "spec") else {
        return;
    };
    for (key, text) in [("username", request.username), ("uid", request.uid)] {
        if !text.is_empty() {
            set(spec, key, text);
        }
    }
    if !request.groups.is_empty() {
        set(spec, "groups", request.groups.to_vec());
    }
    if !request.extra.is_empty() {
        let extra = request.extra.iter();
        let extra = extra.map(|(key, values)| (key.clone(), Value::from(values.clone())));
        set(spec, "extra", Value::Object(extra.collect()));
    }
}

/// Conditions that came without times get them: a change of status is now, the same status keeps its time.
fn note_times(new: &mut Value, old: &Value, now: Timestamp) {
    let now = format_time(now);
    let Some(status) = new.get_mut("status") else {
        return;
    };
    for condition in items_at(status, "conditions") {
        if condition.is_empty_at("lastUpdateTime") {
            set(condition, "lastUpdateTime", now.as_str());
        }
        if condition.is_empty_at("lastTransitionTime") {
            let same = |before: &&Value| {
                before.text("type") == condition.text("type")
                    && before.text("status") == condition.text("status")
                    && !before.is_empty_at("lastTransitionTime")
            };
            let before = old.at("status").list("conditions").iter().find(same);
            let time = before.map_or(now.as_str(), |before| before.text("lastTransitionTime"));
            let time = time.to_owned();
            set(condition, "lastTransitionTime", time);
        }
    }
}

/// Puts back the conditions of a type as they were. When some came or went, validation has something to refuse.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let of_kind = |condition: &&Value| condition.text("type") == kind;
    let before: Vec<&Value> = old
        .at("status")
        .list("conditions")
        .iter()
        .filter(of_kind)
        .collect();
    let count = new.at("status").list("conditions").iter().filter(of_kind);
    if count.count() != before.len() {
        return;
    }
    let Some(status) = new.get_mut("status") else {
        return;
    };
    let conditions = items_at(status, "conditions").filter(|c| c.text("type") == kind);
    for (condition, before) in conditions.zip(before) {
        *condition = before.clone();
    }
}

/// How far it has come, in the words that people know.
fn state(status: &Value) -> String {
    let has = |kind: &str| {
        let mut conditions = status.list("conditions").iter();
        conditions.any(|condition| condition.text("type") == kind)
    };
    let decision = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let issued = match status.is_empty_at("certificate") {
        true => "",
        false => ",Issued",
    };
    format!("{decision}{failed}{issued}")
}

#[cfg(test)]
mod tests;
