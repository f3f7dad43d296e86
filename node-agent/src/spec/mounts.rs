//! The mount list of a container: the standard file systems, the pod's own files, then volumes by depth. Pure; sub-paths
//! have been resolved to host paths before.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The runtime's word for a mount whose own mounts travel both ways.
pub const SHARED: &str = "rshared";

/// One volume mount, ready for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    pub host_path: PathBuf,
    pub container_path: String,
    pub read_only: bool,
    pub propagation: Propagation,
}

/// How mounts made later travel between host and container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

impl Propagation {
    /// The API's words; absent means None.
    pub fn of(text: Option<&str>) -> Self {
        match text {
            Some("HostToContainer") => Self::HostToContainer,
            Some("Bidirectional") => Self::Bidirectional,
            _ => Self::None,
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::None => "rprivate",
            Self::HostToContainer => "rslave",
            Self::Bidirectional => SHARED,
        }
    }
}

/// Files of the pod that show up in each container, unless a volume is mounted over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFiles {
    pub hosts: PathBuf,
    pub hostname: PathBuf,
    pub resolv_conf: PathBuf,
    pub shm: PathBuf,
}

/// What decides about the standard mounts.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions {
    pub privileged: bool,
    pub read_only_root: bool,
    pub cgroup_v2: bool,
}

/// The whole list in mounting order.
pub fn list(
    files: &PodFiles,
    termination: Option<(&Path, &str)>,
    volumes: &[BindMount],
    options: MountOptions,
) -> Vec<Value> {
    let mut mounts = standard(options);
    let taken = |path: &str| {
        volumes
            .iter()
            .any(|mount| clean(&mount.container_path) == path)
    };
    let access = if options.read_only_root { "ro" } else { "rw" };
    for (path, source, access) in [
        ("/dev/shm", &files.shm, "rw"),
        ("/etc/hosts", &files.hosts, access),
        ("/etc/hostname", &files.hostname, access),
        ("/etc/resolv.conf", &files.resolv_conf, access),
    ] {
        if !taken(path) {
            mounts.push(bind(source, path, &["rbind", "rprivate", access]));
        }
    }
    let mut volumes: Vec<&BindMount> = volumes.iter().collect();
    // Stable: mounts of equal depth keep the pod's order.
    volumes.sort_by_key(|mount| clean(&mount.container_path).matches('/').count());
    for mount in volumes {
        let access = if mount.read_only { "ro" } else { "rw" };
        mounts.push(bind(
            &mount.host_path,
            &mount.container_path,
            &["rbind", mount.propagation.option(), access],
        ));
    }
    if let Some((source, path)) = termination {
        mounts.push(bind(source, path, &["rbind", "rprivate", "rw"]));
    }
    mounts
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

fn clean(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

fn standard(options: MountOptions) -> Vec<Value> {
    let access = if options.privileged { "rw" } else { "ro" };
    let cgroup = if options.cgroup_v2 || options.privileged {
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", access]})
    } else {
        // v1 trees cannot be narrowed to the container without a cgroup namespace: read-only.
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]})
    };
    vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", access]}),
        cgroup,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_replace_pod_files_and_nest() {
        let mount = |path: &str| BindMount {
            host_path: "/h".into(),
            container_path: path.to_owned(),
            read_only: false,
            propagation: Propagation::None,
        };
        let options = MountOptions {
            privileged: false,
            read_only_root: false,
            cgroup_v2: false,
        };
        let volumes = [mount("/a/b/c"), mount("/etc/hosts/"), mount("/a")];
        let mounts = list(
            &PodFiles::default(),
            Some((Path::new("/t"), "/dev/termination-log")),
            &volumes,
            options,
        );
        let paths: Vec<&str> = mounts
            .iter()
            .skip(6)
            .filter_map(|m| m["destination"].as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "/dev/shm",
                "/etc/hostname",
                "/etc/resolv.conf",
                "/a",
                "/etc/hosts/",
                "/a/b/c",
                "/dev/termination-log"
            ]
        );
    }
}
