//! Deterministic simulation of a cluster: members of this crate, whole, on simulated disks, networks and clocks, in one thread.
//!
//! ```text
//!   seed ─▶ world ─┬─▶ faults: what breaks, and when
//!                  ├─▶ workload: clients through the etcd services of each member
//!                  ├─▶ host × n: a runtime, openraft, the log, the state machine, the peer service over gRPC
//!                  │      └─▶ disk, tables, net, os: what the host's machine would give
//!                  └─▶ invariants: one file each
//! ```
//!
//! Not a model: consensus, log, state machine, forwarding, read index, watches, leases, gRPC and HTTP/2 are the real ones. RocksDB
//! is not (see `tables`). Invariant: everything that happens follows from the seed; so a failure is repeated by its number.

mod client;
mod disk;
mod faults;
mod host;
mod invariants;
mod membership;
mod net;
mod os;
mod runs;
mod tables;
mod world;
