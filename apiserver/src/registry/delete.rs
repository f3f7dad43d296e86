//! Delete: at once, gracefully, or held by finalizers.
//!
//! What happens is decided by a function of object, options and time; the loop around it carries it out. Invariant: an
//! object leaves the store only when nothing holds it: no finalizer, no grace period that still runs.

use std::sync::Arc;

use corten_api::field::{FieldError, FieldPath};
use corten_api::kinds::{GracefulDelete, ResourceDescriptor};
use corten_api::meta;
use corten_api::status::{Details, Status};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::create::{encode, time_to_live};
use super::{Answer, Context, List, ListOptions, Registry, Target};
use crate::admission::{Operation, Review};
use crate::cache::Item;
use crate::storage::{Committed, Txn};

/// Objects of a collection that are deleted at the same time.
const CONCURRENT_MAX: usize = 16;
/// See `modify`.
const ROUNDS_MAX: usize = 50;

/// What becomes of the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// metav1.DeleteOptions.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads the wire form; null and an empty object mean the defaults.
    pub fn from_json(body: &Value) -> Result<Self, Status> {
        let kind = body["kind"].as_str().unwrap_or("DeleteOptions");
        if kind != "DeleteOptions" {
            return Err(Status::bad_request(format!(
                "the body of a delete must be DeleteOptions, not {kind}"
            )));
        }
        let text = |value: &Value| {
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let orphan = body["orphanDependents"].as_bool();
        let policy = body["propagationPolicy"].as_str();
        if orphan.is_some() && policy.is_some() {
            return Err(invalid(FieldError::invalid(
                &FieldPath::new("propagationPolicy"),
                policy.unwrap_or(""),
                "orphanDependents and deletionPropagation cannot be both set",
            )));
        }
        let propagation = match (policy, orphan) {
            (Some(policy), _) => Some(Self::policy(policy)?),
            (None, Some(true)) => Some(Propagation::Orphan),
            (None, Some(false)) => Some(Propagation::Background),
            (None, None) => None,
        };
        let dry_run = body["dryRun"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
        Ok(Self {
            // Negative periods were allowed once and mean "soon".
            grace_period_seconds: body["gracePeriodSeconds"]
                .as_i64()
                .map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            dry_run,
        })
    }

    /// Reads a propagation policy.
    pub fn policy(text: &str) -> Result<Propagation, Status> {
        match text {
            "Background" => Ok(Propagation::Background),
            "Foreground" => Ok(Propagation::Foreground),
            "Orphan" => Ok(Propagation::Orphan),
            other => Err(invalid(FieldError::not_supported(
                &FieldPath::new("propagationPolicy"),
                other,
                ["Foreground", "Background", "Orphan"],
            ))),
        }
    }
}

fn invalid(error: FieldError) -> Status {
    let kind = meta::GroupKind::new("meta.k8s.io", "DeleteOptions");
    Status::invalid(&kind, "", &[error])
}

/// What is to be done with the object.
#[derive(Debug, PartialEq)]
enum Fate {
    /// Nothing holds it.
    Remove,
    /// It is marked, and waits for its finalizers or its grace period.
    Mark(Value),
    /// It is already waiting.
    Pending,
}

impl Registry {
    /// Deletes one object.
    pub async fn delete(
        &self,
        context: &Context,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Answer, Status> {
        let answer = self.delete_object(context, target, options).await?;
        let warning = target.descriptor.strategy.deletion_warning();
        // Who said what shall become of the dependents knows.
        let warning = warning.filter(|_| options.propagation.is_none());
        Ok(answer.warn(warning.map(str::to_owned).into_iter().collect()))
    }

    async fn delete_object(
        &self,
        context: &Context,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Answer, Status> {
        target.require_verb("delete")?;
        let (mut current, mut fresh) = self.current(target).await?;
        for _ in 0..ROUNDS_MAX {
            let old = current.value();
            let checked = self.check_delete(context, target, options, &old, &current);
            if let Err(status) = checked {
                if fresh {
                    return Err(status);
                }
                current = self.take_in(target, self.store.get(&target.store_key()).await?)?;
                fresh = true;
                continue;
            }
            let fate = fate(target.descriptor, &old, options, context.now);
            if context.dry_run || options.dry_run {
                return Ok(dry(target, &current, fate));
            }
            let key = target.store_key();
            let (txn, marked) = match fate {
                Fate::Pending if fresh => return Ok(Answer::item(current)),
                Fate::Pending => {
                    current = self.take_in(target, self.store.get(&key).await?)?;
                    fresh = true;
                    continue;
                }
                Fate::Remove => {
                    let plan = self.plan_allocations(target, Some(&old), None)?;
                    (Txn::delete(&key, current.revision).and(plan.txn), None)
                }
                Fate::Mark(mut new) => {
                    meta::set_revision(&mut new, None);
                    let ttl = time_to_live(target);
                    (
                        Txn::update(&key, encode(&new), current.revision, ttl),
                        Some(new),
                    )
                }
            };
            match (self.store.commit(&txn).await?, marked) {
                (Committed::Applied(_), None) => return Ok(removed(target, &current)),
                (Committed::Applied(revision), Some(new)) => {
                    let descriptor = self.cache(target)?.descriptor;
                    let item = Item::from_value(descriptor, &target.key(), new, revision)?;
                    return Ok(Answer::item(Arc::new(item)));
                }
                (Committed::Refused(mut states), _) => {
                    current = self.take_in(target, states.swap_remove(0))?;
                    fresh = true;
                }
            }
        }
        Err(Status::server_timeout(
            &target.group_resource(),
            "delete",
            1,
        ))
    }

    /// Deletes every selected object, and answers with what they were.
    pub async fn delete_collection(
        &self,
        context: &Context,
        target: &Target,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, Status> {
        target.require_verb("deletecollection")?;
        let found = self.list(target, list).await?;
        let deletions = found.items.iter().map(|item| {
            let one = Target {
                namespace: item.namespace.to_string(),
                ..target.named(&item.name)
            };
            let deletion = async move {
                match self.delete(context, &one, options).await {
                    // Somebody else was faster.
                    Err(status) if status.code() == 404 => Ok(()),
                    other => other.map(|_| ()),
                }
            };
            // Boxed, so that the compiler need not prove anything about the borrowed futures' names.
            Box::pin(deletion) as BoxFuture<'_, Result<(), Status>>
        });
        let deletions: Vec<_> = deletions.collect();
        futures::stream::iter(deletions)
            .buffer_unordered(CONCURRENT_MAX)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(found)
    }

    fn check_delete(
        &self,
        context: &Context,
        target: &Target,
        options: &DeleteOptions,
        old: &Value,
        current: &Item,
    ) -> Result<(), Status> {
        let failed = |field: &str, wanted: &str, found: &str| {
            Err(Status::precondition_failed(
                &target.group_resource(),
                &target.name,
                field,
                wanted,
                found,
            ))
        };
        if let Some(uid) = &options.uid
            && uid != meta::uid(old)
        {
            return failed("uid", uid, meta::uid(old));
        }
        let revision = current.revision.to_string();
        if let Some(wanted) = &options.resource_version
            && *wanted != revision
        {
            return failed("resourceVersion", wanted, &revision);
        }
        let review = Review {
            context,
            target,
            operation: Operation::Delete,
        };
        self.admission.validate(self, &review, None, Some(old))
    }
}

/// Whether a deleted object has nothing left that holds it.
pub(super) fn is_released(descriptor: &ResourceDescriptor, object: &Value) -> bool {
    meta::is_deleting(object)
        && !is_held(descriptor, object)
        && meta::deletion_grace_seconds(object).is_none_or(|seconds| seconds == 0)
}

/// Finalizers hold an object; a namespace's content holds it too, by a list of its own.
fn is_held(descriptor: &ResourceDescriptor, object: &Value) -> bool {
    let content = is_namespace(descriptor)
        && object["spec"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
    content || !meta::finalizers(object).is_empty()
}

fn is_namespace(descriptor: &ResourceDescriptor) -> bool {
    descriptor.group.is_empty() && descriptor.resource == "namespaces"
}

fn fate(
    descriptor: &ResourceDescriptor,
    old: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Fate {
    let mut new = old.clone();
    let graceful = descriptor
        .strategy
        .graceful_delete(old, options.grace_period_seconds);
    if meta::is_deleting(old) && graceful == GracefulDelete::Immediate {
        // Nothing runs down: a client may still change its mind about the dependents.
        set_propagation(&mut new, options.propagation);
        return match new {
            new if !is_held(descriptor, &new) => Fate::Remove,
            new if new != *old => Fate::Mark(new),
            _ => Fate::Pending,
        };
    }
    if meta::is_deleting(old) {
        // A running deletion can only be hastened.
        let Some(running) = meta::deletion_grace_seconds(old) else {
            return if is_held(descriptor, old) {
                Fate::Pending
            } else {
                Fate::Remove
            };
        };
        let Some(wanted) = options
            .grace_period_seconds
            .filter(|wanted| *wanted < running)
        else {
            return if is_released(descriptor, old) {
                Fate::Remove
            } else {
                Fate::Pending
            };
        };
        let end = meta::parse_time(meta::deletion_timestamp(old)).unwrap_or(now);
        meta::set_deletion(
            &mut new,
            end - SignedDuration::from_secs(running - wanted),
            wanted,
        );
        return if is_released(descriptor, &new) {
            Fate::Remove
        } else {
            Fate::Mark(new)
        };
    }
    let wanted = options
        .propagation
        .or_else(|| default_propagation(descriptor, old));
    set_propagation(&mut new, wanted);
    let grace = match graceful {
        GracefulDelete::Immediate => 0,
        GracefulDelete::After { seconds } => seconds,
    };
    meta::set_deletion(&mut new, now + SignedDuration::from_secs(grace), grace);
    if is_released(descriptor, &new) {
        return Fate::Remove;
    }
    if meta::generation(old) > 0 {
        meta::set_generation(&mut new, meta::generation(old) + 1);
    }
    if is_namespace(descriptor) {
        new["status"]["phase"] = Value::from("Terminating");
    }
    Fate::Mark(new)
}

/// Kinds older than the garbage collector leave their dependents alone, unless the object's finalizers say otherwise.
fn default_propagation(descriptor: &ResourceDescriptor, object: &Value) -> Option<Propagation> {
    let decided = meta::has_finalizer(object, meta::FINALIZER_ORPHAN)
        || meta::has_finalizer(object, meta::FINALIZER_FOREGROUND);
    (descriptor.strategy.orphans_by_default() && !decided).then_some(Propagation::Orphan)
}

/// The garbage collector is told by finalizers what the client wants for the dependents.
fn set_propagation(object: &mut Value, wanted: Option<Propagation>) {
    let Some(wanted) = wanted else { return };
    for (finalizer, policy) in [
        (meta::FINALIZER_ORPHAN, Propagation::Orphan),
        (meta::FINALIZER_FOREGROUND, Propagation::Foreground),
    ] {
        if wanted == policy {
            meta::add_finalizer(object, finalizer);
        } else {
            meta::remove_finalizer(object, finalizer);
        }
    }
}

fn removed(target: &Target, item: &Arc<Item>) -> Answer {
    if target.descriptor.answers_deleted() {
        return Answer::item(Arc::clone(item));
    }
    Answer::status(Status::success(Some(Details {
        name: target.name.clone(),
        group: target.descriptor.group.to_owned(),
        kind: target.descriptor.resource.to_owned(),
        uid: item.uid.to_string(),
        ..Details::default()
    })))
}

fn dry(target: &Target, current: &Arc<Item>, fate: Fate) -> Answer {
    match fate {
        Fate::Remove => removed(target, current),
        Fate::Mark(new) => Answer::value(new),
        Fate::Pending => Answer::item(Arc::clone(current)),
    }
}

#[cfg(test)]
mod tests;
