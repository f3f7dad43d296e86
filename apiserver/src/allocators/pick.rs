//! Choosing a free address or port.
//!
//! Invariant: numbers that nobody asked for come from the upper part of a range first, so that the lower part stays for
//! people who choose their own.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use rand::Rng;
use serde_json::Value;

use crate::cache::Snapshot;

/// Guesses before the range is searched from one end.
const GUESSES: usize = 32;

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl Default for PortRange {
    fn default() -> Self {
        Self {
            first: 30_000,
            last: 32_767,
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// Text that is no port range.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a port range such as 30000-32767")]
pub struct PortRangeError(String);

impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.split_once('-').and_then(|(first, last)| {
            Some(Self {
                first: first.trim().parse().ok()?,
                last: last.trim().parse().ok()?,
            })
        });
        range
            .filter(|range| range.first > 0 && range.first <= range.last)
            .ok_or_else(|| PortRangeError(text.to_owned()))
    }
}

impl PortRange {
    pub(super) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// A port that is not used, as far as known.
    pub(super) fn free(self, used: impl Fn(u16) -> bool) -> Option<u16> {
        let size = u64::from(self.last - self.first) + 1;
        let to_port = |offset: u64| self.first + u16::try_from(offset).unwrap_or(0);
        let free = |offset: &u64| !used(to_port(*offset));
        pick(size, reserved(size, 16, 128, 32), free).map(to_port)
    }
}

/// An address that is not used, as far as known. Network, broadcast and first address (the API server's) are left out.
pub(super) fn free_ip(range: Ipv4Net, used: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let base = u64::from(u32::from(range.network()));
    let size = 1_u64 << (32 - range.prefix_len());
    // Offset 0 of the choice is the second address.
    let choice = size.saturating_sub(3);
    let to_ip = |offset: u64| Ipv4Addr::from(u32::try_from(base + 2 + offset).unwrap_or(u32::MAX));
    let free = |offset: &u64| !used(to_ip(*offset));
    pick(choice, reserved(size, 16, 256, 16), free).map(to_ip)
}

/// How many numbers at the lower end are left for people: the range's sixteenth or so, within bounds.
fn reserved(size: u64, low: u64, high: u64, step: u64) -> u64 {
    if size <= low {
        return 0;
    }
    (size / step).clamp(low, high)
}

/// A free offset below `size`, from the upper part if possible.
fn pick(size: u64, reserved: u64, free: impl Fn(&u64) -> bool) -> Option<u64> {
    if size == 0 {
        return None;
    }
    let reserved = reserved.min(size - 1);
    let mut random = rand::rng();
    let guessed = (0..GUESSES)
        .map(|_| random.random_range(reserved..size))
        .find(&free);
    guessed.or_else(|| (reserved..size).chain(0..reserved).find(free))
}

pub(super) fn ports_in_use(services: &Snapshot) -> HashSet<u16> {
    let exposed = services
        .iter()
        .filter(|item| item.field("spec.type") != Some("ClusterIP"));
    let ports = |item: &std::sync::Arc<crate::cache::Item>| {
        let value: Value = item.value();
        super::node_ports(&value)
            .map(|(_, port)| port)
            .collect::<Vec<_>>()
    };
    exposed.flat_map(ports).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_from_the_upper_part_until_it_is_full() {
        let range: Ipv4Net = "10.96.0.0/24".parse().unwrap();
        for _ in 0..200 {
            let ip = free_ip(range, |_| false).unwrap();
            assert!(ip.octets()[3] >= 18 && ip.octets()[3] < 255, "{ip}");
        }
        let low = free_ip(range, |ip| ip.octets()[3] > 9).unwrap();
        assert!(low.octets()[3] >= 2 && low.octets()[3] <= 9, "{low}");
        assert_eq!(free_ip(range, |_| true), None);
        assert_eq!(
            free_ip("10.0.0.0/30".parse().unwrap(), |_| false),
            Some(Ipv4Addr::new(10, 0, 0, 2))
        );
    }

    #[test]
    fn port_ranges_are_read_and_kept() {
        let range: PortRange = "30000-30001".parse().unwrap();
        assert_eq!(range.free(|port| port == 30_000), Some(30_001));
        assert_eq!(range.free(|_| true), None);
        for bad in ["30000", "5-3", "0-7", "a-b"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}
