//! Repository tasks: `cargo run -p xtask -- <task>`. One module per task; this file only dispatches.
//! Nothing here ships to users.

mod codegen;
mod deps;
mod edges;
mod proto;
mod tidy;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Repository tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Generate the table of API fields.
    Codegen(codegen::Args),
    /// Generate Rust from the .proto files.
    Proto(proto::Args),
    /// Check licences, banned crates and duplicates.
    Deps(deps::Args),
    /// Check sizes, headers, crate edges, versions and links.
    Tidy(tidy::Args),
}

/// The folder of the workspace: what cargo says at run time, since clones that share a target folder may share this binary.
fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR");
    let own = own.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map(Path::to_owned).unwrap_or_default()
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Codegen(args) => codegen::run(&args),
        Task::Proto(args) => proto::run(&args),
        Task::Deps(args) => deps::run(&args),
        Task::Tidy(args) => tidy::run(&args),
    }
}
