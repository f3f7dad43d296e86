//! A command that goes on while the test does something else: its input stays open, its output goes to a file that can be
//! waited on. It ends with the value.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::wait::until;

/// How long a line may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running command.
pub struct Background {
    child: Child,
    out: PathBuf,
}

impl Background {
    /// Starts kubectl; its output goes to `<name>.out` in the test's folder.
    pub fn kubectl(cluster: &Cluster, name: &str, args: &[&str]) -> Result<Self> {
        let mut command = cluster.lab().kubectl();
        command.args(args);
        Self::spawn(command, cluster.dir().join(format!("{name}.out")))
    }

    /// Starts any command, both output streams going to `out`.
    pub fn spawn(mut command: Command, out: PathBuf) -> Result<Self> {
        let file = File::create(&out)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        Ok(Self { child, out })
    }

    /// Writes to its input.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("its input is closed")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        let bytes = std::fs::read(&self.out).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until its output contains `what`.
    pub fn until_it_says(&self, what: &str) -> Result<()> {
        until(&format!("{what:?}"), PATIENCE, || {
            let text = self.said();
            if text.contains(what) {
                Ok(())
            } else {
                Err(text)
            }
        })
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Ends it.
    pub fn end(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
