//! What a verb answers, before anybody encodes it.
//!
//! Invariant: an object that came from the store keeps its encoded bytes; only answers that exist nowhere else are trees.

use std::sync::Arc;

use corten_api::status::Status;
use serde_json::Value;

use crate::cache::Item;

/// The object or Status that answers a request.
#[derive(Debug, Clone)]
pub enum Content {
    /// A stored object, in the form in which its kind is stored.
    Item(Arc<Item>),
    /// Something that is not stored: a Scale, a review, a dry run's result.
    Value(Value),
    /// Success without an object, such as a completed deletion.
    Status(Status),
}

/// Content with the HTTP code and the warnings for the client.
#[derive(Debug, Clone)]
pub struct Answer {
    pub content: Content,
    pub code: u16,
    pub warnings: Vec<String>,
}

impl Answer {
    /// 200 with a stored object.
    pub fn item(item: Arc<Item>) -> Self {
        Self::of(Content::Item(item))
    }

    /// 200 with an object that is not stored.
    pub fn value(value: Value) -> Self {
        Self::of(Content::Value(value))
    }

    /// 200 with a Status.
    pub fn status(status: Status) -> Self {
        Self::of(Content::Status(status))
    }

    /// The same with 201.
    pub fn created(mut self) -> Self {
        self.code = 201;
        self
    }

    /// The same with warnings added.
    pub fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// The object as a tree, whatever form it has.
    pub fn into_value(self) -> Value {
        match self.content {
            Content::Item(item) => item.value(),
            Content::Value(value) => value,
            Content::Status(status) => status.to_json(),
        }
    }

    fn of(content: Content) -> Self {
        Self {
            content,
            code: 200,
            warnings: Vec::new(),
        }
    }
}
