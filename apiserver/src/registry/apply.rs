//! Server-side apply, and the note that every write takes of its manager.
//!
//! It does not merge; `corten_api::managed` does. Invariant: what an apply is refused for is computed from the object that is in the
//! store, and an apply that changes nothing writes nothing.

use corten_api::decode::Encoding;
use corten_api::managed::{self, Managers, Operation, Writer};
use corten_api::status::Status;
use corten_api::{meta, patch, schema};
use serde_json::Value;

use super::modify::{Notes, Part, object_gvk, part_of};
use super::patch::check_identity;
use super::{Answer, Context, FieldValidation, Registry, Target};
use crate::rest::body::{self, MediaType};

/// A client that does not say who it is.
const NOBODY: &str = "unknown";
/// What an apply may say of an object's metadata when only its status is meant.
const IDENTITY: [&str; 4] = ["name", "namespace", "uid", "resourceVersion"];

impl Registry {
    /// Makes an object what its manager wishes, or creates it.
    pub(super) async fn apply(
        &self,
        context: &Context,
        target: &Target,
        body: &[u8],
    ) -> Result<Answer, Status> {
        if target.subresource == "scale" {
            return self.apply_scale(context, target, body).await;
        }
        let (part, gvk) = (part_of(target)?, target.gvk());
        let ty = schema::lookup(&gvk).ok_or(patch::PatchError::Unsupported)?;
        let (wishes, warnings) = read_wishes(context, target, part, body)?;
        let writer = writer_of(context, target, Operation::Apply);
        let now = meta::format_time(context.now);
        let lay_over = |live: &Value, managers: Managers| {
            let applied = managed::apply(ty, live, &wishes, managers, &writer, context.force, &now);
            applied.map_err(|conflicts| managed::conflicts_status(&conflicts))
        };
        let mut compute = |old: &Value| {
            let (mut live, managers) = (old.clone(), Managers::of(old));
            meta::metadata_mut(&mut live).shift_remove("managedFields");
            let applied = lay_over(&live, managers)?;
            let (mut new, _) = body::check(applied.object, &gvk, FieldValidation::Ignore)?;
            note(&mut new, applied.managers.to_json());
            Ok(new)
        };
        let changed = self
            .modify_noted(context, target, part, Notes::Taken, &mut compute)
            .await;
        let answer = match changed {
            Err(status)
                if status.code() == 404 && part == Part::Main && meta::uid(&wishes).is_empty() =>
            {
                let empty = Value::Object(serde_json::Map::new());
                let applied = lay_over(&empty, Managers::default())?;
                let context = Context {
                    managers: Some(applied.managers.to_json()),
                    ..context.clone()
                };
                self.create_object(&context, target, applied.object).await
            }
            other => other,
        };
        Ok(answer?.warn(warnings))
    }
}

pub(super) fn read_wishes(
    context: &Context,
    target: &Target,
    part: Part<'_>,
    body: &[u8],
) -> Result<(Value, Vec<String>), Status> {
    let said = patch::parse(body, Encoding::Yaml)?;
    for field in ["apiVersion", "kind"] {
        if said[field].as_str().is_none_or(str::is_empty) {
            return Err(Status::bad_request(format!(
                "an applied object must say its {field}"
            )));
        }
    }
    let text = MediaType::Text(Encoding::Yaml);
    let (mut wishes, warnings) = body::decode(body, text, &target.gvk(), context.validation)?;
    if !wishes["metadata"]["managedFields"].is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    check_identity(target, &wishes)?;
    // What the path does not write is not the manager's to own either.
    let status = target.descriptor.strategy.rules().status;
    if let Some(fields) = wishes.as_object_mut() {
        match part {
            Part::Status => {
                fields.retain(|name, _| {
                    matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
                });
                if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.retain(|name, _| IDENTITY.contains(&name.as_str()));
                }
            }
            _ if status => {
                fields.shift_remove("status");
            }
            _ => {}
        }
    }
    Ok((wishes, warnings))
}

pub(super) fn writer_of(context: &Context, target: &Target, operation: Operation) -> Writer {
    let manager = match context.field_manager.as_str() {
        "" => NOBODY,
        manager => manager,
    };
    Writer {
        manager: manager.to_owned(),
        operation,
        api_version: object_gvk(target.descriptor).api_version().into_owned(),
        subresource: target.subresource.clone(),
    }
}

/// Puts a list of managers into an object; null takes it out.
pub(super) fn note(object: &mut Value, managers: Value) {
    let metadata = meta::metadata_mut(object);
    if managers.is_null() {
        metadata.shift_remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), managers);
    }
}

/// The managers after a write that is no apply. `given` is what the client said of them itself.
pub(super) fn noted(
    context: &Context,
    target: &Target,
    old: &Value,
    new: &Value,
    given: Option<&Value>,
) -> Value {
    let gvk = object_gvk(target.descriptor);
    let Some(ty) = schema::lookup(&gvk) else {
        return old["metadata"]["managedFields"].clone();
    };
    // Through a subresource nobody rewrites who owns the object.
    let known = match target.subresource.as_str() {
        "" => Managers::given(given, old),
        _ => Managers::of(old),
    };
    let writer = writer_of(context, target, Operation::Update);
    let now = meta::format_time(context.now);
    managed::update(ty, old, new, known, &writer, &now).to_json()
}
