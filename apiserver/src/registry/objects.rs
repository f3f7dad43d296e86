//! The registry as the edge of the server uses it: a few kinds, read, followed and written under the server's own name.
//!
//! Invariant: following starts with the whole state and misses nothing after it; a follower that was cut is started over
//! with a new whole state.

use async_trait::async_trait;
use corten_api::status::Status;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Context, Registry, Target};
use crate::cache::{Delivery, EventType, Item, Selection, Watch, WatchStart};
use crate::chain::objects::{Change, Objects, Resource};
use crate::storage::Revision;

#[async_trait]
impl Objects for Registry {
    async fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let target = Target::of(resource.group, resource.name, namespace, name)?;
        self.caches.wait_for(Revision::ZERO).await?;
        let snapshot = self.cache(&target)?.snapshot();
        Ok(snapshot.get(namespace, name).map(|item| item.value()))
    }

    async fn latest(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        self.caches.wait_fresh().await?;
        Objects::get(self, resource, namespace, name).await
    }

    async fn create(
        &self,
        resource: Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let target = Target::of(resource.group, resource.name, namespace, "")?;
        let answer = Registry::create(self, &Context::internal(), &target, object).await?;
        Ok(answer.into_value())
    }

    async fn update(
        &self,
        resource: Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let name = corten_api::meta::name(&object).to_owned();
        let target = Target::of(resource.group, resource.name, namespace, &name)?;
        let answer = Registry::update(self, &Context::internal(), &target, object).await?;
        Ok(answer.into_value())
    }

    async fn update_status(
        &self,
        resource: Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let name = corten_api::meta::name(&object).to_owned();
        let target = Target {
            subresource: "status".to_owned(),
            ..Target::of(resource.group, resource.name, namespace, &name)?
        };
        let answer = Registry::update(self, &Context::internal(), &target, object).await?;
        Ok(answer.into_value())
    }

    async fn follow(&self, resource: Resource, into: mpsc::Sender<Change>) {
        let Some(cache) = self.caches.named(resource.group, resource.name) else {
            return;
        };
        loop {
            // Before the first load the caches are empty, which must not be taken for "nothing exists".
            if self.caches.wait_for(Revision::ZERO).await.is_err() {
                if into.is_closed() {
                    return;
                }
                continue;
            }
            let observed = self.caches.observed();
            let opened = Watch::open(cache, Selection::default(), WatchStart::State, observed);
            let Ok(mut watch) = opened else { continue };
            if relay(&mut watch, &into).await.is_err() {
                return;
            }
        }
    }
}

/// Passes on until the watch is cut (then `Ok`) or the reader is gone.
async fn relay(
    watch: &mut Watch,
    into: &mpsc::Sender<Change>,
) -> Result<(), mpsc::error::SendError<Change>> {
    let mut state = Vec::new();
    while let Some(delivery) = watch.next().await {
        let change = match delivery {
            Delivery::Initial(item) => {
                state.push(item.value());
                continue;
            }
            Delivery::Bookmark {
                initial_end: true, ..
            } => Change::Reset(std::mem::take(&mut state)),
            Delivery::Bookmark { .. } => continue,
            Delivery::Event(EventType::Deleted, event) => removed(event.subject()),
            Delivery::Event(_, event) => match &event.new {
                Some(item) => Change::Set(item.value()),
                None => removed(event.subject()),
            },
        };
        into.send(change).await?;
    }
    Ok(())
}

fn removed(item: &Item) -> Change {
    Change::Removed {
        namespace: item.namespace.to_string(),
        name: item.name.to_string(),
    }
}
