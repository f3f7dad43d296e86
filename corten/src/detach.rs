//! Background processes of this machine: starting one that outlives the terminal, waiting until it is ready, stopping it,
//! and taking away what containers and rules it left.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::Paths;

const POLL: Duration = Duration::from_millis(20);
/// The launcher gives its roles about as long.
const STOP_TIMEOUT: Duration = Duration::from_secs(70);

/// Starts `command` in a session of its own with its output in `log`; returns its pid.
pub fn spawn(mut command: Command, log: &Path) -> Result<i32> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    let err = out.try_clone()?;
    // A process group of its own: Ctrl-C in the terminal must not reach it.
    let child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn();
    let child = child.with_context(|| format!("cannot start {:?}", command.get_program()))?;
    i32::try_from(child.id()).context("pid")
}

/// Whether a process exists: any of its threads, so that what it held (ports, locks) is free once this says no.
pub fn is_alive(pid: i32) -> bool {
    if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return false;
    }
    // A child of ours that ended is reaped here, or it would look alive.
    let _ = nix::sys::wait::waitpid(
        Pid::from_raw(pid),
        Some(nix::sys::wait::WaitPidFlag::WNOHANG),
    );
    any_thread_runs(&PathBuf::from(format!("/proc/{pid}/task")))
}

/// Whether a thread listed in `tasks` (as in `/proc/PID/task`) is no zombie. The first one may be long before the others.
fn any_thread_runs(tasks: &Path) -> bool {
    let threads = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
        .any(|stat| {
            let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
            let state = fields.and_then(|rest| rest.split_whitespace().next());
            state.is_some_and(|state| state != "Z" && state != "X")
        })
}

/// Sends a signal; a process that is gone is fine.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot send {signal} to {pid}")),
    }
}

/// Waits until a process is gone.
pub fn wait_gone(pid: i32, timeout: Duration) -> Result<()> {
    let begin = Instant::now();
    while is_alive(pid) {
        if begin.elapsed() > timeout {
            bail!("process {pid} did not end within {} s", timeout.as_secs());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The pid of a running `corten up`, if there is one.
pub fn running(paths: &Paths) -> Option<i32> {
    let pid = std::fs::read_to_string(paths.pid_file())
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    (is_alive(pid) && String::from_utf8_lossy(&command).contains("corten")).then_some(pid)
}

/// Waits until the cluster says that it is ready; shows the end of the log when it fails.
pub fn wait_ready(paths: &Paths, pid: i32, timeout: Duration) -> Result<String> {
    let begin = Instant::now();
    loop {
        if let Ok(took) = std::fs::read_to_string(paths.ready_file()) {
            return Ok(took);
        }
        let gone = !is_alive(pid);
        if gone || begin.elapsed() > timeout {
            let text = std::fs::read_to_string(paths.log_file()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            let what = if gone {
                "the cluster ended"
            } else {
                "the cluster is not ready in time"
            };
            bail!("{what}; the end of {}:\n{tail}", paths.log_file().display());
        }
        std::thread::sleep(POLL);
    }
}

/// Stops a running cluster; with `containers`, its containers and network too.
pub fn down(paths: &Paths, containers: bool) -> Result<bool> {
    let pid = running(paths);
    if let Some(pid) = pid {
        signal(pid, Signal::SIGTERM)?;
        wait_gone(pid, STOP_TIMEOUT)?;
    }
    if containers {
        stop_containers(&paths.cgroup_prefix())?;
        let quiet = |program: &str, args: &[&str]| {
            // Absent is the wanted state.
            let _ = Command::new(program)
                .args(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        };
        for table in ["corten", "corten-hostports"] {
            quiet("nft", &["delete", "table", "ip", table]);
        }
        quiet("ip", &["address", "delete", "10.96.0.10/32", "dev", "lo"]);
        // Namespaces live as mounts: with the mounts go the pods' ends of the wires.
        unmount_below(&[&paths.run_dir, &paths.data_dir])?;
        for link in links(paths) {
            quiet("ip", &["link", "delete", &link]);
        }
        remove_node_state(&paths.run_dir.join("node"))?;
        for root in cgroup_roots() {
            remove_cgroups(&root.join(paths.cgroup_prefix().trim_start_matches('/')));
        }
    }
    Ok(pid.is_some())
}

/// The node agent's own links, by the names that it gives them.
fn links(paths: &Paths) -> Vec<String> {
    let node = nix::unistd::gethostname().unwrap_or_default();
    let node = node.to_string_lossy().to_lowercase();
    let link = |kind: &str| corten_node_agent::link_name(kind, &node, &paths.cgroup_prefix());
    vec![link("br"), "corten-vxlan".to_owned()]
}

/// Unmounts everything below some folders, the latest mount first.
fn unmount_below(folders: &[&Path]) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let points = mounts
        .lines()
        .rev()
        .filter_map(|line| line.split(' ').nth(1));
    for point in points.map(unescape) {
        if folders.iter().any(|folder| point.starts_with(folder)) {
            nix::mount::umount2(&point, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {}", point.display()))?;
        }
    }
    Ok(())
}

/// A path as the kernel lists it, with blanks as `\040`.
fn unescape(text: &str) -> PathBuf {
    PathBuf::from(text.replace("\\040", " ").replace("\\011", "\t"))
}

/// What containers that are gone have left; the node agent makes it anew.
fn remove_node_state(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a tree of empty groups; what is still in use stays.
fn remove_cgroups(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroups(&entry.path());
        }
    }
    // Absent, or in use for another moment by a process that was just killed: empty groups cost nothing.
    let _ = std::fs::remove_dir(dir);
}

/// Kills every process in the cgroups below `prefix` (v1 and v2 mounts alike).
pub fn stop_containers(prefix: &str) -> Result<()> {
    for _ in 0..50 {
        let mut pids = Vec::new();
        for root in cgroup_roots() {
            collect(&root.join(prefix.trim_start_matches('/')), &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            signal(pid, Signal::SIGKILL)?;
        }
        std::thread::sleep(POLL);
    }
    bail!("some containers could not be killed")
}

fn cgroup_roots() -> Vec<std::path::PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let mut roots = vec![base.to_owned()];
    roots.extend(
        std::fs::read_dir(base)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.is_dir()),
    );
    roots
}

fn collect(dir: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), pids);
        }
    }
}

/// Prints the end of a file, and with `follow` what is added to it.
pub fn tail(path: &Path, follow: bool, mut out: impl std::io::Write) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path).with_context(|| format!("no log at {}", path.display()))?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(64 * 1024)))?;
    loop {
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        out.write_all(&text)?;
        out.flush()?;
        if !follow {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_counted_as_gone_while_its_threads_still_held_its_ports() {
        let tasks = tempfile::tempdir().expect("temp dir");
        let thread = |id: u32, state: char| {
            let dir = tasks.path().join(id.to_string());
            std::fs::create_dir_all(&dir).expect("made");
            let stat = format!("{id} (a (b) c) {state} 1 1 1 0 -1");
            std::fs::write(dir.join("stat"), stat).expect("written");
        };
        thread(7, 'Z');
        assert!(!any_thread_runs(tasks.path()));
        thread(8, 'R');
        assert!(any_thread_runs(tasks.path()));
        thread(8, 'X');
        assert!(!any_thread_runs(tasks.path()));
        assert!(!any_thread_runs(&tasks.path().join("absent")));
    }
}
