//! The files of one container directory, and the only code that reads and writes them. Every write is atomic (temporary
//! file, then rename), so a reader sees a whole record or none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the agent asks a supervisor to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SuperviseSpec {
    pub id: String,
    /// OCI runtime executable and its `--root`.
    pub runtime: PathBuf,
    pub runtime_root: PathBuf,
    /// Unpacked image layers, lowest first.
    pub layers: Vec<PathBuf>,
    pub tty: bool,
    pub stdin: bool,
    /// Close the container's stdin when the first attached client leaves.
    pub stdin_once: bool,
    pub log_path: PathBuf,
    pub log_max_bytes: u64,
    pub log_max_files: usize,
    /// `/prefix/pod<uid>/<id>`.
    pub cgroup_path: String,
    /// The supervisor's own cgroup, so that stopping the agent's cgroup does not take it along.
    pub supervisor_cgroup: String,
    /// Host paths whose mounts are shared with the container both ways.
    #[serde(default)]
    pub shared: Vec<PathBuf>,
    /// A mount point to hide from the runtime (crun refuses hybrid cgroup layouts).
    pub cover: Option<PathBuf>,
}

/// Written once the container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedRecord {
    pub pid: i32,
    /// Field 22 of /proc/pid/stat: guards against reused pids.
    pub pid_start_ticks: u64,
    pub supervisor_pid: i32,
    pub boot_id: String,
    pub started_at: Timestamp,
}

/// Written once, when the container is over (or never came to run).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    /// None when the container never started.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// The runtime's words when create or start failed.
    pub start_error: Option<String>,
    /// The supervisor vanished: code and times are the agent's guess.
    #[serde(default)]
    pub lost: bool,
}

/// The directory of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerDir(pub PathBuf);

impl ContainerDir {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    pub fn spec(&self) -> io::Result<SuperviseSpec> {
        read_json(&self.path(SPEC))
    }
    pub fn write_spec(&self, spec: &SuperviseSpec) -> io::Result<()> {
        write_json(&self.path(SPEC), spec)
    }
    pub fn started(&self) -> Option<StartedRecord> {
        read_json(&self.path("started.json")).ok()
    }
    pub fn write_started(&self, record: &StartedRecord) -> io::Result<()> {
        write_json(&self.path("started.json"), record)
    }
    pub fn exit(&self) -> Option<ExitRecord> {
        read_json(&self.path("exit.json")).ok()
    }
    pub fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        write_json(&self.path("exit.json"), record)
    }
    pub fn oci_config(&self) -> PathBuf {
        self.path("config.json")
    }
    pub fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }
    pub fn socket(&self) -> PathBuf {
        self.path(SOCKET)
    }
    pub fn termination_log(&self) -> PathBuf {
        self.path("termination-log")
    }

    /// Takes the supervisor's lock; None when another process holds it.
    pub fn try_lock(&self) -> io::Result<Option<Flock<File>>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path("lock"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Whether a supervisor lives in this directory right now.
    pub fn is_supervised(&self) -> bool {
        matches!(self.try_lock(), Ok(None))
    }
}

const SPEC: &str = "supervise.json";

/// Name of the socket; reached through a directory descriptor because `sun_path` holds 108 bytes only.
pub const SOCKET: &str = "s";

/// Reads one record.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = std::fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// Writes one record atomically.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    write_atomic(path, &bytes)
}

/// Like `write_json`, and on the disk when it returns.
pub fn write_json_durably<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    write_json(path, value)?;
    File::open(path)?.sync_data()?;
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Tells apart what is written at the same time.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes a file so that readers see the old content or the new, never a part, however many write it at once. Nothing here must survive a power cut: no
/// container does, and an unreadable record counts as lost.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{write}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // What is half written helps nobody.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The start time of a process in clock ticks since boot, or None when it is gone.
pub fn process_start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses: fields count from the last ')'.
    let fields = stat.get(stat.rfind(')')? + 1..)?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// This boot's identity.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

impl StartedRecord {
    /// Whether the recorded process still exists (and is not another one with its number).
    pub fn process_exists(&self) -> bool {
        self.boot_id == boot_id() && process_start_ticks(self.pid) == Some(self.pid_start_ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_write_a_record_at_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("pod.json");
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let path = &path;
                scope.spawn(move || {
                    for n in 0..200_u32 {
                        write_json(path, &vec![thread; 1000 + n as usize]).expect("it is written");
                    }
                });
            }
        });
        let whole: Vec<u32> = read_json(&path).expect("a whole record");
        assert!(whole.len() >= 1000 && whole.iter().all(|value| *value == whole[0]));
        let left = std::fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(left, 1, "no temporary file stays");
    }
}
