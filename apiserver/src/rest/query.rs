//! Query parameters: the options that travel in the URL.
//!
//! Invariant: a parameter with a value that makes no sense is refused, never ignored; unknown parameters are ignored, as
//! clients of other versions send them. Of a repeated parameter the first counts, as it does for authorization.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use corten_api::field::{FieldError, FieldPath};
use corten_api::meta::GroupKind;
use corten_api::status::Status;
use rand::Rng;

use crate::registry::{
    Context, DeleteOptions, FieldValidation, ListOptions, PatchKind, RevisionMatch, WatchOptions,
};
use crate::request::{Caller, query_pairs};

/// Names of field managers are printable and short, so that they fit into every object.
const MANAGER_MAX: usize = 128;
/// Watches without a timeout end after this long, or up to twice that, so that clients spread over the servers.
const WATCH_MIN: Duration = Duration::from_secs(1800);

/// All parameters that any verb understands.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    label_selector: String,
    field_selector: String,
    limit: i64,
    continue_token: String,
    pub(super) resource_version: Option<String>,
    resource_version_match: Option<RevisionMatch>,
    send_initial_events: Option<bool>,
    pub(super) allow_bookmarks: bool,
    timeout_seconds: Option<u64>,
    dry_run: bool,
    field_manager: String,
    force: Option<bool>,
    validation: FieldValidation,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    pub(super) pretty: bool,
    pub(super) include_object: Option<String>,
}

impl Query {
    pub(super) fn parse(text: &str, user_agent: &str) -> Result<Self, Status> {
        // People at a terminal or in a browser read what they get.
        let by_hand = ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|name| user_agent.starts_with(name));
        let mut query = Self {
            pretty: by_hand,
            ..Self::default()
        };
        let mut seen = HashSet::new();
        for (name, value) in query_pairs(text) {
            // dryRun is a list.
            let repeated = name != "dryRun" && seen.contains(&name);
            if !repeated {
                query.set(&name, &value)?;
                seen.insert(name);
            }
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Status> {
        match name {
            "labelSelector" => self.label_selector = value.to_owned(),
            "fieldSelector" => self.field_selector = value.to_owned(),
            "limit" => self.limit = number(name, value)?.unwrap_or(0),
            "continue" => self.continue_token = value.to_owned(),
            "resourceVersion" => self.resource_version = Some(value.to_owned()),
            "resourceVersionMatch" => self.resource_version_match = revision_match(value)?,
            "sendInitialEvents" => self.send_initial_events = Some(flag(value)),
            "allowWatchBookmarks" => self.allow_bookmarks = flag(value),
            "timeoutSeconds" => {
                let seconds = number(name, value)?.unwrap_or(0);
                self.timeout_seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
            }
            "dryRun" => self.dry_run |= dry_run(value)?,
            "fieldManager" => self.field_manager = manager(value)?,
            "force" => self.force = Some(flag(value)),
            "fieldValidation" => self.validation = validation(value)?,
            "gracePeriodSeconds" => self.grace_period_seconds = number(name, value)?,
            "propagationPolicy" => self.propagation_policy = Some(value.to_owned()),
            "orphanDependents" => self.orphan_dependents = Some(flag(value)),
            "pretty" => self.pretty = flag(value),
            "includeObject" => self.include_object = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn context(&self, caller: &Caller) -> Context {
        let manager = if self.field_manager.is_empty() {
            // As upstream: the program's name in front of the slash.
            caller.user_agent.split('/').next().unwrap_or("").to_owned()
        } else {
            self.field_manager.clone()
        };
        Context {
            dry_run: self.dry_run,
            field_manager: manager,
            force: self.force == Some(true),
            validation: self.validation,
            ..Context::new(Arc::clone(&caller.user))
        }
    }

    /// What only an apply may say, and what it must.
    pub(super) fn check_patch(&self, kind: PatchKind) -> Result<(), Status> {
        let apply = kind == PatchKind::Apply;
        let error = if apply && self.field_manager.is_empty() {
            let path = FieldPath::new("fieldManager");
            FieldError::required(&path, "is required for apply patch")
        } else if !apply && self.force.is_some() {
            let path = FieldPath::new("force");
            FieldError::forbidden(&path, "may not be specified for non-apply patch")
        } else {
            return Ok(());
        };
        let options = GroupKind::new("meta.k8s.io", "PatchOptions");
        Err(Status::invalid(&options, "", &[error]))
    }

    pub(super) fn list(&self) -> ListOptions {
        ListOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            limit: self.limit,
            continue_token: self.continue_token.clone(),
            resource_version: self.resource_version.clone(),
            resource_version_match: self.resource_version_match,
        }
    }

    pub(super) fn watch(&self) -> WatchOptions {
        WatchOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            resource_version: self.resource_version.clone(),
            resource_version_match: self.resource_version_match,
            send_initial_events: self.send_initial_events,
            allow_bookmarks: self.allow_bookmarks,
        }
    }

    /// Whether the client wants to know where the initial objects end.
    pub(super) fn marks_initial_end(&self) -> bool {
        self.send_initial_events == Some(true)
    }

    pub(super) fn watch_timeout(&self) -> Duration {
        match self.timeout_seconds {
            Some(seconds) => Duration::from_secs(seconds),
            None => WATCH_MIN + WATCH_MIN.mul_f64(rand::rng().random::<f64>()),
        }
    }

    pub(super) fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let mut body = serde_json::Map::new();
        if let Some(seconds) = self.grace_period_seconds {
            body.insert("gracePeriodSeconds".to_owned(), seconds.into());
        }
        if let Some(policy) = &self.propagation_policy {
            body.insert("propagationPolicy".to_owned(), policy.as_str().into());
        }
        if let Some(orphan) = self.orphan_dependents {
            body.insert("orphanDependents".to_owned(), orphan.into());
        }
        DeleteOptions::from_json(&body.into())
    }
}

/// Absent, "false" and "0" are false, as upstream's conversion has it; everything else is true.
fn flag(value: &str) -> bool {
    !matches!(value, "false" | "0")
}

fn number(name: &str, value: &str) -> Result<Option<i64>, Status> {
    if value.is_empty() {
        return Ok(None);
    }
    value
        .parse()
        .map(Some)
        .map_err(|_| Status::bad_request(format!("{name}: {value:?} is not a number")))
}

fn revision_match(value: &str) -> Result<Option<RevisionMatch>, Status> {
    match value {
        "" => Ok(None),
        "Exact" => Ok(Some(RevisionMatch::Exact)),
        "NotOlderThan" => Ok(Some(RevisionMatch::NotOlderThan)),
        other => Err(unsupported(
            "ListOptions",
            "resourceVersionMatch",
            other,
            &["Exact", "NotOlderThan"],
        )),
    }
}

fn dry_run(value: &str) -> Result<bool, Status> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(unsupported("CreateOptions", "dryRun", other, &["All"])),
    }
}

fn validation(value: &str) -> Result<FieldValidation, Status> {
    match value {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(unsupported(
            "CreateOptions",
            "fieldValidation",
            other,
            &["Ignore", "Warn", "Strict"],
        )),
    }
}

fn manager(value: &str) -> Result<String, Status> {
    if value.len() <= MANAGER_MAX && !value.chars().any(char::is_control) {
        return Ok(value.to_owned());
    }
    let path = FieldPath::new("fieldManager");
    let error = FieldError::too_long(&path, MANAGER_MAX);
    Err(Status::invalid(
        &GroupKind::new("meta.k8s.io", "CreateOptions"),
        "",
        &[error],
    ))
}

fn unsupported(kind: &'static str, field: &str, value: &str, known: &[&str]) -> Status {
    let error = FieldError::not_supported(&FieldPath::new(field), value, known);
    Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", &[error])
}
