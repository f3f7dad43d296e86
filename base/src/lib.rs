//! The ground that every Corten process stands on: supervision and shutdown, configuration, TLS and PKI, telemetry, the
//! admin port, and the seams (clock, randomness) that tests replace. It knows no Kubernetes kind and no store key.

#![warn(missing_docs)]

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod command;
pub mod config;
pub mod pki;
pub mod process;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod version;
