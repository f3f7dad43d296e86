//! The `scale` subresource: the number of replicas, for kinds that have one.
//!
//! It is a view: nothing of it is stored. Invariant: writing a Scale changes `spec.replicas` and nothing else, under the
//! revision that the Scale names.

use corten_api::field::{FieldError, FieldPath};
use corten_api::managed::{self, Managers};
use corten_api::meta::{self, GroupKind};
use corten_api::selector::{LabelSelector, Operator, Requirement};
use corten_api::status::Status;
use corten_api::{patch, schema};
use serde_json::{Value, json};

use super::apply::{note, read_wishes, writer_of};
use super::modify::{Compute, Notes, Part, object_gvk};
use super::{Answer, Context, Registry, Target};

impl Registry {
    pub(super) async fn get_scale(&self, target: &Target) -> Result<Answer, Status> {
        let item = self.item(target, None).await?;
        Ok(Answer::value(scale_of(&item.value())))
    }

    pub(super) async fn update_scale(
        &self,
        context: &Context,
        target: &Target,
        scale: &Value,
    ) -> Result<Answer, Status> {
        self.patch_scale(context, target, &mut |_| Ok(scale.clone()))
            .await
    }

    /// Computes a new Scale from the present one, and stores what it says.
    pub(super) async fn patch_scale(
        &self,
        context: &Context,
        target: &Target,
        compute: &mut Compute<'_>,
    ) -> Result<Answer, Status> {
        let mut on_object = |old: &Value| {
            let scale = compute(&scale_of(old))?;
            let replicas = replicas_of(target, &scale)?;
            let mut new = old.clone();
            new["spec"]["replicas"] = replicas.into();
            // The client's preconditions, if it names any.
            let given = meta::resource_version(&scale).to_owned();
            meta::metadata_mut(&mut new).insert("resourceVersion".to_owned(), given.into());
            if !meta::uid(&scale).is_empty() {
                meta::set_uid(&mut new, &meta::uid(&scale).to_owned().into());
            }
            Ok(new)
        };
        let answer = self
            .modify(context, target, Part::Main, &mut on_object)
            .await?;
        Ok(Answer::value(scale_of(&answer.into_value())))
    }

    /// Server-side apply of a Scale. The number has the same path in the object, so the wish is laid over the object
    /// itself, whose list of managers then names the writer with the subresource.
    pub(super) async fn apply_scale(
        &self,
        context: &Context,
        target: &Target,
        body: &[u8],
    ) -> Result<Answer, Status> {
        let (scale, warnings) = read_wishes(context, target, Part::Main, body)?;
        replicas_of(target, &scale)?;
        let gvk = object_gvk(target.descriptor);
        let ty = schema::lookup(&gvk).ok_or(patch::PatchError::Unsupported)?;
        let mut wishes = json!({"apiVersion": gvk.api_version(), "kind": target.descriptor.kind});
        if let Some(replicas) = scale["spec"].get("replicas") {
            wishes["spec"]["replicas"] = replicas.clone();
        }
        for precondition in ["uid", "resourceVersion"] {
            if let Some(given) = scale["metadata"].get(precondition) {
                wishes["metadata"][precondition] = given.clone();
            }
        }
        let writer = writer_of(context, target, managed::Operation::Apply);
        let now = meta::format_time(context.now);
        let mut compute = |old: &Value| {
            let (mut live, managers) = (old.clone(), Managers::of(old));
            meta::metadata_mut(&mut live).shift_remove("managedFields");
            let applied =
                managed::apply(ty, &live, &wishes, managers, &writer, context.force, &now)
                    .map_err(|conflicts| managed::conflicts_status(&conflicts))?;
            let mut new = applied.object;
            // Who applied a number and wishes none any more gets what a Scale without one says.
            if new["spec"]["replicas"].is_null() {
                new["spec"]["replicas"] = 0.into();
            }
            note(&mut new, applied.managers.to_json());
            Ok(new)
        };
        let answer = self
            .modify_noted(context, target, Part::Main, Notes::Taken, &mut compute)
            .await?;
        Ok(Answer::value(scale_of(&answer.into_value())).warn(warnings))
    }
}

fn replicas_of(target: &Target, scale: &Value) -> Result<i64, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas >= 0 {
        return Ok(replicas);
    }
    let path = FieldPath::new("spec").child("replicas");
    let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
    Err(Status::invalid(
        &GroupKind::new("autoscaling", "Scale"),
        &target.name,
        &[error],
    ))
}

fn scale_of(object: &Value) -> Value {
    let kept = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ];
    let metadata = kept
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), object["metadata"].get(key)?.clone())));
    let metadata: serde_json::Map<String, Value> = metadata.collect();
    let selector = &object["spec"]["selector"];
    // A ReplicationController's is a plain map.
    let plain = object["kind"] == "ReplicationController";
    let selector = if plain {
        json!({"matchLabels": selector})
    } else {
        selector.clone()
    };
    let selector = LabelSelector::from_json(&selector)
        .map(|selector| selector_text(&selector))
        .unwrap_or_default();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector,
        },
    })
}

/// As upstream writes it: a label that must have one value is an equation.
fn selector_text(selector: &LabelSelector) -> String {
    let term = |requirement: &Requirement| match (requirement.operator, &*requirement.values) {
        (Operator::In, [value]) => format!("{}={value}", requirement.key),
        _ => LabelSelector::new([requirement.clone()]).to_string(),
    };
    let terms: Vec<String> = selector.requirements().iter().map(term).collect();
    terms.join(",")
}
