//! The review kinds of authentication.k8s.io. None of them is stored.

pub mod self_subject_review;
pub mod token_request;
pub mod token_review;
