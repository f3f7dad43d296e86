//! The node agent: runs the pods bound to its node on OCI runtimes and reports what becomes of them.
//! It is not a proxy and not a scheduler. Invariant: killing this process never touches a running container.

pub mod traits;

pub mod cgroup;
pub mod pod;
pub mod spec;
pub mod supervisor;

pub mod images;
pub mod network;
pub mod server;
pub mod volumes;

pub use supervisor::supervise_main;
