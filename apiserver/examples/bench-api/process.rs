//! A server process, and what the kernel counts for it.
//!
//! Invariant: it ends with its value, so nothing is left running when a comparison fails half-way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Of the kernel, in clock ticks per second, on every platform that Rust runs on.
const TICKS: f64 = 100.0;
/// Of a log, shown when its process failed.
const LOG_LINES: usize = 20;

pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    pub(crate) fn start(program: &Path, arguments: &[String], log: PathBuf) -> Result<Self> {
        let file = fs::File::create(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdout(file.try_clone()?)
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| program.display().to_string())?;
        Ok(Self { child, log })
    }

    /// The end of what it wrote.
    pub(crate) fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(&self.child.id().to_string())
    }

    pub(crate) fn resident_mib(&self) -> Result<f64> {
        self.mib("VmRSS:")
    }

    /// Highest resident size since the last reset.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        self.mib("VmHWM:")
    }

    pub(crate) fn reset_peak(&self) {
        // Only the peak of a later load would be wrong, and visibly so.
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    fn mib(&self, name: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("{path}: {}", self.log()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: Option<f64> = kib.and_then(|kib| kib.parse().ok());
        Ok(kib.with_context(|| format!("{name} in {path}"))? / 1024.0)
    }

    fn log(&self) -> std::path::Display<'_> {
        self.log.display()
    }
}

/// Processor time of a process so far, its own and the kernel's for it; "self" is this one.
pub(crate) fn cpu_seconds(process: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS)
}
