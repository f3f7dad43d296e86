//! The kinds of the apps group, and what workloads share.

pub mod deployment;
pub mod replica_set;
pub mod workload;
