//! Calls on JSON bytes with an explicit target: for users that work on any kind. The typed calls are built on these.
//! Invariant: each call ends within the client's timeout.

use std::future::Future;

use bytes::Bytes;
use corten_base::trace;
use corten_proto::corten::api::v1 as wire;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, DeleteOptions, ListOptions, Patch};
use crate::error::{Error, Result};
use crate::object::{PartialObject, Revision, Target};

/// Items of one page; large enough to need few round trips, small enough not to hold the server's snapshot long.
const PAGE_LIMIT: i64 = 2_000;

/// A list as JSON bytes.
#[derive(Clone, Debug, Default)]
pub struct RawList {
    /// The revision of the snapshot.
    pub revision: Revision,
    /// The objects.
    pub items: Vec<Bytes>,
}

/// What became of an object that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It is marked, and goes when its grace period and finalizers are through.
    Terminating(Revision),
}

impl Client {
    /// Reads one object.
    pub async fn get_raw(&self, target: &Target) -> Result<Bytes> {
        let request = wire::GetRequest {
            target: Some(target.wire()),
            resource_version: String::new(),
        };
        let mut calls = self.calls();
        let reply = self
            .bounded("get", target, calls.get(self.request(request)))
            .await?;
        Ok(reply.object)
    }

    /// Reads a whole collection, page by page.
    pub async fn list_raw(&self, target: &Target, options: &ListOptions) -> Result<RawList> {
        let mut list = RawList::default();
        let mut continue_token = String::new();
        loop {
            let request = wire::ListRequest {
                target: Some(target.wire()),
                label_selector: options.label_selector.clone(),
                field_selector: options.field_selector.clone(),
                limit: PAGE_LIMIT,
                continue_token,
                resource_version: String::new(),
                resource_version_match: String::new(),
            };
            let mut calls = self.calls();
            let reply = self
                .bounded("list", target, calls.list(self.request(request)))
                .await?;
            list.revision = Revision::parse(&reply.resource_version);
            list.items.extend(reply.items);
            if reply.continue_token.is_empty() {
                return Ok(list);
            }
            continue_token = reply.continue_token;
        }
    }

    /// Creates an object, or carries out a creating subresource (binding, eviction, token).
    pub async fn create_raw(&self, target: &Target, object: impl Into<Bytes>) -> Result<Bytes> {
        let request = wire::CreateRequest {
            target: Some(target.wire()),
            object: object.into(),
            field_manager: self.field_manager().to_owned(),
            dry_run: false,
        };
        let mut calls = self.calls();
        let reply = self
            .bounded("create", target, calls.create(self.request(request)))
            .await?;
        Ok(reply.object)
    }

    /// Replaces an object or one of its subresources.
    pub async fn update_raw(&self, target: &Target, object: impl Into<Bytes>) -> Result<Bytes> {
        let request = wire::UpdateRequest {
            target: Some(target.wire()),
            object: object.into(),
            field_manager: self.field_manager().to_owned(),
            dry_run: false,
        };
        let mut calls = self.calls();
        let reply = self
            .bounded("update", target, calls.update(self.request(request)))
            .await?;
        Ok(reply.object)
    }

    /// Patches an object or one of its subresources.
    pub async fn patch_raw(&self, target: &Target, patch: &Patch) -> Result<Bytes> {
        let (kind, body, force) = match patch {
            Patch::Json(body) => (wire::patch_request::Kind::Json, body, false),
            Patch::Merge(body) => (wire::patch_request::Kind::Merge, body, false),
            Patch::Strategic(body) => (wire::patch_request::Kind::Strategic, body, false),
            Patch::Apply { object, force } => (wire::patch_request::Kind::Apply, object, *force),
        };
        let request = wire::PatchRequest {
            target: Some(target.wire()),
            kind: kind.into(),
            patch: encode_value(body),
            field_manager: self.field_manager().to_owned(),
            force,
            dry_run: false,
        };
        let mut calls = self.calls();
        let reply = self
            .bounded("patch", target, calls.patch(self.request(request)))
            .await?;
        Ok(reply.object)
    }

    /// Deletes an object.
    pub async fn delete_raw(&self, target: &Target, options: &DeleteOptions) -> Result<Deleted> {
        let request = wire::DeleteRequest {
            target: Some(target.wire()),
            options: options.to_json(),
        };
        let mut calls = self.calls();
        let reply = self
            .bounded("delete", target, calls.delete(self.request(request)))
            .await?;
        let object = reply.object;
        if object.is_empty() {
            return Ok(Deleted::Gone);
        }
        let left: PartialObject = decode(&object, || format!("answer to delete {target}"))?;
        if left.kind == "Status" || left.metadata.deletion_timestamp.is_none() {
            return Ok(Deleted::Gone);
        }
        Ok(Deleted::Terminating(Revision::of(&left.metadata)))
    }

    /// Deletes all objects of a collection that the selectors match.
    pub async fn delete_collection_raw(
        &self,
        target: &Target,
        selectors: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<()> {
        let request = wire::DeleteCollectionRequest {
            target: Some(target.wire()),
            label_selector: selectors.label_selector.clone(),
            field_selector: selectors.field_selector.clone(),
            options: options.to_json(),
        };
        let mut calls = self.calls();
        let call = calls.delete_collection(self.request(request));
        self.bounded("delete collection", target, call)
            .await
            .map(drop)
    }

    /// Runs a call under the client's timeout.
    async fn bounded<R>(
        &self,
        verb: &str,
        target: &Target,
        call: impl Future<Output = std::result::Result<tonic::Response<R>, tonic::Status>>,
    ) -> Result<R> {
        match tokio::time::timeout(self.timeout(), call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(Error::from(status)),
            Err(_) => Err(Error::timeout(format_args!("{verb} {target}"))),
        }
    }

    /// A request that tells the server how long we wait.
    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.timeout());
        if let Some(Ok(parent)) = trace::traceparent().map(|parent| parent.parse()) {
            request.metadata_mut().insert(trace::HEADER, parent);
        }
        request
    }
}

pub(crate) fn decode<T: for<'de> Deserialize<'de>>(
    json: &[u8],
    what: impl FnOnce() -> String,
) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Decode {
        what: what(),
        reason: error.to_string(),
    })
}

pub(crate) fn encode_value(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
