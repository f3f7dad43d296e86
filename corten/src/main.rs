//! corten: starts clusters, and is the operator's tool. Flags and printing only; the work is in the library.
#![expect(
    clippy::print_stdout,
    reason = "this is a command line: its output is for people and scripts"
)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any argument parser or runtime: helper processes of containers must stay tiny.
    let mut args = std::env::args_os().skip(1).peekable();
    match args.peek().and_then(|word| word.to_str()) {
        Some("supervise") => return corten_node_agent::supervise_main(args.skip(1)),
        Some("pause") => return corten_node_agent::pause_main(args.skip(1)),
        _ => {}
    }
    cli::main()
}
