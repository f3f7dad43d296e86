//! Objects in a map, for tests of what stands on the seam. It neither validates nor notifies.

use std::collections::HashMap;

use async_trait::async_trait;
use corten_api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Change, Objects, Resource};

type Key = (Resource, String, String);

/// Counts its writes.
#[derive(Default)]
pub(crate) struct Fake {
    objects: Mutex<HashMap<Key, Value>>,
    writes: Mutex<usize>,
    /// What `get` still shows of an object, until somebody asks for the latest.
    behind: Mutex<HashMap<Key, Option<Value>>>,
}

impl Fake {
    pub(crate) fn with(objects: &[(Resource, Value)]) -> std::sync::Arc<Self> {
        let fake = Self::default();
        for (resource, object) in objects {
            fake.put(*resource, object.clone());
        }
        std::sync::Arc::new(fake)
    }

    pub(crate) fn put(&self, resource: Resource, object: Value) {
        let field = |name: &str| {
            object["metadata"][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let key = (resource, field("namespace"), field("name"));
        self.objects.lock().insert(key, object);
    }

    pub(crate) fn remove(&self, resource: Resource, namespace: &str, name: &str) {
        self.objects
            .lock()
            .remove(&(resource, namespace.to_owned(), name.to_owned()));
    }

    /// Makes `get` show an earlier state of the object, or none.
    pub(crate) fn lag(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        stale: Option<Value>,
    ) {
        let key = (resource, namespace.to_owned(), name.to_owned());
        self.behind.lock().insert(key, stale);
    }

    pub(crate) fn all(&self, resource: Resource) -> Vec<Value> {
        let objects = self.objects.lock();
        objects
            .iter()
            .filter(|((of, ..), _)| *of == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub(crate) fn writes(&self) -> usize {
        *self.writes.lock()
    }
}

#[async_trait]
impl Objects for Fake {
    async fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let key = (resource, namespace.to_owned(), name.to_owned());
        if let Some(stale) = self.behind.lock().get(&key) {
            return Ok(stale.clone());
        }
        Ok(self.objects.lock().get(&key).cloned())
    }

    /// What the fake's `get` was told to hide, it shows here, as a cache that has caught up does.
    async fn latest(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        self.behind.lock().clear();
        self.get(resource, namespace, name).await
    }

    async fn create(
        &self,
        resource: Resource,
        _namespace: &str,
        object: Value,
    ) -> Result<Value, Status> {
        *self.writes.lock() += 1;
        self.put(resource, object.clone());
        Ok(object)
    }

    async fn update(
        &self,
        resource: Resource,
        _namespace: &str,
        object: Value,
    ) -> Result<Value, Status> {
        *self.writes.lock() += 1;
        self.put(resource, object.clone());
        Ok(object)
    }

    async fn update_status(
        &self,
        resource: Resource,
        namespace: &str,
        object: Value,
    ) -> Result<Value, Status> {
        self.update(resource, namespace, object).await
    }

    async fn follow(&self, resource: Resource, into: mpsc::Sender<Change>) {
        drop(into.send(Change::Reset(self.all(resource))).await);
        into.closed().await;
    }
}
