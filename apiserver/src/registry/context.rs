//! Who acts, and how a write is to be carried out.
//!
//! Invariant: the time of a request is taken once, so that all its timestamps agree.

use std::sync::Arc;

use jiff::Timestamp;

use crate::authn::User;

/// What to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and tell the client.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

/// The circumstances of one request.
#[derive(Debug, Clone)]
pub struct Context {
    pub user: Arc<User>,
    /// Everything but the write.
    pub dry_run: bool,
    /// Accepted and kept for field management, which is not built yet.
    pub field_manager: String,
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
            validation: FieldValidation::default(),
            now: Timestamp::now(),
        }
    }

    /// The server acting for itself.
    pub fn internal() -> Self {
        Self::new(Arc::new(User::apiserver()))
    }
}
