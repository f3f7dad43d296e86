//! The Node object: registered once, its status kept true, its lease renewed. Nothing about pods is decided here.

mod lease;
mod object;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_client::client::Patch;
use corten_client::{Client, Error};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::json;
use tokio::sync::watch;

use crate::host::Capacity;
use crate::pressure::Pressures;
use crate::traits::{ImageService, PodNetwork};

pub use object::taints;

/// The status is looked at this often, and written when it changed.
const CHECK: Duration = Duration::from_secs(10);
/// It is written at least this often.
const REPORT: Duration = Duration::from_secs(300);

/// What the Node object is made of.
pub struct NodeKeeper {
    pub client: Client,
    pub name: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub taints: Vec<k8s_openapi::api::core::v1::Taint>,
    pub addresses: Vec<IpAddr>,
    /// Port of the HTTPS server.
    pub port: u16,
    pub capacity: Capacity,
    pub allocatable: Capacity,
    /// What the node is short of.
    pub pressures: watch::Receiver<Pressures>,
    pub runtime: String,
    pub handlers: Vec<String>,
    pub images: Arc<dyn ImageService>,
    pub network: Arc<dyn PodNetwork>,
    /// Told the Node object as the API has it.
    pub seen: watch::Sender<Option<Arc<Node>>>,
}

impl NodeKeeper {
    /// Registers, then keeps the object and the lease until `shutdown`.
    pub async fn run(self, shutdown: Shutdown) {
        let mut pause = Duration::from_millis(200);
        let node = loop {
            match self.register().await {
                Ok(node) => break node,
                Err(error) => tracing::warn!(%error, "the node could not be registered yet"),
            }
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            }
        };
        tracing::info!(node = self.name, "node registered");
        let uid = node.metadata.uid.clone().unwrap_or_default();
        self.seen.send_replace(Some(Arc::new(node)));
        tokio::join!(
            self.keep_status(shutdown.clone()),
            lease::keep(&self.client, &self.name, &uid, shutdown.clone()),
        );
    }

    /// Creates the Node, or brings the labels of an existing one up to date. Foreign labels and taints stay.
    async fn register(&self) -> Result<Node, Error> {
        let wanted = object::node(self);
        match self.client.create(&wanted).await {
            Ok(node) => Ok(node),
            Err(error) if error.is_already_exists() => {
                let patch = json!({"metadata": {"labels": wanted.metadata.labels}});
                self.client
                    .patch("", &self.name, &Patch::Strategic(patch))
                    .await
            }
            Err(error) => Err(error),
        }
    }

    async fn keep_status(&self, shutdown: Shutdown) {
        let mut pressures = self.pressures.clone();
        let mut written: Option<(NodeStatus, tokio::time::Instant)> = None;
        loop {
            let now = jiff::Timestamp::now();
            let images = self.images.list().await.unwrap_or_default();
            let shown = self.seen.borrow().clone();
            let old = shown
                .as_ref()
                .and_then(|node| node.status.clone())
                .unwrap_or_default();
            let status = object::status(self, &old, &images, now);
            let due = object::is_contradicted(&old, &status)
                || written.as_ref().is_none_or(|(last, at)| {
                    at.elapsed() >= REPORT || object::differs(last, &status)
                });
            if due {
                match self.write(&status).await {
                    Ok(node) => {
                        self.seen.send_replace(Some(Arc::new(node)));
                        written = Some((status, tokio::time::Instant::now()));
                    }
                    Err(error) if error.is_not_found() => {
                        // Someone deleted the Node: it is registered again, as upstream's kubelet does at its next start.
                        if let Ok(node) = self.register().await {
                            self.seen.send_replace(Some(Arc::new(node)));
                        }
                    }
                    Err(error) => tracing::warn!(%error, "the node's status was not written"),
                }
            } else if let Ok(node) = self.client.get::<Node>("", &self.name).await {
                // Another component may have set the pod CIDR.
                self.seen.send_replace(Some(Arc::new(node)));
            }
            let ready = self.network.ready().is_ok() && written.is_some();
            let pause = if ready {
                CHECK
            } else {
                Duration::from_millis(500)
            };
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                // Without a sender there is nothing more to come, and time goes on.
                Ok(()) = pressures.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn write(&self, status: &NodeStatus) -> Result<Node, Error> {
        let patch = object::status_patch(status);
        self.client
            .patch_status("", &self.name, &Patch::Strategic(patch))
            .await
    }
}
