//! What every role's process does around its role: settings from a file, logs, signals, and the last word.
//!
//! Invariant: the role's task is the last to end, and why it ended is said on standard error as well as in the log, which
//! may not be up yet.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, ConfigError};
use crate::shutdown::Shutdown;
use crate::telemetry::{self, TelemetryConfig};

/// Why a role could not start or go on.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The flags that all roles have.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Configuration file (TOML); flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

impl Common {
    /// The settings in the file; defaults without one.
    ///
    /// # Errors
    /// The file cannot be read, or has keys that are not known.
    pub fn load<C: serde::de::DeserializeOwned + Default>(&self) -> Result<C, ConfigError> {
        config::load(self.config.as_deref())
    }

    /// Runs a role until it ends; it is told when a signal asks it to.
    pub async fn run(
        &self,
        name: &'static str,
        role: impl AsyncFnOnce(Shutdown) -> Result<(), Failure>,
    ) -> ExitCode {
        let result = async {
            let _guard = telemetry::init(&self.telemetry, name)?;
            let shutdown = Shutdown::new();
            shutdown.on_signals()?;
            let result = role(shutdown).await;
            if let Err(error) = &result {
                tracing::error!("{}", chain(error.as_ref()));
            }
            result
        };
        match result.await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                last_word(name, error.as_ref());
                ExitCode::FAILURE
            }
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last word of a process that cannot go on"
)]
fn last_word(name: &str, error: &dyn Error) {
    eprintln!("{name}: {}", chain(error));
}

/// An error with its causes, on one line.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error: &&dyn Error| (*error).source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("no such port"));
        assert_eq!(chain(&error), "cannot start: no such port");
    }
}
