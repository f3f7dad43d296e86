//! The kinds of resource.k8s.io: devices of nodes, and what pods ask of them.
//!
//! Fields of features that are off by default are dropped from what clients write, as upstream drops them. Expressions
//! that select devices are kept and not compiled.

pub mod device_class;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;

mod checks;
mod claim_spec;
