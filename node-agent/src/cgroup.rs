//! The host's control groups, v1 (one tree per controller, also "hybrid") and v2, behind one set of verbs. It makes and
//! removes groups, moves processes and reads counters; what limits a pod gets is decided elsewhere. Paths are absolute
//! inside the hierarchy (`/corten/pod<uid>`), and the host's cgroup mounts are never changed.

mod convert;
mod read;
pub mod resize;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::traits::ContainerStats;

pub use convert::{cpu_shares, cpu_weight_of_shares};

/// CFS period in microseconds, unless another is asked for.
pub const PERIOD_US: u64 = 100_000;

/// Limits of a pod's or a container's group; None leaves the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    pub cpu_shares: Option<u64>,
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: u64,
    pub memory_bytes: Option<i64>,
    pub pids: Option<i64>,
}

/// The cgroup layout of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// Controller name to mount point, and the v2 tree beside them in hybrid layouts.
    V1 {
        controllers: BTreeMap<String, PathBuf>,
        unified: Option<PathBuf>,
    },
    V2 {
        root: PathBuf,
    },
}

impl Cgroups {
    /// Reads the layout from this process's mounts.
    pub fn detect() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/self/mountinfo")?;
        Self::from_mountinfo(&text).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted")
        })
    }

    fn from_mountinfo(text: &str) -> Option<Self> {
        let mut controllers = BTreeMap::new();
        let mut unified = None;
        for line in text.lines() {
            let (Some(point), Some((_, tail))) = (line.split(' ').nth(4), line.split_once(" - "))
            else {
                continue;
            };
            let mut tail = tail.split(' ');
            let (kind, options) = (tail.next().unwrap_or(""), tail.nth(1).unwrap_or(""));
            match kind {
                "cgroup2" => unified = Some(PathBuf::from(point)),
                "cgroup" => {
                    for option in options.split(',') {
                        if !matches!(option, "rw" | "ro" | "xattr" | "clone_children") {
                            controllers.insert(option.to_owned(), PathBuf::from(point));
                        }
                    }
                }
                _ => {}
            }
        }
        if controllers.contains_key("memory") || controllers.contains_key("cpu") {
            return Some(Self::V1 {
                controllers,
                unified,
            });
        }
        unified.map(|root| Self::V2 { root })
    }

    /// The v2 mount of a hybrid layout, which crun must not see.
    pub fn hybrid_mount(&self) -> Option<&Path> {
        match self {
            Self::V1 { unified, .. } => unified.as_deref(),
            Self::V2 { .. } => None,
        }
    }

    /// Whether this is a pure v2 host.
    pub fn is_v2(&self) -> bool {
        matches!(self, Self::V2 { .. })
    }

    /// Every directory that stands for the group.
    fn directories(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        match self {
            Self::V1 {
                controllers,
                unified,
            } => {
                let mut roots: Vec<&PathBuf> = controllers.values().chain(unified).collect();
                roots.sort();
                roots.dedup();
                roots.into_iter().map(|root| root.join(relative)).collect()
            }
            Self::V2 { root } => vec![root.join(relative)],
        }
    }

    fn file(&self, controller: &str, path: &str, name: &str) -> Option<PathBuf> {
        let root = match self {
            Self::V1 { controllers, .. } => controllers.get(controller)?,
            Self::V2 { root } => root,
        };
        Some(root.join(path.trim_start_matches('/')).join(name))
    }

    /// Makes the group in every hierarchy, with controllers handed down to it on v2. Idempotent.
    pub fn create(&self, path: &str) -> io::Result<()> {
        match self {
            Self::V1 {
                controllers,
                unified,
            } => {
                for directory in self.directories(path) {
                    // The v2 tree of a hybrid host only groups processes; it may be read-only.
                    let optional = unified
                        .as_ref()
                        .is_some_and(|root| directory.starts_with(root));
                    match std::fs::create_dir_all(&directory) {
                        Err(error) if !optional => return Err(error),
                        _ => {}
                    }
                }
                if let Some(root) = controllers.get("cpuset") {
                    inherit_cpuset(root, path)?;
                }
                Ok(())
            }
            Self::V2 { root } => {
                let mut current = root.clone();
                for part in path.split('/').filter(|part| !part.is_empty()) {
                    hand_down(&current);
                    current.push(part);
                    match std::fs::create_dir(&current) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }

    /// Writes the limits of a group.
    pub fn limit(&self, path: &str, limits: &GroupLimits) -> io::Result<()> {
        let period = if limits.cpu_period_us == 0 {
            PERIOD_US
        } else {
            limits.cpu_period_us
        };
        let mut wanted: Vec<(&str, &str, String)> = Vec::new();
        let v2 = self.is_v2();
        if let Some(shares) = limits.cpu_shares {
            if v2 {
                wanted.push((
                    "cpu",
                    "cpu.weight",
                    cpu_weight_of_shares(shares).to_string(),
                ));
            } else {
                wanted.push(("cpu", "cpu.shares", shares.to_string()));
            }
        }
        if let Some(quota) = limits.cpu_quota_us {
            if v2 {
                let quota = if quota < 0 {
                    "max".to_owned()
                } else {
                    quota.to_string()
                };
                wanted.push(("cpu", "cpu.max", format!("{quota} {period}")));
            } else {
                wanted.push(("cpu", "cpu.cfs_period_us", period.to_string()));
                wanted.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
            }
        }
        if let Some(bytes) = limits.memory_bytes {
            let name = if v2 {
                "memory.max"
            } else {
                "memory.limit_in_bytes"
            };
            wanted.push(("memory", name, bytes.to_string()));
        }
        if let Some(pids) = limits.pids {
            wanted.push(("pids", "pids.max", pids.to_string()));
        }
        for (controller, name, value) in wanted {
            if let Some(file) = self.file(controller, path, name) {
                std::fs::write(file, value)?;
            }
        }
        Ok(())
    }

    /// Moves a process into the group in every hierarchy.
    pub fn enter(&self, path: &str, pid: u32) -> io::Result<()> {
        for directory in self.directories(path) {
            if directory.is_dir() {
                std::fs::write(directory.join("cgroup.procs"), pid.to_string())?;
            }
        }
        Ok(())
    }

    /// Processes in the group and below it.
    pub fn pids(&self, path: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for directory in self.directories(path) {
            collect_pids(&directory, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Kills everything in the group; returns how many processes were told.
    pub fn kill_all(&self, path: &str) -> usize {
        let pids = self.pids(path);
        // v2 kills the whole tree at once, which a process that forks cannot outrun.
        if let Self::V2 { root } = self {
            let file = root.join(path.trim_start_matches('/')).join("cgroup.kill");
            if file.exists() && std::fs::write(file, "1").is_ok() {
                return pids.len();
            }
        }
        for pid in &pids {
            // Gone in the meantime is what we want.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        pids.len()
    }

    /// How often the kernel killed a process of this group for memory.
    pub fn oom_kills(&self, path: &str) -> u64 {
        let name = if self.is_v2() {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        self.file("memory", path, name)
            .map_or(0, |file| keyed_value(&file, "oom_kill"))
    }

    /// Removes the group and all groups below it, waiting a moment for dying processes. Absent is fine.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut result = Ok(());
        for directory in self.directories(path) {
            for attempt in 0..20 {
                result = remove_tree(&directory);
                if result.is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5 * attempt));
            }
        }
        result
    }

    /// Names of the groups directly below.
    pub fn children(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .directories(path)
            .into_iter()
            .filter_map(|directory| std::fs::read_dir(directory).ok())
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Usage counters of the group.
    pub fn stats(&self, path: &str) -> ContainerStats {
        let number = |controller: &str, name: &str| {
            self.file(controller, path, name).map_or(0, |file| {
                std::fs::read_to_string(file)
                    .ok()
                    .and_then(|t| t.trim().parse().ok())
                    .unwrap_or(0)
            })
        };
        let keyed = |controller: &str, name: &str, key: &str| {
            self.file(controller, path, name)
                .map_or(0, |file| keyed_value(&file, key))
        };
        let (cpu, memory, inactive) = if self.is_v2() {
            (
                keyed("cpu", "cpu.stat", "usage_usec") * 1000,
                number("memory", "memory.current"),
                keyed("memory", "memory.stat", "inactive_file"),
            )
        } else {
            (
                number("cpuacct", "cpuacct.usage"),
                number("memory", "memory.usage_in_bytes"),
                keyed("memory", "memory.stat", "total_inactive_file"),
            )
        };
        ContainerStats {
            cpu_usage_nanos: cpu,
            memory_usage_bytes: memory,
            memory_working_set_bytes: memory.saturating_sub(inactive),
            pids: number("pids", "pids.current"),
        }
    }
}

/// v1 cpuset groups start empty and refuse processes until they have CPUs and memory nodes.
fn inherit_cpuset(root: &Path, path: &str) -> io::Result<()> {
    let mut current = root.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let parent = current.clone();
        current.push(part);
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if std::fs::read_to_string(current.join(name))?
                .trim()
                .is_empty()
            {
                std::fs::write(
                    current.join(name),
                    std::fs::read_to_string(parent.join(name))?.trim(),
                )?;
            }
        }
    }
    Ok(())
}

/// Enables every available controller for the children of a v2 group; those that cannot be are skipped.
fn hand_down(group: &Path) {
    let available = std::fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        let _ = std::fs::write(
            group.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

fn collect_pids(directory: &Path, found: &mut Vec<i32>) {
    let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    found.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for entry in std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), found);
        }
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn keyed_value(file: &Path, key: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
