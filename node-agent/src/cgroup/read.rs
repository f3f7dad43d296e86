//! The limits that a group has now, in the same numbers in which they are asked for.
//!
//! Invariant: what was asked for, once written, reads as [`Cgroups::as_read`] says; a difference is somebody else's doing.

use std::path::Path;

use super::convert::cpu_shares_of_weight;
use super::{Cgroups, GroupLimits, PERIOD_US, cpu_weight_of_shares};

/// v1 shows "no limit" as the largest number of whole pages.
const UNLIMITED: i64 = i64::MAX - 0xffff;
/// The kernel counts memory in pages, and rounds limits down.
const PAGE: i64 = 4096;

impl Cgroups {
    /// Reads the limits of a group. What cannot be read counts as not limited.
    pub fn limits(&self, path: &str) -> GroupLimits {
        let text = |controller: &str, name: &str| {
            let file = self.file(controller, path, name)?;
            read(&file)
        };
        let number = |controller: &str, name: &str| text(controller, name)?.parse::<i64>().ok();
        let (shares, quota, period, memory) = if self.is_v2() {
            let weight = number("cpu", "cpu.weight").and_then(|w| u64::try_from(w).ok());
            let max = text("cpu", "cpu.max").unwrap_or_default();
            let (quota, period) = max.split_once(' ').unwrap_or((&max, ""));
            (
                weight.map(cpu_shares_of_weight),
                quota.parse().ok(),
                period.parse().ok(),
                number("memory", "memory.max"),
            )
        } else {
            let shares = number("cpu", "cpu.shares").and_then(|s| u64::try_from(s).ok());
            (
                shares,
                number("cpu", "cpu.cfs_quota_us"),
                number("cpu", "cpu.cfs_period_us"),
                number("memory", "memory.limit_in_bytes"),
            )
        };
        GroupLimits {
            cpu_shares: shares,
            cpu_quota_us: quota
                .filter(|quota| *quota > 0)
                .map(|quota| per_period(quota, period)),
            cpu_period_us: PERIOD_US,
            memory_bytes: memory.filter(|bytes| *bytes < UNLIMITED),
            pids: None,
        }
    }

    /// How limits read once they are written.
    pub fn as_read(&self, wanted: &GroupLimits) -> GroupLimits {
        let weighed = |shares| cpu_shares_of_weight(cpu_weight_of_shares(shares));
        let v2 = self.is_v2();
        GroupLimits {
            cpu_shares: wanted
                .cpu_shares
                .map(|shares| if v2 { weighed(shares) } else { shares }),
            cpu_quota_us: wanted.cpu_quota_us.filter(|quota| *quota > 0),
            cpu_period_us: PERIOD_US,
            memory_bytes: wanted.memory_bytes.map(|bytes| bytes / PAGE * PAGE),
            pids: None,
        }
    }
}

fn read(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned())
}

/// A quota of another period, in ours.
fn per_period(quota: i64, period: Option<i64>) -> i64 {
    let ours = i64::try_from(PERIOD_US).unwrap_or(i64::MAX);
    match period {
        Some(period) if period > 0 && period != ours => quota.saturating_mul(ours) / period,
        _ => quota,
    }
}
