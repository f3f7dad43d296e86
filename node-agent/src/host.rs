//! Facts of this host and process: capacity, limits, capabilities, addresses. Reads only; nothing is changed here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use crate::cgroup::Cgroups;
use crate::pressure::Share;
use crate::spec::capabilities::CapabilityMask;
use crate::spec::generate::{Device, HostFacts};

/// What the node has, in base units (milli-CPU, bytes, counts).
pub type Capacity = BTreeMap<String, i64>;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What containers can be given by this process.
pub fn facts(cgroups: &Cgroups, seccomp_default: bool) -> HostFacts {
    let status = read("/proc/self/status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = CapabilityMask(
        effective
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .unwrap_or(0),
    );
    // Without CAP_SYS_RESOURCE the score can only go up from where we are.
    let oom_score_adj_floor = if effective.has("SYS_RESOURCE") {
        -1000
    } else {
        read("/proc/self/oom_score_adj").trim().parse().unwrap_or(0)
    };
    let (_, nofile_hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .unwrap_or((1024, 1024));
    HostFacts {
        bounding: CapabilityMask::bounding_of(&status),
        oom_score_adj_floor,
        nofile_hard,
        memory_bytes: memory_bytes(),
        cgroup_v2: cgroups.is_v2(),
        seccomp_default,
    }
}

/// Total memory of the host.
pub fn memory_bytes() -> i64 {
    meminfo("MemTotal:")
}

/// Memory that could be given to new processes.
pub fn memory_available_bytes() -> i64 {
    meminfo("MemAvailable:")
}

fn meminfo(key: &str) -> i64 {
    let text = read("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap_or("");
    let kib: i64 = line
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .unwrap_or(0);
    kib * 1024
}

/// Space and inodes of the file system that holds a path.
pub fn disk_and_inodes(path: &Path) -> (Share, Share) {
    let share = |all: u64, left: u64, size: u64| {
        let count = |n: u64| i64::try_from(n.saturating_mul(size)).unwrap_or(i64::MAX);
        Share {
            all: count(all),
            left: count(left),
        }
    };
    nix::sys::statvfs::statvfs(path).map_or_else(
        |_| Default::default(),
        |stat| {
            (
                share(stat.blocks(), stat.blocks_available(), stat.fragment_size()),
                share(stat.files(), stat.files_available(), 1),
            )
        },
    )
}

/// Process ids: as many as the tighter of the kernel's two limits allows, less the threads that exist.
pub fn process_ids() -> Share {
    let limit = |path: &str| read(path).trim().parse::<i64>().unwrap_or(i64::MAX);
    let all = limit("/proc/sys/kernel/pid_max").min(limit("/proc/sys/kernel/threads-max"));
    // The fourth field is running/existing.
    let load = read("/proc/loadavg");
    let existing = load.split_whitespace().nth(3);
    let existing = existing.and_then(|text| text.split_once('/')?.1.parse::<i64>().ok());
    Share {
        all,
        left: all.saturating_sub(existing.unwrap_or(0)),
    }
}

/// CPU, memory, pods and local storage of this host.
pub fn capacity(data_dir: &Path, max_pods: i64) -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    BTreeMap::from([
        ("cpu".to_owned(), i64::try_from(cpus).unwrap_or(1) * 1000),
        ("memory".to_owned(), memory_bytes()),
        (
            "ephemeral-storage".to_owned(),
            disk_and_inodes(data_dir).0.all,
        ),
        ("pods".to_owned(), max_pods),
    ])
}

/// The address of the interface with the default route; loopback when there is none.
pub fn primary_address() -> IpAddr {
    let candidates = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let default_link = read("/proc/net/route")
        .lines()
        .skip(1)
        .map(|line| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .find(|fields| {
            fields
                .get(1)
                .is_some_and(|destination| destination == "00000000")
        })
        .and_then(|fields| fields.first().cloned());
    let mut best: Option<(u8, IpAddr)> = None;
    for interface in candidates {
        let Some(address) = interface
            .address
            .and_then(|a| a.as_sockaddr_in().map(|a| a.ip()))
        else {
            continue;
        };
        if address.is_loopback() {
            continue;
        }
        let rank = u8::from(Some(&interface.interface_name) != default_link.as_ref());
        if best.is_none_or(|(known, _)| rank < known) {
            best = Some((rank, IpAddr::V4(address)));
        }
    }
    best.map_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), |(_, address)| {
        address
    })
}

/// The device nodes of the host, for privileged containers.
pub fn devices() -> Vec<Device> {
    let mut found = Vec::new();
    collect_devices(Path::new("/dev"), &mut found);
    found
}

fn collect_devices(directory: &Path, found: &mut Vec<Device>) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    // Each container has its own terminals, memory and queues.
    const OWN: [&str; 6] = [
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/dev/console",
        "/dev/ptmx",
        "/dev/fd",
    ];
    for entry in std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let path = entry.path();
        let (Some(text), Ok(meta)) = (path.to_str(), std::fs::symlink_metadata(&path)) else {
            continue;
        };
        if OWN.contains(&text) {
            continue;
        }
        let kind = meta.file_type();
        if kind.is_dir() {
            collect_devices(&path, found);
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(Device {
                path: text.to_owned(),
                kind: if kind.is_char_device() { 'c' } else { 'b' },
                major: nix::sys::stat::major(meta.rdev()),
                minor: nix::sys::stat::minor(meta.rdev()),
                mode: meta.mode() & 0o7777,
            });
        }
    }
}

/// Kernel release and distribution, as nodeInfo shows them.
pub fn kernel_and_os() -> (String, String) {
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let release = read("/etc/os-release");
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    (
        kernel,
        name.map(|name| name.trim_matches('"').to_owned())
            .unwrap_or_else(|| "Linux".to_owned()),
    )
}

/// Identities that do not change while the host lives.
pub fn machine_ids() -> (String, String, String) {
    let machine = read("/etc/machine-id").trim().to_owned();
    let uuid = read("/sys/class/dmi/id/product_uuid").trim().to_owned();
    let system = if uuid.is_empty() {
        machine.clone()
    } else {
        uuid
    };
    (machine, system, crate::supervisor::record::boot_id())
}
