//! Measures anything that speaks etcd's API: one load against given servers, or corten-store beside etcd in one run.
//!
//! Not a test: nothing here passes or fails. Invariant: every client has one request in flight, and every latency counts.
//!
//! `cargo run --release -p corten-store --example bench -- load --endpoints http://127.0.0.1:2379 --clients 256 --total 50000`
//! `cargo run --release -p corten-store --example bench -- compare --ours target/release/corten-store --theirs etcd`

mod compare;
mod load;
mod report;
mod requests;
mod servers;
mod volume;
mod watch;
mod watchers;

use clap::Parser;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// One load against servers that run already.
    Load(load::Args),
    /// Start clusters of both kinds and let them take turns; prints a table.
    Compare(compare::Args),
    /// Load many GiB, and print latencies over time.
    Volume(volume::Args),
    /// Very many watchers in this process, without a network.
    Watchers(watchers::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    corten_base::tls::install_provider();
    match Args::parse().what {
        What::Load(args) => load::run(&args).await,
        What::Compare(args) => compare::run(&args).await,
        What::Volume(args) => volume::run(&args).await,
        What::Watchers(args) => watchers::run(&args),
    }
}
