//! Create: from a client's object to a stored one.
//!
//! Invariant: the name is taken by the store's own guard; what was looked up before (namespace, defaults) may be stale by
//! one request, as upstream's is.

use std::sync::Arc;
use std::time::Duration;

use corten_api::field::{FieldError, FieldPath};
use corten_api::meta::{self, Uid};
use corten_api::status::Status;
use serde_json::Value;

use super::apply::{note, noted};
use super::{Answer, Context, Registry, Target, names};
use crate::admission::{Operation, Review};
use crate::allocators::{Known, Plan};
use crate::cache::Item;
use crate::storage::{Committed, Txn};

/// Names tried for one `generateName`, and numbers tried for one allocation.
const ATTEMPTS: usize = 8;

impl Registry {
    /// Creates an object, or whatever the subresource calls creating.
    pub async fn create(
        &self,
        context: &Context,
        target: &Target,
        object: Value,
    ) -> Result<Answer, Status> {
        target.require_verb("create")?;
        if let Some(creator) = self.creator(target) {
            let answer = creator.create(context, target, object).await?;
            return Ok(Answer::value(answer).created());
        }
        match (target.descriptor.resource, target.subresource.as_str()) {
            ("pods", "binding") | ("bindings", "") => self.bind(context, target, object).await,
            ("pods", "eviction") => self.evict(context, target, &object).await,
            (_, "") if !target.descriptor.is_virtual() => {
                self.create_object(context, target, object).await
            }
            (resource, "") => Err(Status::not_implemented(format!("creating {resource}"))),
            (resource, sub) => Err(Status::not_implemented(format!(
                "creating {resource}/{sub}"
            ))),
        }
    }

    pub(super) async fn create_object(
        &self,
        context: &Context,
        target: &Target,
        mut object: Value,
    ) -> Result<Answer, Status> {
        let strategy = target.descriptor.strategy;
        stamp(context, target, &mut object)?;
        strategy.default(&mut object);
        let mut target = target.named(meta::name(&object));
        let review = Review {
            context,
            target: &target,
            operation: Operation::Create,
        };
        self.admission
            .admit(self, &review, &mut object, None)
            .await?;
        strategy.prepare_for_create(&mut object);
        strategy.note_request(&mut object, None, &context.request());
        let prefix = meta::generate_name(&object).to_owned();
        let generated = target.name.is_empty() && !prefix.is_empty();
        if target.name.is_empty() && !generated {
            let path = FieldPath::new("metadata").child("name");
            let error = FieldError::required(&path, "name or generateName is required");
            return Err(Status::invalid(&target.group_kind(), "", &[error]));
        }
        let managers = context.managers.clone();
        let nothing = Value::Object(serde_json::Map::new());
        let managers = managers.unwrap_or_else(|| noted(context, &target, &nothing, &object, None));
        note(&mut object, managers);
        let mut warnings = strategy.warnings_of_new(&object);
        warnings.extend(strategy.warnings(&object));
        let review = Review {
            context,
            target: &target,
            operation: Operation::Create,
        };
        warnings.extend(self.admission.warnings(self, &review, &object, None));
        let mut charged = false;
        for _ in 0..ATTEMPTS {
            if generated {
                target.name = names::generate(&prefix);
                strategy.set_generated_name(&mut object, &target.name);
            }
            let errors = strategy.validate_create(&object);
            if !errors.is_empty() {
                return Err(Status::invalid(&target.group_kind(), &target.name, &errors));
            }
            let review = Review {
                context,
                target: &target,
                operation: Operation::Create,
            };
            self.admission
                .validate(self, &review, Some(&object), None)?;
            // Once, whatever its name will be.
            if !std::mem::replace(&mut charged, true) {
                self.admission.charge(self, &review, &object, None).await?;
            }
            match self.insert(context, &target, object.clone()).await {
                Err(status)
                    if status.is(&corten_api::status::Reason::AlreadyExists) && generated => {}
                other => return Ok(other?.created().warn(warnings)),
            }
        }
        Err(Status::generate_name_conflict(
            &target.group_resource(),
            &target.name,
        ))
    }

    /// Stores a finished object under a name that must be free.
    async fn insert(
        &self,
        context: &Context,
        target: &Target,
        object: Value,
    ) -> Result<Answer, Status> {
        let exists = || Status::already_exists(&target.group_resource(), &target.name);
        let key = target.store_key();
        for _ in 0..ATTEMPTS {
            let mut object = object.clone();
            let plan = self.plan_allocations(target, None, Some(&mut object))?;
            if context.dry_run {
                return match self.store.get(&key).await? {
                    Some(_) => Err(exists()),
                    None => Ok(Answer::value(object)),
                };
            }
            target.descriptor.strategy.encode_for_storage(&mut object);
            let txn =
                Txn::create(&key, encode(&object), time_to_live(target)).and(plan.txn.clone());
            match self.store.commit(&txn).await? {
                Committed::Applied(revision) => {
                    let descriptor = self.cache(target)?.descriptor;
                    let item = Item::from_value(descriptor, &target.key(), object, revision)?;
                    return Ok(Answer::item(Arc::new(item)));
                }
                Committed::Refused(states) => {
                    if states.first().is_some_and(Option::is_some) {
                        return Err(exists());
                    }
                    refuse_taken(target, &plan, &states[1..])?;
                }
            }
        }
        Err(Status::server_timeout(
            &target.group_resource(),
            "create",
            1,
        ))
    }

    /// What the object's numbers and addresses need in the same transaction; nothing for kinds without.
    pub(super) fn plan_allocations(
        &self,
        target: &Target,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Plan, Status> {
        let descriptor = target.descriptor;
        if !(descriptor.group.is_empty() && descriptor.resource == "services") {
            return Ok(Plan::default());
        }
        let services = self.cache(target)?.snapshot();
        let known = Known::of(&self.caches, self.allocators.service_cidr);
        let known = known.ok_or_else(|| target.method_not_allowed("create"))?;
        self.allocators
            .plan(&services, &known, &target.key(), old, new)
            .map_err(|error| Status::invalid(&target.group_kind(), &target.name, &[error]))
    }
}

/// When an allocation that the client asked for is taken, trying again cannot help.
pub(super) fn refuse_taken(
    target: &Target,
    plan: &Plan,
    states: &[Option<crate::storage::Stored>],
) -> Result<(), Status> {
    let taken = states.iter().flatten().map(|stored| stored.key.as_str());
    match plan.demanded(taken) {
        Some(error) => Err(Status::invalid(
            &target.group_kind(),
            &target.name,
            &[error],
        )),
        None => Ok(()),
    }
}

/// The bytes that are stored: without the revision, which the store itself knows.
pub(super) fn encode(object: &Value) -> bytes::Bytes {
    let encoded = serde_json::to_vec(object);
    encoded
        .expect("a tree of JSON values always encodes")
        .into()
}

pub(super) fn time_to_live(target: &Target) -> Option<Duration> {
    let seconds = target.descriptor.strategy.rules().ttl_seconds?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Gives the object its identity: type, namespace, uid and time.
fn stamp(context: &Context, target: &Target, object: &mut Value) -> Result<(), Status> {
    if !matches!(meta::resource_version(object), "" | "0") {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    check_namespace(target, object)?;
    meta::set_gvk(object, &target.gvk());
    meta::set_namespace(object, target.namespace.clone());
    meta::set_revision(object, None);
    let metadata = meta::metadata_mut(object);
    for owned in [
        "managedFields",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        metadata.shift_remove(owned);
    }
    meta::set_uid(object, &Uid::random());
    meta::set_creation_timestamp(object, context.now);
    Ok(())
}

/// The body may repeat the path's namespace, but not contradict it.
pub(super) fn check_namespace(target: &Target, object: &Value) -> Result<(), Status> {
    let given = meta::namespace(object);
    if given.is_empty() || given == target.namespace {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the namespace of the provided object does not match the namespace sent on the request ({} != {})",
        given, target.namespace
    )))
}
