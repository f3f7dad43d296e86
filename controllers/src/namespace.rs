//! Namespace: empties namespaces that are being deleted. Watches Namespaces; deletes everything in them, writes
//! `namespaces/status` and, when nothing is left, `namespaces/finalize`.
//!
//! It asks the server and not a cache what is left: an object that a cache has not shown yet would outlive its namespace.
//! Invariant: the finalizer goes only after a list of every kind came back empty.

mod conditions;

use std::collections::BTreeMap;
use std::time::Duration;

use corten_api::kinds;
use corten_client::cache::{Cache, Change};
use corten_client::client::{DeleteOptions, ListOptions, Patch};
use corten_client::queue::RetryPolicy;
use corten_client::{Client, Error, ObjectName, PartialObject, Result, Target};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use crate::worker::{Step, Work};

/// Stands for this controller in `spec.finalizers`.
const FINALIZER: &str = "kubernetes";

/// Pods that end take seconds; finalizers of others may take for ever.
pub const RETRY: RetryPolicy = RetryPolicy {
    min: Duration::from_millis(250),
    max: Duration::from_secs(15),
};

/// The controller.
pub struct Namespaces {
    /// The server.
    pub client: Client,
    /// All namespaces.
    pub namespaces: Cache<Namespace>,
}

/// What a namespace still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Objects by resource.
    pub(crate) remaining: BTreeMap<String, usize>,
    /// Objects by finalizer.
    pub(crate) finalizers: BTreeMap<String, usize>,
    /// Deletions that failed.
    pub(crate) failures: Vec<String>,
}

impl Content {
    fn is_empty(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty()
    }

    fn count(&mut self, resource: &str, objects: &[PartialObject]) {
        if objects.is_empty() {
            return;
        }
        self.remaining.insert(resource.to_owned(), objects.len());
        for finalizer in objects
            .iter()
            .flat_map(|object| object.metadata.finalizers.iter().flatten())
        {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
}

/// Keys to wake for a changed namespace: only those that are going.
pub fn of_namespace(change: &Change<Namespace>) -> Vec<ObjectName> {
    let namespace = change.object();
    let going =
        namespace.metadata.deletion_timestamp.is_some() && !matches!(change, Change::Deleted(_));
    going
        .then(|| ObjectName::of(&**namespace))
        .into_iter()
        .collect()
}

impl Work for Namespaces {
    type Key = ObjectName;

    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    async fn step(&self, key: ObjectName) -> Result<Step> {
        let Some(namespace) = self.namespaces.get_named(&key) else {
            return Ok(Step::Done);
        };
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|spec| spec.finalizers.clone())
            .unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_none() || finalizers.is_empty() {
            return Ok(Step::Done);
        }
        let content = self.empty(&key.name).await;
        self.tell(&namespace, &content).await?;
        if !content.is_empty() {
            return Ok(Step::Again);
        }
        self.finalize(&key.name).await?;
        Ok(Step::Done)
    }
}

impl Namespaces {
    /// Deletes what there is, and says what is left. Pods go first: they may need their Secrets and ConfigMaps to the end.
    async fn empty(&self, namespace: &str) -> Content {
        let mut content = Content::default();
        let pods = Target::resource("", "v1", "pods");
        self.empty_kind(&pods, namespace, &mut content).await;
        if !content.is_empty() {
            return content;
        }
        // Some kinds appear in two versions or groups and are stored once.
        for kind in kinds::registry().stored() {
            let target = Target::resource(kind.group, kind.version, kind.resource);
            if kind.namespaced && kind.has_verb("deletecollection") && target != pods {
                self.empty_kind(&target, namespace, &mut content).await;
            }
        }
        content
    }

    async fn empty_kind(&self, target: &Target, namespace: &str, content: &mut Content) {
        let resource = target.to_string();
        let result = async {
            let before = self.list(target, namespace).await?;
            if before.is_empty() {
                return Ok(before);
            }
            if before
                .iter()
                .any(|object| object.metadata.deletion_timestamp.is_none())
            {
                let scope = target.clone().in_namespace(namespace);
                let all = ListOptions::namespace(namespace);
                let background = DeleteOptions::default()
                    .propagation(corten_client::client::Propagation::Background);
                self.client
                    .delete_collection_raw(&scope, &all, &background)
                    .await?;
            }
            self.list(target, namespace).await
        };
        match result.await {
            Ok(left) => content.count(&resource, &left),
            Err(Error::NotFound(_)) => {} // a kind that this server does not serve
            Err(error) => content.failures.push(format!("{resource}: {error}")),
        }
    }

    async fn list(&self, target: &Target, namespace: &str) -> Result<Vec<PartialObject>> {
        let scope = target.clone().in_namespace(namespace);
        let list = self
            .client
            .list_raw(&scope, &ListOptions::namespace(namespace))
            .await?;
        // What cannot be read still counts: it is there.
        Ok(list
            .items
            .iter()
            .map(|item| serde_json::from_slice(item).unwrap_or_default())
            .collect())
    }

    /// Writes the conditions, if they changed.
    async fn tell(&self, namespace: &Namespace, content: &Content) -> Result<()> {
        let old = namespace
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        let new = conditions::of(&old, content, jiff::Timestamp::now());
        // An empty namespace that never had to wait goes without a word.
        if new == old || (old.is_empty() && content.is_empty()) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"status": {"conditions": new}}));
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        match self
            .client
            .patch_status::<Namespace>("", name, &patch)
            .await
        {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn finalize(&self, name: &str) -> Result<()> {
        let Some(mut namespace) = self.client.get_opt::<Namespace>("", name).await? else {
            return Ok(());
        };
        let spec = namespace.spec.get_or_insert_default();
        spec.finalizers
            .get_or_insert_default()
            .retain(|finalizer| finalizer != FINALIZER);
        let target = Target::of::<Namespace>().named(name).sub("finalize");
        let body = serde_json::to_vec(&namespace).expect("a namespace has string keys only");
        match self.client.update_raw(&target, body).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
