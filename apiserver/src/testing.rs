//! What component tests share: a real registry with real caches over an in-memory store, in one process.
//!
//! Nothing here imitates the API. Invariant: every test has a store and caches of its own, and they end with it.

use std::sync::Arc;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use serde_json::{Value, json};

use crate::admission::Admission;
use crate::allocators::{Allocators, PortRange};
use crate::cache::Caches;
use crate::crypt::Crypt;
use crate::registry::{Context, Registry, Target, create_system_objects};
use crate::rest::Api;
use crate::storage::{Endpoints, Store};

/// A registry that is ready for requests.
pub(crate) struct TestApi {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Store,
    shutdown: Shutdown,
}

impl Drop for TestApi {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl TestApi {
    /// Over a new store, with the system objects and a default account in place.
    pub(crate) async fn start() -> Self {
        Self::on(Endpoints::in_process(corten_store::memory::channel())).await
    }

    /// Over a store that may have been used before.
    pub(crate) async fn on(endpoints: Endpoints) -> Self {
        let api = Self::on_used(endpoints);
        create_system_objects(&api.registry).await.unwrap();
        api.create(
            "",
            "serviceaccounts",
            "default",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
        api
    }

    /// Over a store that holds the system objects.
    pub(crate) fn on_used(endpoints: Endpoints) -> Self {
        let crypt = Crypt::from_base64("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
        let store = Store::new(endpoints, Some(crypt));
        let caches = Caches::new(store.clone());
        let shutdown = Shutdown::new();
        spawn(
            "test-cache",
            TaskKind::Background,
            Arc::clone(&caches).run(shutdown.clone()),
        );
        let allocators = Allocators {
            service_cidr: "10.96.0.0/24".parse().unwrap(),
            node_ports: PortRange::default(),
        };
        let registry = Arc::new(Registry::new(
            store.clone(),
            caches,
            Admission::default(),
            allocators,
        ));
        Self {
            registry,
            store,
            shutdown,
        }
    }

    pub(crate) fn rest(&self) -> Api {
        Api {
            registry: Arc::clone(&self.registry),
        }
    }

    /// Creates, and expects success.
    pub(crate) async fn create(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        object: Value,
    ) -> Value {
        let target = Target::of(group, resource, namespace, "").unwrap();
        let answer = self
            .registry
            .create(&Context::internal(), &target, object)
            .await;
        answer
            .unwrap_or_else(|status| panic!("{}", status.to_json()))
            .into_value()
    }

    /// Reads, and expects success.
    pub(crate) async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Value {
        let target = Target::of(group, resource, namespace, name).unwrap();
        self.registry
            .get(&target, None)
            .await
            .unwrap_or_else(|status| panic!("{}", status.to_json()))
            .into_value()
    }
}

/// A ConfigMap.
pub(crate) fn config_map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "b"}})
}

/// A small valid pod.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}
