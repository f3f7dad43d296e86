//! Who acts, and how a write is to be carried out.
//!
//! Invariant: the time of a request is taken once, so that all its timestamps agree.

use std::sync::Arc;

pub use corten_api::decode::FieldValidation;
use corten_api::kinds::Request;
use jiff::Timestamp;
use serde_json::Value;

use crate::authn::User;

/// The circumstances of one request.
#[derive(Debug, Clone)]
pub struct Context {
    pub user: Arc<User>,
    /// Everything but the write.
    pub dry_run: bool,
    /// Who is noted as the owner of what is written.
    pub field_manager: String,
    /// An apply takes over what belongs to others.
    pub force: bool,
    /// The list of managers, where an apply has worked it out for a new object.
    pub managers: Option<Value>,
    pub validation: FieldValidation,
    pub now: Timestamp,
}

impl Context {
    /// A request of this user at this moment.
    pub fn new(user: Arc<User>) -> Self {
        Self {
            user,
            dry_run: false,
            field_manager: String::new(),
            force: false,
            managers: None,
            validation: FieldValidation::default(),
            now: Timestamp::now(),
        }
    }

    /// What kinds may note of the request in their objects.
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            now: self.now,
            username: &self.user.name,
            uid: &self.user.uid,
            groups: &self.user.groups,
            extra: &self.user.extra,
        }
    }

    /// The server acting for itself.
    pub fn internal() -> Self {
        Self {
            field_manager: "kube-apiserver".to_owned(),
            ..Self::new(Arc::new(User::apiserver()))
        }
    }
}
