//! Layouts, and what is written where on v2: over a tree of plain files, which shows paths and values. What the kernel makes
//! of them is seen by the container tests, on whichever version the host has.

use super::*;

#[test]
fn layouts_are_told_apart() {
    let hybrid = "30 20 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  31 20 0:26 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
                  32 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    let cgroups = Cgroups::from_mountinfo(hybrid).expect("a layout");
    assert_eq!(
        cgroups.hybrid_mount(),
        Some(Path::new("/sys/fs/cgroup/unified"))
    );
    assert_eq!(
        cgroups.directories("/corten/p"),
        ["cpu", "memory", "unified"].map(|c| PathBuf::from(format!("/sys/fs/cgroup/{c}/corten/p")))
    );
    let v2 = "32 20 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    assert!(Cgroups::from_mountinfo(v2).expect("a layout").is_v2());
    assert_eq!(
        Cgroups::from_mountinfo("1 1 0:1 / / rw - ext4 /dev/vda rw\n"),
        None
    );
}

fn v2() -> (tempfile::TempDir, Cgroups) {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("cgroup.controllers"), "cpu memory pids\n").expect("a file");
    let root = dir.path().to_owned();
    (dir, Cgroups::V2 { root })
}

#[test]
fn v2_groups_are_made_from_the_root_down_with_controllers_handed_down() {
    let (dir, cgroups) = v2();
    cgroups.create("/corten/pod1/c").expect("made");
    cgroups.create("/corten/pod1/c").expect("twice is fine");
    assert!(dir.path().join("corten/pod1/c").is_dir());
    let handed = std::fs::read_to_string(dir.path().join("cgroup.subtree_control"));
    assert_eq!(
        handed.expect("written"),
        "+pids",
        "one write for each, the last is seen"
    );
    assert_eq!(cgroups.children("/corten"), ["pod1"]);
    assert_eq!(cgroups.hybrid_mount(), None);
}

#[test]
fn v2_limits_have_their_own_names_and_scales() {
    let (dir, cgroups) = v2();
    cgroups.create("/p").expect("made");
    let limits = GroupLimits {
        cpu_shares: Some(1024),
        cpu_quota_us: Some(20_000),
        cpu_period_us: 100_000,
        memory_bytes: Some(64 << 20),
        pids: Some(100),
    };
    cgroups.limit("/p", &limits).expect("written");
    let read = |name: &str| std::fs::read_to_string(dir.path().join("p").join(name)).expect(name);
    assert_eq!(
        ["cpu.weight", "cpu.max", "memory.max", "pids.max"].map(read),
        ["39", "20000 100000", "67108864", "100"]
    );
    let unlimited = GroupLimits {
        cpu_quota_us: Some(-1),
        ..GroupLimits::default()
    };
    cgroups.limit("/p", &unlimited).expect("written");
    assert_eq!(read("cpu.max"), "max 100000");
}

#[test]
fn limits_read_as_they_were_written() {
    let (dir, cgroups) = v2();
    cgroups.create("/p").expect("made");
    assert_eq!(
        cgroups.limits("/p"),
        cgroups.as_read(&GroupLimits::default())
    );
    let limits = GroupLimits {
        cpu_shares: Some(1000),
        cpu_quota_us: Some(2_500),
        memory_bytes: Some(10 << 10),
        ..GroupLimits::default()
    };
    cgroups.limit("/p", &limits).expect("written");
    // As the kernel shows what it was told: in whole pages.
    std::fs::write(dir.path().join("p/memory.max"), "8192\n").expect("a file");
    assert_eq!(cgroups.limits("/p"), cgroups.as_read(&limits));
    std::fs::write(dir.path().join("p/cpu.max"), "25000 50000\n").expect("a file");
    std::fs::write(dir.path().join("p/memory.max"), "max\n").expect("a file");
    let read = cgroups.limits("/p");
    assert_eq!((read.cpu_quota_us, read.memory_bytes), (Some(50_000), None));
}

#[test]
fn v1_shows_no_limit_as_a_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let controllers = ["cpu", "memory"].map(|name| (name.to_owned(), dir.path().to_owned()));
    let cgroups = Cgroups::V1 {
        controllers: controllers.into(),
        unified: None,
    };
    cgroups.create("/p").expect("made");
    for (name, text) in [
        ("cpu.shares", "512\n"),
        ("cpu.cfs_quota_us", "-1\n"),
        ("cpu.cfs_period_us", "100000\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
    ] {
        std::fs::write(dir.path().join("p").join(name), text).expect(name);
    }
    let free = GroupLimits {
        cpu_shares: Some(512),
        ..GroupLimits::default()
    };
    assert_eq!(cgroups.limits("/p"), cgroups.as_read(&free));
}

#[test]
fn v2_counters_and_kills() {
    let (dir, cgroups) = v2();
    cgroups.create("/p/c").expect("made");
    let group = dir.path().join("p/c");
    for (name, text) in [
        (
            "memory.events",
            "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 1\n",
        ),
        ("memory.current", "5000\n"),
        ("memory.stat", "anon 1000\ninactive_file 2000\n"),
        ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
        ("pids.current", "3\n"),
        ("cgroup.procs", "0\n"),
        ("cgroup.kill", ""),
    ] {
        std::fs::write(group.join(name), text).expect(name);
    }
    assert_eq!(cgroups.oom_kills("/p/c"), 1);
    let stats = cgroups.stats("/p/c");
    assert_eq!(
        (
            stats.cpu_usage_nanos,
            stats.memory_usage_bytes,
            stats.memory_working_set_bytes,
            stats.pids
        ),
        (1_500_000, 5000, 3000, 3)
    );
    assert_eq!(
        cgroups.kill_all("/p/c"),
        0,
        "0 is a process of another namespace"
    );
    let killed = std::fs::read_to_string(group.join("cgroup.kill"));
    assert_eq!(killed.expect("written"), "1");
}
