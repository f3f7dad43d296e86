//! The node agent: runs the pods bound to its node on OCI runtimes and reports what becomes of them.
//! It is not a proxy and not a scheduler. Invariant: killing this process never touches a running container.

pub mod traits;

pub mod images;
pub mod network;
pub mod server;
pub mod volumes;
