//! The one process that some pods need beside their containers: it holds a shared process namespace and reaps in it.
//! Pods without shareProcessNamespace have none.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::sandbox::Sandbox;
use crate::supervisor::record::{process_start_ticks, read_json, write_json};

#[derive(Serialize, Deserialize)]
struct PauseRecord {
    pid: i32,
    start_ticks: u64,
}

fn record_path(shared: &Shared) -> PathBuf {
    shared.pod_dir().join("pause.json")
}

fn living(shared: &Shared) -> Option<i32> {
    let record: PauseRecord = read_json(&record_path(shared)).ok()?;
    (process_start_ticks(record.pid) == Some(record.start_ticks)).then_some(record.pid)
}

/// Makes sure that the process lives and its namespace is pinned.
pub(super) async fn ensure(shared: &Shared, sandbox: &Sandbox, cgroup: &str) -> Result<(), String> {
    if living(shared).is_some() {
        return Ok(());
    }
    let output = tokio::process::Command::new(&shared.context.binary)
        .arg("pause")
        .arg(sandbox.pid_pin())
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("starting the pause process: {error}"))?;
    let pid: i32 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| format!("pause: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let group = format!("{cgroup}/pause");
    let number = u32::try_from(pid).unwrap_or(0);
    shared
        .context
        .cgroups
        .create(&group)
        .and_then(|()| shared.context.cgroups.enter(&group, number))
        .map_err(|error| format!("moving the pause process: {error}"))?;
    let record = PauseRecord {
        pid,
        start_ticks: process_start_ticks(pid).unwrap_or(0),
    };
    write_json(&record_path(shared), &record).map_err(|error| error.to_string())
}

/// Ends the process, and with it everything in its namespace.
pub(super) fn end(shared: &Shared) {
    if let Some(pid) = living(shared) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = std::fs::remove_file(record_path(shared));
}

/// Entry point of `pause PIN` (makes the namespace, prints the pid of its first process) and `pause --init`.
pub fn pause_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(first) = args.into_iter().next() else {
        return ExitCode::from(64);
    };
    let result = if first == "--init" {
        hold()
    } else {
        make(&PathBuf::from(first))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn make(pin: &PathBuf) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    let child = Command::new("/proc/self/exe")
        .args(["pause", "--init"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::fs::File::create(pin)?;
    let own = format!("/proc/{}/ns/pid", child.id());
    mount(
        Some(own.as_str()),
        pin,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    writeln!(io::stdout(), "{}", child.id())
}

/// The first process of a namespace: reaps until it is killed.
fn hold() -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    loop {
        signals.wait()?;
        while !matches!(
            waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(_)
        ) {}
    }
}
