//! Typed calls, generic over the kind. Names are (namespace, name); the namespace is "" for cluster scope. What is not
//! here: retries (the queue's job) and caching (`cache`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_proto::corten::api::v1::resources_client::ResourcesClient;
use k8s_openapi::api::core::v1::Binding;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::config::ClientConfig;
use crate::connect;
use crate::error::{Error, Result};
use crate::object::{Object, Revision, Target};
use crate::raw::{Deleted, decode};
use crate::watch::WatchStream;

/// How long a call may take unless the caller says otherwise; upstream's clients and server agree on a like value.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest message we accept: a page of objects of the largest size that the server stores.
const MESSAGE_LIMIT: usize = 256 << 20;

/// A cheap handle; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    calls: ResourcesClient<Channel>,
    /// Apart from calls, so that a slow reader of a watch never uses up the window that calls need.
    watches: ResourcesClient<Channel>,
    timeout: Duration,
    field_manager: Arc<str>,
}

/// Which objects of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListOptions {
    /// Only this namespace, or all if empty.
    pub namespace: String,
    /// A label selector, or empty.
    pub label_selector: String,
    /// A field selector, or empty.
    pub field_selector: String,
}

impl ListOptions {
    /// All objects of a namespace ("" for all).
    pub fn namespace(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..Self::default()
        }
    }

    /// Only what this label selector matches.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        selector.clone_into(&mut self.label_selector);
        self
    }

    /// Only what this field selector matches.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        selector.clone_into(&mut self.field_selector);
        self
    }
}

/// A typed list.
#[derive(Clone, Debug)]
pub struct List<K> {
    /// The revision of the snapshot.
    pub revision: Revision,
    /// The objects.
    pub items: Vec<K>,
}

/// A patch and its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902: a list of operations.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own merge, which knows the keys of lists. Built-in kinds only.
    Strategic(Value),
    /// Server-side apply by this client's field manager.
    Apply {
        /// The object, with `apiVersion` and `kind`.
        object: Value,
        /// Take fields over from other managers.
        force: bool,
    },
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// They stay and lose their owner.
    Orphan,
    /// They go later; the owner goes now.
    Background,
    /// They go first.
    Foreground,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeleteOptions {
    /// Only if the object still has this uid.
    pub uid: Option<String>,
    /// Only if the object is still at this revision.
    pub resource_version: Option<String>,
    /// Instead of the object's own grace period, in seconds.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of dependents; the kind's default if absent.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// Only if the object still has this uid.
    pub fn uid(uid: &str) -> Self {
        Self {
            uid: Some(uid.to_owned()),
            ..Self::default()
        }
    }

    /// With this grace period.
    #[must_use]
    pub fn grace(mut self, seconds: i64) -> Self {
        self.grace_period_seconds = Some(seconds);
        self
    }

    /// With this propagation.
    #[must_use]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }

    /// As metav1.DeleteOptions; empty when nothing is asked for.
    pub(crate) fn to_json(&self) -> Bytes {
        if *self == Self::default() {
            return Bytes::new();
        }
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(uid) = &self.uid {
            options["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &self.resource_version {
            options["preconditions"]["resourceVersion"] = json!(version);
        }
        if let Some(grace) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = json!(grace);
        }
        if let Some(propagation) = self.propagation {
            options["propagationPolicy"] = json!(format!("{propagation:?}"));
        }
        Bytes::from(options.to_string())
    }
}

impl Client {
    /// A client over mTLS. Nothing is connected before the first call; broken connections are remade, to the next server.
    pub fn connect(config: &ClientConfig) -> Result<Self> {
        Ok(Self::over(
            connect::channel(config)?,
            connect::channel(config)?,
        ))
    }

    /// A client over a channel made by the caller, as one in process.
    pub fn from_channel(channel: Channel) -> Self {
        Self::over(channel.clone(), channel)
    }

    fn over(calls: Channel, watches: Channel) -> Self {
        let stub = |channel| ResourcesClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        Self {
            calls: stub(calls),
            watches: stub(watches),
            timeout: DEFAULT_TIMEOUT,
            field_manager: Arc::from("corten"),
        }
    }

    /// The same client with another time limit per call. Watches have none.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same client writing as this field manager.
    #[must_use]
    pub fn with_field_manager(mut self, manager: &str) -> Self {
        self.field_manager = Arc::from(manager);
        self
    }

    pub(crate) fn calls(&self) -> ResourcesClient<Channel> {
        self.calls.clone()
    }

    pub(crate) fn watches(&self) -> ResourcesClient<Channel> {
        self.watches.clone()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn field_manager(&self) -> &str {
        &self.field_manager
    }

    /// Reads one object.
    pub async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<K> {
        let target = one::<K>(namespace, name)?;
        decode_object(&self.get_raw(&target).await?, &target)
    }

    /// Reads one object, `None` if there is none.
    pub async fn get_opt<K: Object>(&self, namespace: &str, name: &str) -> Result<Option<K>> {
        match self.get(namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a collection, all pages.
    pub async fn list<K: Object>(&self, options: &ListOptions) -> Result<List<K>> {
        let target = Target::of::<K>().in_namespace(&options.namespace);
        let raw = self.list_raw(&target, options).await?;
        let items = raw
            .items
            .iter()
            .map(|item| decode_object(item, &target))
            .collect::<Result<Vec<K>>>()?;
        Ok(List {
            revision: raw.revision,
            items,
        })
    }

    /// Creates an object in its own namespace and returns it as stored.
    pub async fn create<K: Object>(&self, object: &K) -> Result<K> {
        let meta = object.metadata();
        let target = Target::of::<K>().in_namespace(meta.namespace.as_deref().unwrap_or_default());
        decode_object(
            &self.create_raw(&target, encode(object, &target)?).await?,
            &target,
        )
    }

    /// Replaces an object; a conflict if it changed since its `resourceVersion`.
    pub async fn update<K: Object>(&self, object: &K) -> Result<K> {
        let target = target_of(object)?;
        decode_object(
            &self.update_raw(&target, encode(object, &target)?).await?,
            &target,
        )
    }

    /// Replaces an object's status; a conflict if it changed since its `resourceVersion`.
    pub async fn update_status<K: Object>(&self, object: &K) -> Result<K> {
        let target = target_of(object)?.sub("status");
        decode_object(
            &self.update_raw(&target, encode(object, &target)?).await?,
            &target,
        )
    }

    /// Patches an object.
    pub async fn patch<K: Object>(&self, namespace: &str, name: &str, patch: &Patch) -> Result<K> {
        let target = one::<K>(namespace, name)?;
        decode_object(&self.patch_raw(&target, patch).await?, &target)
    }

    /// Patches an object's status.
    pub async fn patch_status<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        patch: &Patch,
    ) -> Result<K> {
        let target = one::<K>(namespace, name)?.sub("status");
        decode_object(&self.patch_raw(&target, patch).await?, &target)
    }

    /// Deletes an object.
    pub async fn delete<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted> {
        self.delete_raw(&one::<K>(namespace, name)?, options).await
    }

    /// Posts to a subresource of an object: eviction, token, binding, ...
    pub async fn create_subresource<K: Object, B: Serialize, R: DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &B,
    ) -> Result<R> {
        let target = one::<K>(namespace, name)?.sub(subresource);
        let reply = self.create_raw(&target, encode(body, &target)?).await?;
        decode(&reply, || target.to_string())
    }

    /// Binds a pod to a node.
    pub async fn bind(&self, binding: &Binding) -> Result<()> {
        let meta = &binding.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let target = one::<k8s_openapi::api::core::v1::Pod>(
            namespace,
            meta.name.as_deref().unwrap_or_default(),
        )?
        .sub("binding");
        self.create_raw(&target, encode(binding, &target)?)
            .await
            .map(drop)
    }

    /// Starts a watch: the current state first when `from` is `None`, else only what follows that revision.
    pub async fn watch(
        &self,
        target: &Target,
        options: &ListOptions,
        from: Option<Revision>,
    ) -> Result<WatchStream> {
        WatchStream::open(self, target, options, from).await
    }
}

fn one<K: Object>(namespace: &str, name: &str) -> Result<Target> {
    let target = Target::of::<K>().in_namespace(namespace).named(name);
    if name.is_empty() {
        let what = target.to_string();
        return Err(Error::Encode {
            what,
            reason: "the object has no name".to_owned(),
        });
    }
    Ok(target)
}

fn target_of<K: Object>(object: &K) -> Result<Target> {
    let meta = object.metadata();
    one::<K>(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

fn encode<T: Serialize>(object: &T, target: &Target) -> Result<Bytes> {
    serde_json::to_vec(object)
        .map(Bytes::from)
        .map_err(|error| Error::Encode {
            what: target.to_string(),
            reason: error.to_string(),
        })
}

fn decode_object<T: DeserializeOwned>(json: &[u8], target: &Target) -> Result<T> {
    decode(json, || target.to_string())
}
