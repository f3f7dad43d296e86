//! Update: one loop for PUT, PATCH, status, scale, binding and the server's own changes.
//!
//! The change is a function of the present object, so that it can be computed again when somebody else was first.
//! Invariant: a refusal that was computed from the cache is only believed when the store still has the same revision.

use std::sync::Arc;

use corten_api::kinds::ResourceDescriptor;
use corten_api::meta;
use corten_api::status::{Reason, Status};
use serde_json::Value;

use super::apply::{note, noted};
use super::create::{check_namespace, encode, refuse_taken, time_to_live};
use super::{Answer, Context, Registry, Target};
use crate::admission::{Operation, Review};
use crate::authz::{self, Attributes};
use crate::cache::Item;
use crate::storage::{Committed, Revision, Stored, Txn};

/// Rounds before the client is told to come back; each lost round means that another writer won.
const ROUNDS_MAX: usize = 50;

/// Which part of the object is written, and by whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The resource itself.
    Main,
    /// Its status.
    Status,
    /// Another subresource that reads and writes the object.
    Sub(&'a str),
    /// A change of the server's own making: no strategy, no admission.
    Own,
}

/// Who notes who owns what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notes {
    /// What changed is the writer's from now on.
    Take,
    /// The computed object has its list of managers already.
    Taken,
}

/// Computes the new object from the present one.
pub(super) type Compute<'a> = dyn FnMut(&Value) -> Result<Value, Status> + Send + 'a;

/// One round's end.
enum Round {
    Done(Answer),
    /// Nothing to write.
    Unchanged(Vec<String>),
    /// Somebody else wrote; this is there now.
    Lost(Option<Stored>),
}

impl Registry {
    /// PUT of an object or of a subresource.
    pub async fn update(
        &self,
        context: &Context,
        target: &Target,
        object: Value,
    ) -> Result<Answer, Status> {
        target.require_verb("update")?;
        if target.subresource == "scale" {
            return self.update_scale(context, target, &object).await;
        }
        check_names(target, &object)?;
        let part = part_of(target)?;
        let mut compute = |_: &Value| Ok(object.clone());
        let updated = self.modify(context, target, part, &mut compute).await;
        let creates = part == Part::Main && target.descriptor.strategy.rules().create_on_update;
        match updated {
            Err(status) if status.code() == 404 && creates && meta::uid(&object).is_empty() => {
                self.require_create(context, target)?;
                let mut object = object;
                meta::set_revision(&mut object, None);
                meta::set_name(&mut object, target.name.clone());
                self.create_object(context, target, object).await
            }
            other => other,
        }
    }

    /// A PUT was authorised as an update; that it creates is only known here.
    fn require_create(&self, context: &Context, target: &Target) -> Result<(), Status> {
        let Some(authorizer) = self.authorizer() else {
            return Ok(());
        };
        let descriptor = target.descriptor;
        let question = Attributes::resource(
            &context.user,
            "create",
            descriptor.group,
            descriptor.resource,
        );
        let question = question.in_namespace(&target.namespace).named(&target.name);
        authz::require(&**authorizer, &question)
    }

    /// A change of the server's own to an object: no rules, but under its revision.
    pub(crate) async fn change_own(
        &self,
        target: &Target,
        compute: &mut Compute<'_>,
    ) -> Result<(), Status> {
        let context = Context::internal();
        self.modify(&context, target, Part::Own, compute)
            .await
            .map(drop)
    }

    /// Changes an object until the change is stored, refused or pointless.
    pub(super) async fn modify(
        &self,
        context: &Context,
        target: &Target,
        part: Part<'_>,
        compute: &mut Compute<'_>,
    ) -> Result<Answer, Status> {
        // The server's own changes leave the managers as they are.
        let notes = match part {
            Part::Own => Notes::Taken,
            _ => Notes::Take,
        };
        self.modify_noted(context, target, part, notes, compute)
            .await
    }

    pub(super) async fn modify_noted(
        &self,
        context: &Context,
        target: &Target,
        part: Part<'_>,
        notes: Notes,
        compute: &mut Compute<'_>,
    ) -> Result<Answer, Status> {
        let (mut current, mut fresh) = self.current(target).await?;
        for _ in 0..ROUNDS_MAX {
            let round = self.round(context, target, (part, notes), &current, compute);
            let round = round.await;
            let result = match round {
                Ok(Round::Done(answer)) => return Ok(answer),
                Ok(Round::Lost(stored)) => {
                    current = self.take_in(target, stored)?;
                    fresh = true;
                    continue;
                }
                Ok(Round::Unchanged(warnings)) => {
                    Ok(Answer::item(Arc::clone(&current)).warn(warnings))
                }
                // Asking the store again would only cost the client the same patience a second time.
                Err(status) if status.is(&Reason::ServiceUnavailable) => return Err(status),
                Err(status) => Err(status),
            };
            if fresh {
                return result;
            }
            let stored = self.store.get(&target.store_key()).await?;
            if stored
                .as_ref()
                .is_some_and(|stored| stored.mod_revision == current.revision)
            {
                return result;
            }
            current = self.take_in(target, stored)?;
            fresh = true;
        }
        Err(Status::server_timeout(
            &target.group_resource(),
            "update",
            1,
        ))
    }

    /// The object from the cache, or from the store when the cache has none. The flag tells which.
    pub(super) async fn current(&self, target: &Target) -> Result<(Arc<Item>, bool), Status> {
        let cached = self.cache(target)?.snapshot();
        if let Some(item) = cached.get(&target.namespace, &target.name) {
            return Ok((Arc::clone(item), false));
        }
        let stored = self.store.get(&target.store_key()).await?;
        Ok((self.take_in(target, stored)?, true))
    }

    pub(super) fn take_in(
        &self,
        target: &Target,
        stored: Option<Stored>,
    ) -> Result<Arc<Item>, Status> {
        let stored = stored.ok_or_else(|| target.not_found())?;
        let descriptor = self.cache(target)?.descriptor;
        let item = Item::decode(
            descriptor,
            &target.key(),
            &stored.value,
            stored.mod_revision,
        )?;
        Ok(Arc::new(item))
    }

    /// What a client is told beside the answer: by the kind about the object, by admission about the request.
    fn warnings(
        &self,
        context: &Context,
        target: &Target,
        part: Part<'_>,
        (new, old): (&Value, &Value),
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        if part == Part::Main {
            warnings = target.descriptor.strategy.warnings(new);
        }
        if part != Part::Own {
            let review = Review {
                context,
                target,
                operation: Operation::Update,
            };
            warnings.extend(self.admission.warnings(self, &review, new, Some(old)));
        }
        warnings
    }

    async fn round(
        &self,
        context: &Context,
        target: &Target,
        (part, notes): (Part<'_>, Notes),
        current: &Arc<Item>,
        compute: &mut Compute<'_>,
    ) -> Result<Round, Status> {
        let strategy = target.descriptor.strategy;
        let stored_form = current.value();
        let mut old = stored_form.clone();
        strategy.decode_from_storage(&mut old);
        let mut new = compute(&old)?;
        check_revision(target, part, &new, current.revision)?;
        check_uid(target, &new, &old)?;
        meta::set_gvk(&mut new, &object_gvk(target.descriptor));
        meta::set_name(&mut new, target.name.clone());
        meta::set_namespace(&mut new, target.namespace.clone());
        let given = meta::metadata_mut(&mut new).shift_remove("managedFields");
        if part != Part::Own {
            self.apply_rules(context, target, part, &mut new, &old)
                .await?;
        }
        let managers = match notes {
            Notes::Take => noted(context, target, &old, &new, given.as_ref()),
            Notes::Taken => given.unwrap_or_default(),
        };
        note(&mut new, managers);
        let warnings = self.warnings(context, target, part, (&new, &old));
        let plan = self.plan_allocations(target, Some(&old), Some(&mut new))?;
        strategy.encode_for_storage(&mut new);
        meta::set_revision(&mut new, None);
        let mut before = stored_form;
        meta::set_revision(&mut before, None);
        if super::delete::is_released(target.descriptor, &new) {
            return self.remove_released(context, target, current, new).await;
        }
        if new == before {
            return Ok(Round::Unchanged(warnings));
        }
        if context.dry_run {
            meta::set_revision(&mut new, Some(current.revision));
            strategy.decode_from_storage(&mut new);
            return Ok(Round::Done(Answer::value(new).warn(warnings)));
        }
        let key = target.store_key();
        let txn = Txn::update(&key, encode(&new), current.revision, time_to_live(target))
            .and(plan.txn.clone());
        match self.store.commit(&txn).await? {
            Committed::Applied(revision) => {
                let descriptor = self.cache(target)?.descriptor;
                let item = Item::from_value(descriptor, &target.key(), new, revision)?;
                Ok(Round::Done(Answer::item(Arc::new(item)).warn(warnings)))
            }
            Committed::Refused(mut states) => {
                let present = states.swap_remove(0);
                if present
                    .as_ref()
                    .is_some_and(|stored| stored.mod_revision == current.revision)
                {
                    refuse_taken(target, &plan, &states)?;
                }
                Ok(Round::Lost(present))
            }
        }
    }

    /// Defaults, admission, preparation and validation of the part that is written.
    async fn apply_rules(
        &self,
        context: &Context,
        target: &Target,
        part: Part<'_>,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let strategy = target.descriptor.strategy;
        strategy.default(new);
        let review = Review {
            context,
            target,
            operation: Operation::Update,
        };
        self.admission.admit(self, &review, new, Some(old)).await?;
        match part {
            Part::Status => strategy.prepare_for_status_update(new, old),
            Part::Sub(sub) => strategy.prepare_for_subresource_update(sub, new, old),
            Part::Main | Part::Own => strategy.prepare_for_update(new, old),
        }
        strategy.note_request(new, Some(old), &context.request());
        let errors = match part {
            Part::Status => strategy.validate_status_update(new, old),
            Part::Sub(sub) => strategy.validate_subresource_update(sub, new, old),
            Part::Main | Part::Own => strategy.validate_update(new, old),
        };
        if !errors.is_empty() {
            return Err(Status::invalid(&target.group_kind(), &target.name, &errors));
        }
        self.admission
            .validate(self, &review, Some(new), Some(old))?;
        // A subresource can make an object use more as well: what is charged, admission knows.
        if part != Part::Status {
            self.admission.charge(self, &review, new, Some(old)).await?;
        }
        Ok(())
    }

    /// The update took away the last thing that held a deleted object.
    async fn remove_released(
        &self,
        context: &Context,
        target: &Target,
        current: &Arc<Item>,
        last: Value,
    ) -> Result<Round, Status> {
        if !context.dry_run {
            let plan = self.plan_allocations(target, Some(&last), None)?;
            let txn = Txn::delete(&target.store_key(), current.revision).and(plan.txn);
            if let Committed::Refused(mut states) = self.store.commit(&txn).await? {
                return Ok(Round::Lost(states.swap_remove(0)));
            }
        }
        let descriptor = self.cache(target)?.descriptor;
        let item = Item::from_value(descriptor, &target.key(), last, current.revision)?;
        Ok(Round::Done(Answer::item(Arc::new(item))))
    }
}

/// Which rules apply to the addressed path.
pub(super) fn part_of(target: &Target) -> Result<Part<'_>, Status> {
    match (target.subresource.as_str(), target.sub()) {
        ("", _) => Ok(Part::Main),
        ("status", _) => Ok(Part::Status),
        (name, Some(sub)) if sub.kind == target.descriptor.kind => Ok(Part::Sub(name)),
        (name, _) => Err(Status::not_implemented(format!(
            "writing {}/{name}",
            target.descriptor.resource
        ))),
    }
}

pub(super) fn object_gvk(descriptor: &'static ResourceDescriptor) -> meta::GroupVersionKind {
    meta::GroupVersionKind::from_static(descriptor.group, descriptor.version, descriptor.kind)
}

fn check_names(target: &Target, object: &Value) -> Result<(), Status> {
    check_namespace(target, object)?;
    let name = meta::name(object);
    if name.is_empty() {
        return Err(Status::bad_request("name must be provided"));
    }
    if name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

fn check_revision(
    target: &Target,
    part: Part<'_>,
    new: &Value,
    current: Revision,
) -> Result<(), Status> {
    let given = meta::resource_version(new);
    if matches!(given, "" | "0") {
        let unconditional = target.descriptor.strategy.rules().unconditional_update;
        if part != Part::Main || unconditional {
            return Ok(());
        }
        let path = corten_api::field::FieldPath::new("metadata").child("resourceVersion");
        let error =
            corten_api::field::FieldError::invalid(&path, 0, "must be specified for an update");
        return Err(Status::invalid(
            &target.group_kind(),
            &target.name,
            &[error],
        ));
    }
    match Revision::parse(given) {
        Ok(revision) if revision == current => Ok(()),
        Ok(_) => Err(Status::modified(&target.group_resource(), &target.name)),
        Err(error) => Err(Status::bad_request(format!(
            "metadata.resourceVersion: {error}"
        ))),
    }
}

fn check_uid(target: &Target, new: &Value, old: &Value) -> Result<(), Status> {
    let (wanted, found) = (meta::uid(new), meta::uid(old));
    if wanted.is_empty() || wanted == found {
        return Ok(());
    }
    Err(Status::precondition_failed(
        &target.group_resource(),
        &target.name,
        "uid",
        wanted,
        found,
    ))
}
