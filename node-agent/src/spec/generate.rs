//! Assembles the OCI runtime configuration of one container. Pure.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use serde_json::{Value, json};

use super::capabilities::{self, CapabilityMask};
use super::expand::expand;
use super::mounts::{self, BindMount, MountOptions, PodFiles, Propagation};
use super::resources;
use super::user::ResolvedUser;
use super::{SpecError, seccomp};
use crate::traits::ImageConfig;

/// What this host and process can give; containers never ask for more.
#[derive(Clone, Debug)]
pub struct HostFacts {
    pub bounding: CapabilityMask,
    /// The lowest oom_score_adj that this process may set.
    pub oom_score_adj_floor: i32,
    pub nofile_hard: u64,
    pub memory_bytes: i64,
    pub cgroup_v2: bool,
    /// RuntimeDefault when a pod says nothing.
    pub seccomp_default: bool,
}

/// Namespaces that the containers of a pod share; None means the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedNamespaces {
    pub network: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    pub uts: Option<PathBuf>,
}

/// The process namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidNamespace {
    Own,
    Host,
    Path(PathBuf),
}

/// A device node of the host, for privileged containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub path: String,
    pub kind: char,
    pub major: u64,
    pub minor: u64,
    pub mode: u32,
}

/// Everything about one container.
pub struct ContainerInputs<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub image: &'a ImageConfig,
    /// From `env::resolve`.
    pub env: &'a [(String, String)],
    pub user: &'a ResolvedUser,
    pub volumes: &'a [BindMount],
    pub files: &'a PodFiles,
    /// Host file bind-mounted at the container's terminationMessagePath.
    pub termination_log: PathBuf,
    pub namespaces: &'a SharedNamespaces,
    pub pid_namespace: PidNamespace,
    pub hostname: &'a str,
    pub cgroup_path: &'a str,
    pub host: &'a HostFacts,
    pub devices: &'a [Device],
    /// Content of a Localhost seccomp profile, read by the shell.
    pub localhost_seccomp: Option<Value>,
}

/// Where the container's termination message is read from by default.
pub const TERMINATION_PATH: &str = "/dev/termination-log";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration as JSON.
pub fn oci_config(inputs: &ContainerInputs<'_>) -> Result<Value, SpecError> {
    let context = inputs
        .container
        .security_context
        .clone()
        .unwrap_or_default();
    let read_only_root = context.read_only_root_filesystem == Some(true);
    let privileged = context.privileged == Some(true);
    let termination = inputs
        .container
        .termination_message_path
        .as_deref()
        .unwrap_or(TERMINATION_PATH);
    let mount_options = MountOptions {
        privileged,
        read_only_root,
        cgroup_v2: inputs.host.cgroup_v2,
    };
    let mounts = mounts::list(
        inputs.files,
        Some((&inputs.termination_log, termination)),
        inputs.volumes,
        mount_options,
    );
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process(inputs)?,
        "root": {"path": "rootfs", "readonly": read_only_root},
        "mounts": mounts,
        "linux": linux(inputs, privileged),
    }))
}

/// Command line, environment, identity and limits of the first process.
fn process(inputs: &ContainerInputs<'_>) -> Result<Value, SpecError> {
    let container = inputs.container;
    let context = container.security_context.clone().unwrap_or_default();
    let privileged = context.privileged == Some(true);
    let tty = container.tty == Some(true);
    let env = environment(inputs, tty);
    let args = command_line(inputs)?;
    let cwd = [
        container.working_dir.as_deref(),
        Some(inputs.image.working_dir.as_str()),
    ]
    .into_iter()
    .flatten()
    .find(|dir| !dir.is_empty())
    .unwrap_or("/");
    let granted = capabilities::of(Some(&context), inputs.host.bounding);
    let oom_score_adj = resources::oom_score_adj(
        inputs.pod,
        container,
        inputs.host.memory_bytes,
        inputs.host.oom_score_adj_floor,
    );
    let nofile = inputs.host.nofile_hard.min(1 << 20);
    Ok(json!({
        "terminal": tty,
        "user": {
            "uid": inputs.user.uid,
            "gid": inputs.user.gid,
            "additionalGids": inputs.user.additional_gids,
        },
        "args": args,
        "env": env,
        "cwd": cwd,
        // Nothing inheritable: a non-root process must not get capabilities through file bits.
        "capabilities": {"bounding": granted, "effective": granted, "permitted": granted},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": nofile, "hard": nofile}],
        "noNewPrivileges": context.allow_privilege_escalation == Some(false) && !privileged,
        "oomScoreAdj": oom_score_adj,
    }))
}

/// The image's variables, overlaid with the container's; `NAME=value`.
fn environment(inputs: &ContainerInputs<'_>, tty: bool) -> Vec<String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match pairs.iter_mut().find(|(known, _)| known == name)
    {
        Some(entry) => value.clone_into(&mut entry.1),
        None => pairs.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", DEFAULT_PATH);
    set("HOSTNAME", inputs.hostname);
    if tty {
        set("TERM", "xterm");
    }
    for entry in &inputs.image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    for (name, value) in inputs.env {
        set(name, value);
    }
    pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// Command and args over the image's entrypoint and cmd, with `$(VAR)` expanded from the container's own variables.
fn command_line(inputs: &ContainerInputs<'_>) -> Result<Vec<String>, SpecError> {
    let lookup = |name: &str| {
        inputs
            .env
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter()
            .flatten()
            .map(|text| expand(text, &lookup))
            .collect()
    };
    let command = expanded(&inputs.container.command);
    let args = expanded(&inputs.container.args);
    let (mut line, tail) = match (command.is_empty(), args.is_empty()) {
        (false, _) => (command, args),
        (true, false) => (inputs.image.entrypoint.clone(), args),
        (true, true) => (inputs.image.entrypoint.clone(), inputs.image.cmd.clone()),
    };
    line.extend(tail);
    if line.is_empty() {
        return Err(SpecError::Create("no command specified".to_owned()));
    }
    Ok(line)
}

fn linux(inputs: &ContainerInputs<'_>, privileged: bool) -> Value {
    let mut linux = json!({
        "cgroupsPath": inputs.cgroup_path,
        "namespaces": namespaces(inputs),
        "resources": limits(inputs, privileged),
        "rootfsPropagation": root_propagation(inputs.volumes),
    });
    let unmasked = inputs
        .container
        .security_context
        .as_ref()
        .and_then(|c| c.proc_mount.as_deref())
        == Some("Unmasked");
    if !privileged && !unmasked {
        linux["maskedPaths"] = json!([
            "/proc/asound",
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
            "/proc/interrupts",
        ]);
        linux["readonlyPaths"] = json!([
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger"
        ]);
    }
    if let Some(profile) = seccomp_profile(inputs, privileged) {
        linux["seccomp"] = profile;
    }
    if !inputs.devices.is_empty() {
        linux["devices"] = inputs
            .devices
            .iter()
            .map(|d| {
                json!({"path": d.path, "type": d.kind.to_string(), "major": d.major, "minor": d.minor,
                    "fileMode": d.mode, "uid": 0, "gid": 0})
            })
            .collect();
    }
    linux
}

/// A volume can only share its mounts with the host if the container's root does not keep them all to itself.
fn root_propagation(volumes: &[BindMount]) -> &'static str {
    let shares = |mount: &BindMount| mount.propagation == Propagation::Bidirectional;
    if volumes.iter().any(shares) {
        "rshared"
    } else {
        "rslave"
    }
}

fn namespaces(inputs: &ContainerInputs<'_>) -> Value {
    let mut list = vec![json!({"type": "mount"})];
    for (kind, path) in [
        ("network", &inputs.namespaces.network),
        ("ipc", &inputs.namespaces.ipc),
        ("uts", &inputs.namespaces.uts),
    ] {
        if let Some(path) = path {
            list.push(json!({"type": kind, "path": path}));
        }
    }
    match &inputs.pid_namespace {
        PidNamespace::Own => list.push(json!({"type": "pid"})),
        PidNamespace::Path(path) => list.push(json!({"type": "pid", "path": path})),
        PidNamespace::Host => {}
    }
    if inputs.host.cgroup_v2 {
        list.push(json!({"type": "cgroup"}));
    }
    Value::Array(list)
}

fn limits(inputs: &ContainerInputs<'_>, privileged: bool) -> Value {
    let numbers = resources::of_container(inputs.container);
    let mut cpu = json!({"shares": numbers.cpu_shares, "period": resources::CPU_PERIOD_US});
    if let Some(quota) = numbers.cpu_quota_us {
        cpu["quota"] = json!(quota);
    }
    let mut all = json!({"cpu": cpu});
    if let Some(bytes) = numbers.memory_limit_bytes {
        all["memory"] = json!({"limit": bytes});
        if inputs.host.cgroup_v2 {
            // One victim takes the whole container down, as users of Kubernetes know it.
            all["unified"] = json!({"memory.oom.group": "1"});
        }
    }
    all["devices"] = if privileged {
        json!([{"allow": true, "access": "rwm"}])
    } else {
        json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 7, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 8, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 9, "access": "rwm"},
            {"allow": true, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
            {"allow": true, "type": "c", "major": 5, "minor": 1, "access": "rwm"},
            {"allow": true, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
            {"allow": true, "type": "c", "major": 136, "access": "rwm"},
        ])
    };
    all
}

/// The profile that applies: the container's, else the pod's, else the agent's default.
pub fn effective_seccomp(pod: &Pod, container: &Container) -> Option<SeccompProfile> {
    let own = container
        .security_context
        .as_ref()
        .and_then(|c| c.seccomp_profile.clone());
    own.or_else(|| {
        pod.spec
            .as_ref()?
            .security_context
            .as_ref()?
            .seccomp_profile
            .clone()
    })
}

fn seccomp_profile(inputs: &ContainerInputs<'_>, privileged: bool) -> Option<Value> {
    if privileged {
        return None;
    }
    let granted = || {
        let names = capabilities::of(
            inputs.container.security_context.as_ref(),
            inputs.host.bounding,
        );
        capabilities::mask_of(&names)
    };
    match effective_seccomp(inputs.pod, inputs.container)
        .map(|profile| profile.type_)
        .as_deref()
    {
        Some("Unconfined") => None,
        Some("Localhost") => inputs.localhost_seccomp.clone(),
        Some("RuntimeDefault") => Some(seccomp::runtime_default(granted())),
        _ => inputs
            .host
            .seccomp_default
            .then(|| seccomp::runtime_default(granted())),
    }
}

#[cfg(test)]
mod tests;
