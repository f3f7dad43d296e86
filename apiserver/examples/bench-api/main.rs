//! Measures corten-apiserver on corten-store beside upstream's kube-apiserver on etcd: one machine, one load after the other,
//! the two taking turns.
//!
//! Not a test: nothing here passes or fails, but for `--answers`, which compares what they say. Invariant: both sides get the same requests over the same kind of connections,
//! with the same certificates and rights. `make bench-api` builds what it needs and runs it.

mod answers;
mod client;
mod compare;
mod loads;
mod objects;
mod process;
mod report;
mod requests;
mod servers;
mod setup;
mod storm;
mod table;
mod watch;

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    corten_base::tls::install_provider();
    compare::run(&compare::Args::parse()).await
}
