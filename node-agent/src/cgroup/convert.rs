//! Numbers of CPU requests in the two cgroup versions. Pure.

/// CPU shares of a request in milli-CPU (v1's scale, minimum 2).
pub fn cpu_shares(milli_cpu: i64) -> u64 {
    let milli = u64::try_from(milli_cpu).unwrap_or(0);
    (milli * 1024 / 1000).clamp(2, 262_144)
}

/// The v2 weight for v1 shares, by the linear map that runc 1.1 and crun 1.8 use.
pub fn cpu_weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// The fewest v1 shares that have this weight, so that the way back gives the same weight.
pub(super) fn cpu_shares_of_weight(weight: u64) -> u64 {
    2 + ((weight.clamp(1, 10_000) - 1) * 262_142).div_ceil(9999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points() {
        assert_eq!(
            [cpu_shares(0), cpu_shares(100), cpu_shares(1000)],
            [2, 102, 1024]
        );
        assert_eq!(
            [2, 1024, 262_144].map(cpu_weight_of_shares),
            [1, 39, 10_000]
        );
        for weight in 1..=10_000 {
            let shares = cpu_shares_of_weight(weight);
            assert_eq!(cpu_weight_of_shares(shares), weight);
        }
    }
}
