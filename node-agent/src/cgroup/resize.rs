//! In which order the groups of a pod and of its containers change their size, and when memory cannot be taken away. Pure.
//!
//! Invariant: at no moment is a container allowed more than its pod. So the pod grows first and shrinks last, and containers
//! that shrink go before those that grow.

use super::GroupLimits;

/// A group whose limits change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The container; empty for the pod's own group.
    pub name: String,
    pub path: String,
    /// As they read now, and as they will read.
    pub from: GroupLimits,
    pub to: GroupLimits,
}

/// One write: of a group, only what is some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub path: String,
    pub limits: GroupLimits,
}

/// A limit that goes up. No limit is the highest there is, and is never asked for: limits are not removed.
fn grows<T: Ord>(from: Option<T>, to: Option<T>) -> bool {
    matches!((from, to), (Some(from), Some(to)) if to > from)
}

fn shrinks<T: Ord>(from: Option<T>, to: Option<T>) -> bool {
    match (from, to) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(from), Some(to)) => to < from,
    }
}

impl Change {
    fn step(&self, limits: GroupLimits) -> Step {
        let limits = GroupLimits {
            cpu_period_us: self.to.cpu_period_us,
            ..limits
        };
        Step {
            path: self.path.clone(),
            limits,
        }
    }

    fn memory(&self) -> Step {
        self.step(GroupLimits {
            memory_bytes: self.to.memory_bytes,
            ..GroupLimits::default()
        })
    }

    fn quota(&self) -> Step {
        self.step(GroupLimits {
            cpu_quota_us: self.to.cpu_quota_us,
            ..GroupLimits::default()
        })
    }

    fn shares(&self) -> Step {
        self.step(GroupLimits {
            cpu_shares: self.to.cpu_shares,
            ..GroupLimits::default()
        })
    }

    /// Everything of the cpu that differs, in one write.
    fn cpu(&self) -> Step {
        let (from, to) = (&self.from, &self.to);
        self.step(GroupLimits {
            cpu_shares: to.cpu_shares.filter(|_| from.cpu_shares != to.cpu_shares),
            cpu_quota_us: to
                .cpu_quota_us
                .filter(|_| from.cpu_quota_us != to.cpu_quota_us),
            ..GroupLimits::default()
        })
    }

    /// Whether less cpu is wanted; by the limit first.
    fn cpu_shrinks(&self) -> bool {
        let (from, to) = (&self.from, &self.to);
        shrinks(from.cpu_quota_us, to.cpu_quota_us)
            || !grows(from.cpu_quota_us, to.cpu_quota_us) && to.cpu_shares < from.cpu_shares
    }
}

/// The writes that bring a pod and its containers from their present size to the wanted one.
pub fn steps(pod: &Change, containers: &[Change]) -> Vec<Step> {
    let (from, to) = (&pod.from, &pod.to);
    let mut steps = Vec::new();
    let mut when = |due: bool, step: Step| {
        if due {
            steps.push(step);
        }
    };
    when(grows(from.memory_bytes, to.memory_bytes), pod.memory());
    for is_turn in [shrinks::<i64>, grows::<i64>] {
        for container in containers {
            let due = is_turn(container.from.memory_bytes, container.to.memory_bytes);
            when(due, container.memory());
        }
    }
    when(shrinks(from.memory_bytes, to.memory_bytes), pod.memory());
    when(grows(from.cpu_quota_us, to.cpu_quota_us), pod.quota());
    when(grows(from.cpu_shares, to.cpu_shares), pod.shares());
    for shrinking in [true, false] {
        for container in containers {
            let step = container.cpu();
            let differs = step.limits.cpu_shares.is_some() || step.limits.cpu_quota_us.is_some();
            when(differs && container.cpu_shrinks() == shrinking, step);
        }
    }
    when(shrinks(from.cpu_shares, to.cpu_shares), pod.shares());
    when(shrinks(from.cpu_quota_us, to.cpu_quota_us), pod.quota());
    steps
}

/// Why memory cannot be taken away: more is in use than would be left. `used` is by path.
pub fn too_small(
    pod: &Change,
    containers: &[Change],
    used: impl Fn(&str) -> u64,
) -> Option<String> {
    let below = |change: &Change| {
        let wanted = change.to.memory_bytes?;
        let used = used(&change.path);
        let lowered = shrinks(change.from.memory_bytes, change.to.memory_bytes);
        let what = match change.name.as_str() {
            "" => "pod".to_owned(),
            name => format!("container {name:?}"),
        };
        (lowered && i64::try_from(used).unwrap_or(i64::MAX) >= wanted).then(|| {
            format!("attempting to set {what} memory limit ({wanted}) below current usage ({used})")
        })
    };
    let all = std::iter::once(pod).chain(containers);
    let causes: Vec<String> = all.filter_map(below).collect();
    let causes = match &causes[..] {
        [] => return None,
        [cause] => cause.clone(),
        causes => format!("[{}]", causes.join(", ")),
    };
    Some(format!("cannot decrease memory limits: {causes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sizes = (u64, Option<i64>, Option<i64>);

    fn limits((shares, quota, memory): Sizes) -> GroupLimits {
        GroupLimits {
            cpu_shares: Some(shares),
            cpu_quota_us: quota,
            memory_bytes: memory,
            ..GroupLimits::default()
        }
    }

    fn change(name: &str, from: Sizes, to: Sizes) -> Change {
        Change {
            name: name.to_owned(),
            path: format!("pod/{name}"),
            from: limits(from),
            to: limits(to),
        }
    }

    fn written(pod: &Change, containers: &[Change]) -> Vec<String> {
        let words = |step: &Step| {
            let limits = step.limits;
            let word =
                |name: &str, value: Option<i64>| value.map(|value| format!(" {name}={value}"));
            let shares = limits
                .cpu_shares
                .and_then(|shares| i64::try_from(shares).ok());
            let words = [
                word("shares", shares),
                word("quota", limits.cpu_quota_us),
                word("memory", limits.memory_bytes),
            ];
            format!(
                "{}{}",
                step.path,
                words.into_iter().flatten().collect::<String>()
            )
        };
        steps(pod, containers).iter().map(words).collect()
    }

    #[test]
    fn the_pod_grows_first_and_shrinks_last() {
        let grow = change("", (10, Some(100), Some(100)), (20, Some(200), Some(200)));
        let small = change("a", (4, Some(40), Some(40)), (2, Some(20), Some(20)));
        let large = change("b", (4, Some(40), Some(40)), (8, Some(80), Some(80)));
        let expected = [
            "pod/ memory=200",
            "pod/a memory=20",
            "pod/b memory=80",
            "pod/ quota=200",
            "pod/ shares=20",
            "pod/a shares=2 quota=20",
            "pod/b shares=8 quota=80",
        ];
        assert_eq!(written(&grow, &[large.clone(), small.clone()]), expected);
        let shrink = change("", (20, Some(200), Some(200)), (10, Some(100), Some(100)));
        let expected = [
            "pod/a memory=20",
            "pod/b memory=80",
            "pod/ memory=100",
            "pod/a shares=2 quota=20",
            "pod/b shares=8 quota=80",
            "pod/ shares=10",
            "pod/ quota=100",
        ];
        assert_eq!(written(&shrink, &[large, small]), expected);
    }

    #[test]
    fn only_what_differs_is_written() {
        let same = (4, Some(40), None);
        let pod = change("", (4, None, None), (4, None, Some(50)));
        assert_eq!(
            written(&pod, &[change("a", same, same)]),
            ["pod/ memory=50"]
        );
        // A limit where there was none takes something away; one that is not asked for stays.
        let limited = change("a", (4, None, Some(9)), (5, Some(40), None));
        let pod = change("", (4, None, Some(9)), (5, None, None));
        assert_eq!(
            written(&pod, &[limited]),
            ["pod/ shares=5", "pod/a shares=5 quota=40"]
        );
    }

    #[test]
    fn memory_in_use_is_not_taken_away() {
        let cpu = (4, None);
        let of = |name: &str, from, to| change(name, (cpu.0, cpu.1, from), (cpu.0, cpu.1, to));
        let used = |path: &str| if path == "pod/" { 70 } else { 35 };
        let pod = of("", Some(100), Some(71));
        assert_eq!(too_small(&pod, &[of("a", Some(50), Some(36))], used), None);
        assert_eq!(too_small(&pod, &[of("a", Some(10), Some(35))], used), None);
        assert_eq!(
            too_small(&pod, &[of("a", None, Some(35))], used).expect("a cause"),
            "cannot decrease memory limits: attempting to set container \"a\" memory limit (35) below current usage (35)"
        );
        assert_eq!(
            too_small(
                &of("", None, Some(70)),
                &[of("a", Some(40), Some(10))],
                used
            )
            .expect("causes"),
            "cannot decrease memory limits: [attempting to set pod memory limit (70) below current usage (70), \
             attempting to set container \"a\" memory limit (10) below current usage (35)]"
        );
    }
}
