//! What the outside of the pipeline needs of the registry, as one small seam.
//!
//! Authentication, authorization, streaming and bootstrap read and follow a few kinds; nothing here knows how they are
//! stored. Invariant: `follow` misses no change, it may only repeat some.

#[cfg(test)]
pub(crate) mod fake;

use async_trait::async_trait;
use corten_api::status::Status;
use serde_json::Value;
use tokio::sync::mpsc;

/// A resource by group and plural name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    /// Plural name.
    pub name: &'static str,
}

impl Resource {
    /// A resource of the core group.
    pub const fn core(name: &'static str) -> Self {
        Self { group: "", name }
    }

    /// A resource of RBAC.
    pub const fn rbac(name: &'static str) -> Self {
        Self {
            group: "rbac.authorization.k8s.io",
            name,
        }
    }
}

/// A step of following a resource.
#[derive(Debug, Clone)]
pub enum Change {
    /// Everything that exists now; what is not in it is gone.
    Reset(Vec<Value>),
    /// A new or changed object.
    Set(Value),
    /// A deleted object.
    Removed {
        /// Empty for cluster-wide objects.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Changes that wait for their reader; the writer waits when it is full.
pub const FOLLOW_QUEUE: usize = 1024;

/// The registry, seen from the edge. All calls act with the server's own identity.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// One object from the cache, `None` when there is none.
    async fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status>;
    /// One object as new as everything that was acknowledged before the call: for answers that a stale cache would make
    /// wrong for what was just created.
    async fn latest(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status>;
    /// Creates an object.
    async fn create(
        &self,
        resource: Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status>;
    /// Updates an object; its resourceVersion is checked.
    async fn update(
        &self,
        resource: Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status>;
    /// Updates an object's status and nothing else of it; its resourceVersion is checked.
    async fn update_status(
        &self,
        resource: Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status>;
    /// Sends the present state and then every change into the queue, until its reader is gone.
    async fn follow(&self, resource: Resource, into: mpsc::Sender<Change>);
}
