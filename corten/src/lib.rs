//! The launcher: puts the roles together on one machine (`up`), or as separate processes on hosts made of network namespaces
//! (`lab`), makes their PKI, and is the operator's tool. It holds no logic of any role.
//!
//! Invariant: every role is started from a configuration file's worth of settings that `cluster` computed; nothing else
//! decides about ports, paths or identities.

pub mod apply;
pub mod backup;
pub mod bench;
pub mod cluster;
pub mod detach;
pub mod host;
pub mod lab;
pub mod pki;
pub mod roles;
pub mod status;
pub mod up;
