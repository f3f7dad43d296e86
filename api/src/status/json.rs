//! The wire form in JSON, both ways. Fields that are empty are left out.

use serde_json::{Map, Value, json};

use super::{Cause, Details, Reason, Status};

impl Status {
    /// The wire form.
    pub fn to_json(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), json!(token));
        }
        let mut out = Map::new();
        out.insert("kind".to_owned(), json!("Status"));
        out.insert("apiVersion".to_owned(), json!("v1"));
        out.insert("metadata".to_owned(), Value::Object(metadata));
        out.insert(
            "status".to_owned(),
            json!(if self.is_success() {
                "Success"
            } else {
                "Failure"
            }),
        );
        put(&mut out, "message", &self.message);
        if let Some(reason) = &self.reason {
            put(&mut out, "reason", reason.as_str());
        }
        if let Some(details) = &self.details {
            out.insert("details".to_owned(), details.to_json());
        }
        if !self.is_success() {
            out.insert("code".to_owned(), json!(self.code));
        }
        Value::Object(out)
    }

    /// Reads the wire form; `None` when it is not a Status.
    pub fn from_json(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        if object.get("kind").and_then(Value::as_str) != Some("Status") {
            return None;
        }
        let success = object.get("status").and_then(Value::as_str) == Some("Success");
        let reason = Reason::from_name(text(object.get("reason")));
        let code = object
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let continue_token = value
            .pointer("/metadata/continue")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Some(Status {
            code: code.unwrap_or(if success { 200 } else { reason.code() }),
            reason: (!success).then_some(reason),
            message: text(object.get("message")).to_owned(),
            details: object
                .get("details")
                .map(|details| Box::new(Details::from_json(details))),
            continue_token,
        })
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "name", &self.name);
        put(&mut out, "group", &self.group);
        put(&mut out, "kind", &self.kind);
        put(&mut out, "uid", &self.uid);
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut out = Map::new();
                put(&mut out, "reason", &cause.kind);
                put(&mut out, "message", &cause.message);
                put(&mut out, "field", &cause.field);
                Value::Object(out)
            });
            out.insert("causes".to_owned(), causes.collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert(
                "retryAfterSeconds".to_owned(),
                json!(self.retry_after_seconds),
            );
        }
        Value::Object(out)
    }

    fn from_json(value: &Value) -> Self {
        let cause = |value: &Value| Cause {
            kind: text(value.get("reason")).to_owned(),
            message: text(value.get("message")).to_owned(),
            field: text(value.get("field")).to_owned(),
        };
        let causes = value.get("causes").and_then(Value::as_array);
        let retry = value.get("retryAfterSeconds").and_then(Value::as_u64);
        Details {
            name: text(value.get("name")).to_owned(),
            group: text(value.get("group")).to_owned(),
            kind: text(value.get("kind")).to_owned(),
            uid: text(value.get("uid")).to_owned(),
            causes: causes
                .map(|causes| causes.iter().map(cause).collect())
                .unwrap_or_default(),
            retry_after_seconds: retry
                .and_then(|seconds| u32::try_from(seconds).ok())
                .unwrap_or(0),
        }
    }
}

fn put(out: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        out.insert(key.to_owned(), json!(value));
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or("")
}
