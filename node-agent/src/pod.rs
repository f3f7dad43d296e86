//! The life of one pod: a pure machine (state, event, now) -> actions, and the worker that performs them. The machine does
//! no IO and reads no clock; the worker decides nothing.
//!
//! ```text
//!  API, supervisors, probes --Event--> machine --Action--> worker --> volumes, sandbox, images, supervisors
//!                                         |                  ^ results come back as events
//!                                         +--> PodStatus (rendered, pure)
//! ```

pub mod types;

pub mod backoff;
pub mod container;
pub mod probing;
pub mod resize;

pub mod machine;
mod rebuild;
mod stopping;

pub mod status;

pub use machine::PodMachine;
pub use types::{Action, Event, Now};

#[cfg(test)]
mod tests;
