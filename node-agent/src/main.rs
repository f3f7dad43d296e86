//! The node agent's binary: the agent itself, and the two helper processes that it re-executes itself as.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any argument parser or runtime: helpers must stay tiny.
    let mut args = std::env::args_os().skip(1).peekable();
    match args.peek().and_then(|word| word.to_str()) {
        Some("supervise") => return corten_node_agent::supervise_main(args.skip(1)),
        Some("pause") => return corten_node_agent::pause_main(args.skip(1)),
        _ => {}
    }
    corten_node_agent::cli::agent_main()
}
