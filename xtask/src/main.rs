//! Repository tasks: `cargo run -p xtask -- <task>`. One module per task; this file only dispatches.
//! Nothing here ships to users.

mod codegen;
mod deps;
mod edges;
mod proto;
mod tidy;

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

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Codegen(args) => codegen::run(&args),
        Task::Proto(args) => proto::run(&args),
        Task::Deps(args) => deps::run(&args),
        Task::Tidy(args) => tidy::run(&args),
    }
}
