//! The supervisor: one tiny process per container that outlives the agent. It is the container's reaper, its log writer and
//! its attach point, and it knows nothing of pods or the API. Invariant: whoever holds the `lock` file of a container
//! directory is that container's supervisor, and `exit.json` appears exactly once, complete.
//!
//! ```text
//! agent --spawn--> supervisor --create/start--> container init (child by subreaper)
//!   |                 |  stdout, stderr -> CRI log (rotated)
//!   +---- socket -----+  attach, signals, exit notice
//! ```

pub mod record;

pub mod cri_log;
pub mod launch;
pub mod mounts;
pub mod protocol;

mod hub;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Entry point of `supervise --bundle DIR`; `args` are the arguments after the word `supervise`.
pub fn supervise_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let dir = match (args.next(), args.next()) {
        (Some(flag), Some(dir)) if flag == "--bundle" => PathBuf::from(dir),
        _ => {
            eprintln!("usage: supervise --bundle DIR");
            return ExitCode::from(64);
        }
    };
    match run::run(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervisor of {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}
