//! What must hold in every run, one file for each.
//!
//! Each says what it is about, and where it comes from. Invariant: a check knows only what clients were told and what
//! members showed, never what the simulation did to them.

pub(super) mod acknowledged;
pub(super) mod agreement;
pub(super) mod leaders;
pub(super) mod linearizable;
pub(super) mod once;
pub(super) mod refused;
pub(super) mod revisions;
pub(super) mod watches;

/// What was found to be wrong.
pub(super) type Verdict = Result<(), String>;
