//! Running nft: one process per transaction, the script on its standard input. The only thing here that touches the kernel.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A full load of 1,000 Services takes about half a second; nft that takes this long hangs.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of nft's complaint is kept.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started or fed.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// The program.
        program: &'static str,
    },
    /// It ended with an error.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: &'static str,
        /// Its standard error.
        message: String,
    },
}

/// Applies a script as one transaction.
pub async fn apply(script: &str) -> Result<(), CommandError> {
    run("nft", &["-f", "-"], script).await.map(drop)
}

/// Runs a program with arguments and input; returns its standard output.
pub async fn run(program: &'static str, args: &[&str], input: &str) -> Result<String, CommandError> {
    let failed = |source| CommandError::Run { program, source };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIMEOUT, work).await.map_err(|_| CommandError::Timeout { program })?;
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut message = String::from_utf8_lossy(&output.stderr).into_owned();
    if message.len() > MESSAGE_BYTES_MAX {
        let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
        message.truncate(cut);
    }
    Err(CommandError::Failed { program, message })
}
