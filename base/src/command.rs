//! Running a host program to its end: input fed, output taken, time bounded, killed when the caller gives up. For the few
//! tools (`ip`, `nft`, `conntrack`, runtimes) whose command line is their stable interface.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// No tool that Corten calls works this long: one that does hangs.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a tool's complaint is kept.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started or fed.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// The program.
        program: String,
    },
    /// It ended with an error.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: String,
        /// Its standard error.
        message: String,
    },
}

/// Runs a program with arguments and input; returns its standard output. Dropping the future kills the program.
pub async fn run(program: &str, args: &[&str], input: &str) -> Result<String, CommandError> {
    let failed = |source| CommandError::Run {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin {
            // A program that ends without reading its input says why on its standard error.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIMEOUT, work)
        .await
        .map_err(|_| CommandError::Timeout {
            program: program.to_owned(),
        })?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if message.len() > MESSAGE_BYTES_MAX {
        let cut = (0..=MESSAGE_BYTES_MAX)
            .rev()
            .find(|i| message.is_char_boundary(*i));
        message.truncate(cut.unwrap_or(0));
    }
    Err(CommandError::Failed {
        program: program.to_owned(),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_goes_in_and_output_comes_out() {
        assert_eq!(run("cat", &[], "hello").await.expect("cat"), "hello");
        let error = run("sh", &["-c", "echo no >&2; exit 3"], "")
            .await
            .expect_err("fails");
        assert_eq!(error.to_string(), "sh failed: no");
        assert!(matches!(
            run("no-such-program", &[], "").await,
            Err(CommandError::Run { .. })
        ));
    }
}
