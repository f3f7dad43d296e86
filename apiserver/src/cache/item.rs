//! One object in the cache: its bytes as clients receive them, and the few facts that selectors and keys need.
//!
//! It does not keep the decoded tree, which would cost several times the bytes. Invariant: `json` carries `revision` as
//! its `metadata.resourceVersion`, and the index was taken from the same bytes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use corten_api::kinds::ResourceDescriptor;
use corten_api::selector::Labels;
use serde_json::Value;

use crate::storage::Revision;

/// A stored value that is no object.
#[derive(Debug, thiserror::Error)]
#[error("the stored value of {key} is not a JSON object")]
pub struct DecodeError {
    key: String,
    source: Option<serde_json::Error>,
}

/// One object at one revision.
#[derive(Debug)]
pub struct Item {
    /// `namespace/name`, or the name alone: the key's part behind the resource's prefix.
    pub key: Arc<str>,
    /// Empty for cluster-scoped kinds.
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    /// The revision that wrote this state.
    pub revision: Revision,
    /// The object in its stored version, as compact JSON.
    pub json: Bytes,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// What field selectors may ask for.
    pub fields: Box<[(&'static str, Box<str>)]>,
    /// Uids of the owners.
    pub owners: Box<[Box<str>]>,
    /// The object in protobuf without its envelope, once somebody wanted it.
    protobuf: OnceLock<Bytes>,
}

impl Item {
    /// Takes a stored value in: parses it once, splices the revision in, and keeps bytes and index.
    pub fn decode(
        descriptor: &ResourceDescriptor,
        key: &str,
        value: &[u8],
        revision: Revision,
    ) -> Result<Self, DecodeError> {
        let object: Value = serde_json::from_slice(value).map_err(|source| DecodeError {
            key: key.to_owned(),
            source: Some(source),
        })?;
        Self::from_value(descriptor, key, object, revision)
    }

    /// The same for an object that is at hand as a tree.
    pub fn from_value(
        descriptor: &ResourceDescriptor,
        key: &str,
        mut object: Value,
        revision: Revision,
    ) -> Result<Self, DecodeError> {
        let not_an_object = || DecodeError {
            key: key.to_owned(),
            source: None,
        };
        let metadata = object
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .ok_or_else(not_an_object)?;
        // What was never stored has none.
        if revision != Revision::ZERO {
            metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
        }
        let text = |name: &str| -> Box<str> {
            metadata
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or("")
                .into()
        };
        let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
        let labels = metadata
            .get("labels")
            .and_then(Value::as_object)
            .map(|labels| {
                let pair = |(key, value): (&String, &Value)| {
                    (key.as_str().into(), value.as_str().unwrap_or("").into())
                };
                labels.iter().map(pair).collect()
            })
            .unwrap_or_default();
        let owners = metadata
            .get("ownerReferences")
            .and_then(Value::as_array)
            .map(|owners| {
                let uid = |owner: &Value| owner.get("uid").and_then(Value::as_str).map(Into::into);
                owners.iter().filter_map(uid).collect()
            })
            .unwrap_or_default();
        let fields = descriptor.strategy.selectable_fields(&object);
        let fields = fields
            .iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let json = serde_json::to_vec(&object).map_err(|source| DecodeError {
            key: key.to_owned(),
            source: Some(source),
        })?;
        Ok(Self {
            key: key.into(),
            namespace,
            name,
            uid,
            revision,
            json: json.into(),
            labels,
            fields,
            owners,
            protobuf: OnceLock::new(),
        })
    }

    /// The object as a tree, decoded anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("the bytes were encoded by this type")
    }

    /// The object in protobuf, made by the first who wants it.
    pub fn protobuf(&self, make: impl FnOnce(&Value) -> Vec<u8>) -> Bytes {
        let bytes = self.protobuf.get_or_init(|| make(&self.value()).into());
        bytes.clone()
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(name, _)| &**name == key);
        found.map(|(_, value)| &**value)
    }

    /// The value of a selectable field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| &**value)
    }

    /// The bytes with another resourceVersion: the last state of an object as its deletion shows it.
    pub fn json_at(&self, revision: Revision) -> Bytes {
        let mut object = self.value();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
        }
        serde_json::to_vec(&object)
            .expect("a tree of JSON values always encodes")
            .into()
    }
}

impl Labels for Item {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.label(key)
    }
}
