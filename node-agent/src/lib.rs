//! The node agent: runs the pods bound to its node on OCI runtimes and reports what becomes of them.
//! It is not a proxy and not a scheduler. Invariant: killing this process never touches a running container.

pub mod traits;

pub mod agent;
pub mod cli;
pub mod config;
pub mod context;
pub mod eviction;
pub mod pressure;

pub mod api;
pub mod cgroup;
pub mod check;
pub mod host;
pub mod mounts;
pub mod node;
pub mod pod;
pub mod runtime;
pub mod sandbox;
pub mod spec;
pub mod supervisor;
pub mod worker;

pub mod testing;

pub mod images;
pub mod network;
pub mod server;
pub mod volumes;

pub use agent::{Agent, BuildError, Services, link_name};
pub use config::Config;
pub use supervisor::supervise_main;
pub use worker::pause::pause_main;
