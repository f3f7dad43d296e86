//! The controllers against the real API server over an in-memory store, in one process.
//!
//! Nothing imitates the API; pods are never run, so what a node agent would write is written by the test. Invariant: each
//! test owns its server, and waits for a state with a deadline, never for a time.

mod election;
mod garbage;
mod harness;
mod namespaces;
mod nodes;
mod workloads;
