//! Corten's controllers: pure plans over caches, run by `corten_client::runner`; three that need answers from the
//! server are queue workers (`worker`). `app` wires them. Nothing here stores state that outlives the process. Invariant: a
//! controller meets the others only through objects of the API.

mod amount;
pub mod app;
pub mod config;
mod finalizer;
mod history;
mod ownership;
mod services;
pub mod worker;

pub mod certificates;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod garbage;
pub mod job;
pub mod jobttl;
pub mod namespace;
pub mod node;
pub mod pods;
pub mod protection;
pub mod quota;
pub mod replicaset;
pub mod rootca;
pub mod serviceaccount;
pub mod servicecidr;
pub mod signing;
pub mod statefulset;

pub use app::Controllers;
pub use config::Config;

/// The first `max` bytes of a text at most, never half a character.
pub(crate) fn truncated(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
