//! Continuous requests while something happens: one shell on a host that asks again and again and notes each outcome.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A client that asks until it is stopped.
pub struct Load {
    child: Child,
    results: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were answered.
    pub answered: usize,
    /// Requests that were not.
    pub failed: usize,
}

impl Load {
    /// Asks `url` from where `shell` (a command that starts sh) runs; at most ten minutes long.
    pub fn start(mut shell: Command, url: &str, dir: &Path) -> Result<Self> {
        let results = dir.join("load.results");
        let script = format!(
            "i=0; while [ $i -lt 12000 ]; do i=$((i+1)); \
             if curl -fsS -m 3 -o /dev/null {url} 2>>{log}; then echo ok; else echo failed; fi; sleep 0.05; done > {out}",
            log = dir.join("load.errors").display(),
            out = results.display()
        );
        let child = shell
            .arg("-c")
            .arg(script)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the load")?;
        Ok(Self { child, results })
    }

    /// What came so far.
    pub fn so_far(&self) -> Outcome {
        let text = std::fs::read_to_string(&self.results).unwrap_or_default();
        Outcome {
            answered: text.lines().filter(|line| *line == "ok").count(),
            failed: text.lines().filter(|line| *line == "failed").count(),
        }
    }

    /// Ends it and counts.
    pub fn stop(mut self) -> Outcome {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.so_far()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
