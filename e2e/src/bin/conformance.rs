//! `make conformance`: upstream's own suite against a lab, and the table of what came of it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use corten_e2e::conformance::{Content, Wish, run};

/// Runs upstream's Kubernetes e2e suite, unmodified, against a lab of real processes, and keeps the results.
#[derive(Parser)]
struct Args {
    /// Where e2e.test, ginkgo, kubectl and the programs of the test images are.
    #[arg(long)]
    programs: PathBuf,
    /// The project's folder; its table of results is written.
    #[arg(long)]
    project: PathBuf,
    /// Only tests whose names match this regular expression.
    #[arg(long, default_value = "")]
    focus: String,
    /// Not the tests whose names match this one.
    #[arg(long, default_value = "")]
    skip: String,
    /// How the suite's own clients speak.
    #[arg(long, value_enum, default_value_t = Content::Protobuf)]
    content: Content,
    /// Tests at the same time, of those that can.
    #[arg(long, default_value_t = 4)]
    procs: u8,
    /// Store members, each with an API server.
    #[arg(long, default_value_t = 1)]
    members: u8,
    /// Nodes.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// Leaves the table as it is: for a look.
    #[arg(long)]
    look: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    run(&Wish {
        programs: args.programs,
        project: args.project,
        focus: args.focus,
        skip: args.skip,
        content: args.content,
        procs: args.procs,
        members: args.members,
        nodes: args.nodes,
        keep: !args.look,
    })
}
