//! The node's data plane: Services as nftables verdict maps, and cluster DNS answered from the watch. It is not on the
//! path of a packet: the kernel forwards by what was written last, so stopping this process stops no traffic.
//!
//! ```text
//!  Service, EndpointSlice, Node ── caches ── model ── ruleset (pure) ── diff ── nft -f -
//!                                    └────────────── dns zone (pure) ── UDP/TCP on the cluster DNS address
//! ```
//!
//! Invariant: what the kernel holds is the rule set of one moment; every change is one nft transaction.

pub mod affinity;
pub mod app;
pub mod config;
pub mod conntrack;
pub mod dns;
pub mod host;
pub mod model;
pub mod nft;
pub mod ruleset;
pub mod sync;

pub use app::Proxy;
pub use config::Config;
