//! The kinds this API server knows: what each is called, where it is stored, and what is special about it.
//!
//! A kind is a static [`ResourceDescriptor`] plus a [`Strategy`] (defaults, server-owned fields, validation,
//! printing). One file per kind; adding a kind adds that file and one line to `registry.rs`. Nothing here does
//! IO or reads a clock. Invariant: strategies see objects that passed the structural decoder, yet never panic
//! on one that did not.

pub(crate) mod conditions;
mod descriptor;
mod errors;
mod registry;
mod strategy;
pub(crate) mod value;

pub mod addresses;
pub mod duration;
pub mod names;
pub mod object_meta;
pub mod table;

pub mod admissionregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;

pub use descriptor::{Column, ResourceDescriptor, Subresource};
pub use errors::{Errors, Path};
pub use registry::{Group, Kinds, registry};
pub use strategy::{Fields, Generation, GracefulDelete, NameRule, Request, Rules, Strategy};

#[cfg(test)]
mod tests;
