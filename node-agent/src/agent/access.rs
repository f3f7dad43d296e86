//! The server's window on the pods of this node.

use std::sync::Arc;

use async_trait::async_trait;

use super::Workers;
use crate::context::NodeContext;
use crate::runtime::{Container, RuntimeError};
use crate::traits::{
    AccessError, ContainerStats, PodAccess, PodView, StreamRequest, StreamSession,
};
use crate::worker::container_of;

pub(super) struct Access {
    pub(super) context: Arc<NodeContext>,
    pub(super) workers: Workers,
}

impl Access {
    fn container(&self, id: &str) -> Result<Container, AccessError> {
        for pod in self.views() {
            if let Some(found) = pod.containers.iter().find(|container| container.id == id) {
                let attempt = u32::try_from(found.restart_count).unwrap_or(0);
                let uid = &pod.pod_ref.uid;
                return Ok(container_of(
                    &self.context.pod_dir(uid),
                    uid,
                    &found.name,
                    attempt,
                ));
            }
        }
        Err(AccessError::ContainerNotFound(id.to_owned()))
    }

    fn views(&self) -> Vec<Arc<PodView>> {
        self.workers
            .read()
            .values()
            .filter_map(super::WorkerHandle::view)
            .collect()
    }
}

fn access_error(error: RuntimeError) -> AccessError {
    match error {
        RuntimeError::NotRunning(id) => AccessError::NotRunning(id),
        other => AccessError::Runtime(other.to_string()),
    }
}

#[async_trait]
impl PodAccess for Access {
    fn pods(&self) -> Vec<PodView> {
        self.views()
            .into_iter()
            .map(|view| (*view).clone())
            .collect()
    }

    fn find(&self, namespace: &str, name: &str) -> Option<PodView> {
        let found = self
            .views()
            .into_iter()
            .filter(|view| view.pod_ref.namespace == namespace && view.pod_ref.name == name);
        // The same name twice means that the older one is still stopping.
        found
            .max_by_key(|view| view.pod.metadata.creation_timestamp.clone())
            .map(|v| (*v).clone())
    }

    async fn exec(
        &self,
        container_id: &str,
        command: &[String],
        request: &StreamRequest,
    ) -> Result<StreamSession, AccessError> {
        let container = self.container(container_id)?;
        self.context
            .runtime
            .exec_stream(&container, command, request)
            .await
            .map_err(access_error)
    }

    async fn attach(
        &self,
        container_id: &str,
        request: &StreamRequest,
    ) -> Result<StreamSession, AccessError> {
        let container = self.container(container_id)?;
        self.context
            .runtime
            .attach(&container, request)
            .await
            .map_err(access_error)
    }

    async fn stats(&self, container_id: &str) -> Result<ContainerStats, AccessError> {
        Ok(self.context.runtime.stats(&self.container(container_id)?))
    }
}
