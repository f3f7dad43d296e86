//! Patch: three ways to say what changes, one loop that applies it to the present object. The fourth, server-side apply, is in
//! `apply`.
//!
//! It does not know how patches work; `corten_api::patch` does. Invariant: a patch without a resourceVersion never ends in a
//! conflict, it is applied again to whatever is there.

use corten_api::decode::Encoding;
use corten_api::status::Status;
use corten_api::{meta, patch};
use serde_json::Value;

use super::modify::part_of;
use super::{Answer, Context, FieldValidation, Registry, Target};
use crate::rest::body;

/// The language of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Merge with list semantics from the schema.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Registry {
    /// Changes an object as the patch says.
    pub async fn patch(
        &self,
        context: &Context,
        target: &Target,
        kind: PatchKind,
        patch: &[u8],
    ) -> Result<Answer, Status> {
        target.require_verb("patch")?;
        if kind == PatchKind::Apply {
            return self.apply(context, target, patch).await;
        }
        let patch = patch::parse(patch, Encoding::Yaml)?;
        let mut warnings = Vec::new();
        let target_gvk = target.gvk();
        let mut compute = |old: &Value| {
            let patched = apply(kind, &target_gvk, old, &patch)?;
            let (patched, found) = body::check(patched, &target_gvk, context.validation)?;
            warnings = found;
            check_identity(target, &patched)?;
            Ok(patched)
        };
        let answer = if target.subresource == "scale" {
            self.patch_scale(context, target, &mut compute).await?
        } else {
            self.modify(context, target, part_of(target)?, &mut compute)
                .await?
        };
        if context.validation == FieldValidation::Ignore {
            warnings.clear();
        }
        Ok(answer.warn(warnings))
    }
}

fn apply(
    kind: PatchKind,
    gvk: &meta::GroupVersionKind,
    old: &Value,
    patch: &Value,
) -> Result<Value, Status> {
    Ok(match kind {
        PatchKind::Json => patch::json_patch(old, patch)?,
        PatchKind::Merge => patch::merge_patch(old, patch)?,
        PatchKind::Strategic => patch::strategic_merge_patch(gvk, old, patch)?,
        PatchKind::Apply => return Err(Status::internal("an apply is no patch in this sense")),
    })
}

/// A patch may change much, but not which object it is.
pub(super) fn check_identity(target: &Target, patched: &Value) -> Result<(), Status> {
    let name = meta::name(patched);
    if !name.is_empty() && name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    super::create::check_namespace(target, patched)
}
