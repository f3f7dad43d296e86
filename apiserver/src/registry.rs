//! The verbs of the API over every kind: get, list, watch, create, update, patch, delete, and the subresources.
//!
//! It is generic: what a kind is comes from its descriptor and strategy, and the few kinds that need more (pods, services,
//! namespaces) have a file each. It knows neither HTTP nor gRPC, and does not authenticate or authorize; the callers do.
//! Invariant: what is written has passed, in this order, decoding, defaulting, admission, the strategy's preparation and
//! validation, and is guarded by the revision it was computed from.

mod answer;
mod apply;
mod bootstrap;
mod components;
mod context;
mod create;
mod delete;
mod errors;
mod modify;
mod names;
mod objects;
mod patch;
mod pods;
mod read;
mod scale;
mod target;
mod token;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use corten_api::status::Status;
use parking_lot::RwLock;
use serde_json::Value;

pub use answer::{Answer, Content};
pub use bootstrap::create_system_objects;
pub use context::{Context, FieldValidation};
pub use delete::DeleteOptions;
pub use patch::PatchKind;
pub use read::{List, ListOptions, RevisionMatch, WatchOptions};
pub use target::Target;

use crate::admission::Admission;
use crate::allocators::Allocators;
use crate::cache::{Caches, ResourceCache};
use crate::storage::Store;

/// Answers a create of something that is not stored: review kinds, and subresources such as `token`.
#[async_trait]
pub trait Creates: Send + Sync {
    /// The answer's object; the body has been decoded and defaulted.
    async fn create(
        &self,
        context: &Context,
        target: &Target,
        body: Value,
    ) -> Result<Value, Status>;
}

/// Group, resource and subresource (empty for the resource itself).
type CreatorKey = (&'static str, &'static str, &'static str);

/// See the module's words. Shared by REST, gRPC and the server's own tasks.
pub struct Registry {
    pub(crate) store: Store,
    pub(crate) caches: Arc<Caches>,
    pub(crate) admission: Admission,
    pub(crate) allocators: Allocators,
    creators: RwLock<HashMap<CreatorKey, Arc<dyn Creates>>>,
    authorizer: OnceLock<Arc<crate::authz::live::Live>>,
}

impl Registry {
    /// A registry over a store; `caches` must be kept running by the caller.
    pub fn new(
        store: Store,
        caches: Arc<Caches>,
        admission: Admission,
        allocators: Allocators,
    ) -> Self {
        Self {
            store,
            caches,
            admission,
            allocators,
            creators: RwLock::default(),
            authorizer: OnceLock::new(),
        }
    }

    /// Puts somebody in charge of creating what is not stored.
    pub fn answer_creates(
        &self,
        group: &'static str,
        resource: &'static str,
        subresource: &'static str,
        by: Arc<dyn Creates>,
    ) {
        self.creators
            .write()
            .insert((group, resource, subresource), by);
    }

    /// Gives admission the authorizer for its checks of node agents and of role writes. Without one only the server's
    /// own components may be let in.
    pub fn set_authorizer(&self, authorizer: Arc<crate::authz::live::Live>) {
        // A second call would be a wiring fault; the first stays in force.
        let _ = self.authorizer.set(authorizer);
    }

    pub(crate) fn authorizer(&self) -> Option<&Arc<crate::authz::live::Live>> {
        self.authorizer.get()
    }

    /// The watch caches, for readers inside the server.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    fn creator(&self, target: &Target) -> Option<Arc<dyn Creates>> {
        let key = (
            target.descriptor.group,
            target.descriptor.resource,
            target.subresource.as_str(),
        );
        let creators = self.creators.read();
        let found = creators.iter().find(|(known, _)| **known == key);
        found.map(|(_, creator)| Arc::clone(creator))
    }

    fn cache(&self, target: &Target) -> Result<&Arc<ResourceCache>, Status> {
        self.caches
            .of(target.descriptor)
            .ok_or_else(|| target.method_not_allowed("get"))
    }
}
