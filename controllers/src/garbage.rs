//! Garbage: carries out what owner references ask for. Watches the metadata of every stored kind that can be deleted;
//! deletes dependents whose owners are all gone, drops references that dangle, and works off the finalizers
//! `foregroundDeletion` and `orphan`.
//!
//! ```text
//!  metadata caches ──▶ graph (owners, dependents by uid) ──▶ verdict (pure) ──▶ one write, with preconditions
//!                          └── an owner that no cache shows: a live GET decides
//! ```
//!
//! Invariant: nothing is deleted on a cache's word that its owner is absent, and every delete and patch names the uid, a
//! delete by absence the revision too. Owners of unknown kinds count as present.

mod graph;
mod verdict;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use corten_client::client::{DeleteOptions, Patch, Propagation};
use corten_client::{Client, Error, PartialObject, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use graph::{BY_OWNER, Graph, Node, owners_of, strip};
use verdict::{Owner, Verdict};

use crate::worker::{Step, Work};

/// Held by an owner whose dependents go first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Held by an owner whose dependents stay.
pub(crate) const ORPHAN: &str = "orphan";

/// Owners, by place and uid, that the server said are gone. Bounded: beyond it the memory starts anew, at the price of some GETs.
const ABSENT_MAX: usize = 16_384;
/// How long the caches may need to show dependents that were made before their owner was deleted.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The collector.
pub struct Garbage {
    client: Client,
    graph: Graph,
    /// See [`ABSENT_MAX`].
    absent: Mutex<HashSet<(Node, String)>>,
}

impl Garbage {
    /// A collector over these caches.
    pub fn new(client: Client, graph: Graph) -> Self {
        Self {
            client,
            graph,
            absent: Mutex::default(),
        }
    }
}

impl Work for Garbage {
    type Key = Node;

    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }

    async fn step(&self, node: Node) -> Result<Step> {
        let Some(object) = self.graph.get(&node) else {
            return Ok(Step::Done);
        };
        if object.metadata.deletion_timestamp.is_some() {
            if has(&object.metadata, ORPHAN) {
                return self.orphan(&node, &object).await;
            }
            if has(&object.metadata, FOREGROUND) {
                return self.foreground(&node, &object).await;
            }
            return Ok(Step::Done);
        }
        self.dependent(&node, &object).await
    }
}

impl Garbage {
    /// An object that is not being deleted: do its owners still hold it?
    async fn dependent(&self, node: &Node, object: &PartialObject) -> Result<Step> {
        let references = object.metadata.owner_references.clone().unwrap_or_default();
        let mut owners = Vec::with_capacity(references.len());
        for reference in &references {
            owners.push(self.owner(node, reference).await?);
        }
        let dependents = self.graph.dependents(object);
        match verdict::of(&object.metadata, &owners, !dependents.is_empty()) {
            Verdict::Keep => Ok(Step::Done),
            Verdict::KeepOnly(kept) => {
                tracing::debug!(%node, "drops references to absent owners");
                self.patch_owners(node, &object.metadata, &kept, true)
                    .await?;
                Ok(Step::Done)
            }
            Verdict::Delete(propagation) => {
                if propagation == Propagation::Foreground {
                    self.break_cycles(object, &dependents).await?;
                }
                self.delete(node, &object.metadata, propagation).await
            }
        }
    }

    /// Whether an owner is there, asked of the caches first and of the server before anyone is harmed.
    async fn owner(&self, node: &Node, reference: &OwnerReference) -> Result<Owner> {
        let Some(owner) = self.graph.owner(node, reference) else {
            return Ok(Owner::Present); // a kind that nobody here knows, or out of reach: never a reason to delete
        };
        if let Some(held) = self
            .graph
            .get(&owner)
            .filter(|held| held.metadata.uid.as_deref() == Some(&reference.uid))
        {
            return Ok(state(&held.metadata));
        }
        let known = (owner.clone(), reference.uid.clone());
        if self.absent.lock().contains(&known) {
            return Ok(Owner::Absent);
        }
        match self.client.get_raw(&self.graph.target(&owner)).await {
            Ok(json) => {
                let live: PartialObject =
                    serde_json::from_slice(&json).map_err(|error| Error::Decode {
                        what: owner.to_string(),
                        reason: error.to_string(),
                    })?;
                if live.metadata.uid.as_deref() == Some(&reference.uid) {
                    return Ok(state(&live.metadata));
                }
            }
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let mut absent = self.absent.lock();
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(known);
        Ok(Owner::Absent)
    }

    /// Foreground: the dependents are woken by this owner's deletion and go; it goes when none is left that blocks it.
    async fn foreground(&self, node: &Node, object: &PartialObject) -> Result<Step> {
        self.graph.catch_up(&object.metadata, CATCH_UP).await;
        let dependents = self.graph.dependents(object);
        let blocks = |dependent: &(Node, Arc<PartialObject>)| {
            let mut references = dependent.1.metadata.owner_references.iter().flatten();
            references.any(|r| {
                Some(&r.uid) == object.metadata.uid.as_ref() && r.block_owner_deletion == Some(true)
            })
        };
        if dependents.iter().any(blocks) {
            return Ok(Step::Done); // their going wakes us
        }
        self.drop_finalizer(node, FOREGROUND).await?;
        Ok(Step::Done)
    }

    /// Orphan: the dependents lose this owner, then it may go.
    async fn orphan(&self, node: &Node, object: &PartialObject) -> Result<Step> {
        self.graph.catch_up(&object.metadata, CATCH_UP).await;
        for (dependent, held) in self.graph.dependents(object) {
            let all = held.metadata.owner_references.iter().flatten();
            let kept: Vec<OwnerReference> = all
                .filter(|r| Some(&r.uid) != object.metadata.uid.as_ref())
                .cloned()
                .collect();
            self.patch_owners(&dependent, &held.metadata, &kept, true)
                .await?;
        }
        self.drop_finalizer(node, ORPHAN).await?;
        Ok(Step::Done)
    }

    /// Dependents that are deleted in the foreground themselves would wait for this object, and it for them.
    async fn break_cycles(
        &self,
        object: &PartialObject,
        dependents: &[(Node, Arc<PartialObject>)],
    ) -> Result<()> {
        let waits = |held: &PartialObject| {
            held.metadata.deletion_timestamp.is_some() && has(&held.metadata, FOREGROUND)
        };
        if !dependents.iter().any(|(_, held)| waits(held)) {
            return Ok(());
        }
        // The cycle may lead over many: whichever owner it leads through must not wait for this object.
        if let (Some(own), Some(references)) = (
            self.graph.node_of(object),
            verdict::unblocked(&object.metadata),
        ) {
            tracing::debug!(%own, "unblocks a cycle of owners");
            self.patch_owners(&own, &object.metadata, &references, false)
                .await?;
        }
        Ok(())
    }

    async fn patch_owners(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        kept: &[OwnerReference],
        exact: bool,
    ) -> Result<()> {
        let references = if kept.is_empty() {
            Value::Null
        } else {
            json!(kept)
        };
        let mut patch = json!({"metadata": {"uid": meta.uid, "ownerReferences": references}});
        if exact {
            patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
        }
        match self
            .client
            .patch_raw(&self.graph.target(node), &Patch::Merge(patch))
            .await
        {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete(
        &self,
        node: &Node,
        meta: &ObjectMeta,
        propagation: Propagation,
    ) -> Result<Step> {
        tracing::debug!(%node, ?propagation, "deletes, its owners are gone");
        let options = DeleteOptions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        match self
            .client
            .delete_raw(&self.graph.target(node), &options)
            .await
        {
            Ok(_) | Err(Error::NotFound(_)) => Ok(Step::Done),
            // It changed since the cache saw it, maybe its owners did: judge it anew.
            Err(Error::Conflict(_)) => Ok(Step::Again),
            Err(error) => Err(error),
        }
    }

    /// Takes our finalizer off, from the live object: a list cannot be patched by element.
    async fn drop_finalizer(&self, node: &Node, finalizer: &str) -> Result<()> {
        let target = self.graph.target(node);
        let live: PartialObject = match self.client.get_raw(&target).await {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| Error::Decode {
                what: node.to_string(),
                reason: error.to_string(),
            })?,
            Err(Error::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let meta = &live.metadata;
        if meta.deletion_timestamp.is_none() || !has(meta, finalizer) {
            return Ok(());
        }
        let kept: Vec<&String> = meta
            .finalizers
            .iter()
            .flatten()
            .filter(|name| *name != finalizer)
            .collect();
        let patch = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": kept}});
        match self.client.patch_raw(&target, &Patch::Merge(patch)).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn has(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers
        .iter()
        .flatten()
        .any(|name| name == finalizer)
}

fn state(owner: &ObjectMeta) -> Owner {
    if owner.deletion_timestamp.is_some() && has(owner, FOREGROUND) {
        Owner::Waiting
    } else {
        Owner::Present
    }
}

#[cfg(test)]
mod tests;
