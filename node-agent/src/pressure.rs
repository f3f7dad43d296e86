//! Whether this node runs short of memory, disk, inodes or process ids. Observing is reading the host; what an observation
//! means is pure. Nothing is done about it here: see `eviction`.

use std::path::Path;
use std::time::Duration;

use crate::cgroup::Cgroups;
use crate::host;

/// From when on the node is short of something. The defaults are upstream's, where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory that must be available.
    pub memory_bytes: i64,
    /// Part of the disk that must be free.
    pub disk_percent: i64,
    /// Part of the inodes that must be free.
    pub inodes_percent: i64,
    /// Part of the process ids that must be free.
    pub pids_percent: i64,
    /// A shortage is shown for this long after it was last seen, so that the condition does not flap.
    pub hold: Duration,
}

/// All of something, and what is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub all: i64,
    pub left: i64,
}

impl Share {
    /// Whether less than this many percent are left. What cannot be counted is never short.
    fn is_short(self, percent: i64) -> bool {
        self.all > 0 && self.left.saturating_mul(100) < self.all.saturating_mul(percent)
    }
}

/// The state of the node at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What the host could still give, or what pods have left of their allocatable memory, whichever is less.
    pub memory_available: i64,
    pub disk: Share,
    pub inodes: Share,
    pub pids: Share,
}

impl Observed {
    /// Reads the host. `pods` is the group of all pods, `allocatable` what they may use together.
    pub fn now(data_dir: &Path, cgroups: &Cgroups, pods: &str, allocatable: i64) -> Self {
        let used = cgroups.stats(pods).memory_working_set_bytes;
        let left = allocatable.saturating_sub(i64::try_from(used).unwrap_or(i64::MAX));
        let (disk, inodes) = host::disk_and_inodes(data_dir);
        Self {
            memory_available: host::memory_available_bytes().min(left),
            disk,
            inodes,
            pids: host::process_ids(),
        }
    }
}

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

impl Pressures {
    /// What is short right now.
    pub fn of(observed: &Observed, limits: &Limits) -> Self {
        Self {
            memory: observed.memory_available < limits.memory_bytes,
            disk: observed.disk.is_short(limits.disk_percent)
                || observed.inodes.is_short(limits.inodes_percent),
            pids: observed.pids.is_short(limits.pids_percent),
        }
    }
}

/// Remembers when each shortage was last seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauge {
    seen: [Option<Duration>; 3],
}

impl Gauge {
    /// What is to be shown, given what is short now.
    pub fn shown(&mut self, short: Pressures, hold: Duration, now: Duration) -> Pressures {
        let mut one = |at: usize, short: bool| {
            if short {
                self.seen[at] = Some(now);
            }
            self.seen[at].is_some_and(|seen| short || now.saturating_sub(seen) < hold)
        };
        Pressures {
            memory: one(0, short.memory),
            disk: one(1, short.disk),
            pids: one(2, short.pids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory_bytes: 100,
        disk_percent: 10,
        inodes_percent: 5,
        pids_percent: 5,
        hold: Duration::from_secs(300),
    };

    fn share(all: i64, left: i64) -> Share {
        Share { all, left }
    }

    #[test]
    fn each_shortage_is_told_apart() {
        let fine = Observed {
            memory_available: 100,
            disk: share(1000, 100),
            inodes: share(1000, 50),
            pids: share(100, 5),
        };
        assert_eq!(Pressures::of(&fine, &LIMITS), Pressures::default());
        let of = |change: fn(&mut Observed)| {
            let mut observed = fine;
            change(&mut observed);
            let short = Pressures::of(&observed, &LIMITS);
            (short.memory, short.disk, short.pids)
        };
        assert_eq!(of(|o| o.memory_available = 99), (true, false, false));
        assert_eq!(of(|o| o.disk.left = 99), (false, true, false));
        assert_eq!(of(|o| o.inodes.left = 49), (false, true, false));
        assert_eq!(of(|o| o.pids.left = 4), (false, false, true));
        // File systems without a fixed number of inodes (btrfs) say 0 of 0.
        assert_eq!(of(|o| o.inodes = share(0, 0)), (false, false, false));
    }

    #[test]
    fn a_shortage_is_shown_a_while_longer() {
        let mut gauge = Gauge::default();
        let short = Pressures {
            memory: true,
            ..Pressures::default()
        };
        let at = Duration::from_secs;
        let mut shown = |short, now| gauge.shown(short, LIMITS.hold, at(now)).memory;
        assert!(!shown(Pressures::default(), 1));
        assert!(shown(short, 10));
        assert!(shown(Pressures::default(), 309));
        assert!(!shown(Pressures::default(), 310));
    }

    #[test]
    fn this_host_can_be_read() {
        let (disk, _) = host::disk_and_inodes(Path::new("/"));
        let pids = host::process_ids();
        assert!(disk.all > disk.left && disk.left > 0, "{disk:?}");
        assert!(pids.all > pids.left && pids.left > 0, "{pids:?}");
    }
}
