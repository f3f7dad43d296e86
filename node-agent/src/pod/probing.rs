//! When a probe is due and what its results add up to. Pure: how a probe is carried out is `crate::probe`'s business.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// Which question a probe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// The word in events.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// One probe of one run of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeMachine {
    pub kind: ProbeKind,
    pub probe: Probe,
    due: Duration,
    in_flight: bool,
    successes: i32,
    failures: i32,
    /// The verdict so far; None before any threshold was reached.
    pub verdict: Option<bool>,
}

fn seconds(value: Option<i32>, default: i32) -> Duration {
    Duration::from_secs(u64::try_from(value.filter(|v| *v > 0).unwrap_or(default)).unwrap_or(1))
}

impl ProbeMachine {
    /// A probe of a container that started at `started`, first due after its initial delay.
    pub fn new(kind: ProbeKind, probe: &Probe, started: Duration) -> Self {
        let delay = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        Self {
            kind,
            probe: probe.clone(),
            due: started + Duration::from_secs(delay),
            in_flight: false,
            successes: 0,
            failures: 0,
            verdict: None,
        }
    }

    /// Marks a run as begun when one is due.
    pub fn begin_if_due(&mut self, now: Duration) -> bool {
        if self.in_flight || now < self.due {
            return false;
        }
        self.in_flight = true;
        self.due = now + seconds(self.probe.period_seconds, 10);
        true
    }

    /// When to look again; None while a run is under way.
    pub fn next_due(&self) -> Option<Duration> {
        (!self.in_flight).then_some(self.due)
    }

    /// Takes a result; true when the verdict was reached or changed by it.
    pub fn result(&mut self, ok: bool) -> bool {
        self.in_flight = false;
        let before = self.verdict;
        if ok {
            self.failures = 0;
            self.successes += 1;
            if self.successes >= self.probe.success_threshold.unwrap_or(1).max(1) {
                self.verdict = Some(true);
            }
        } else {
            self.successes = 0;
            self.failures += 1;
            if self.failures >= self.failure_threshold() {
                self.verdict = Some(false);
            }
        }
        before != self.verdict
    }

    fn failure_threshold(&self) -> i32 {
        self.probe.failure_threshold.filter(|v| *v > 0).unwrap_or(3)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thresholds_and_timing() {
        let probe: Probe = serde_json::from_value(json!(
            {"initialDelaySeconds": 5, "periodSeconds": 2, "failureThreshold": 2, "successThreshold": 2}
        ))
        .expect("a probe");
        let at = Duration::from_secs;
        let mut machine = ProbeMachine::new(ProbeKind::Readiness, &probe, at(10));
        assert!(!machine.begin_if_due(at(14)));
        assert!(machine.begin_if_due(at(15)));
        assert!(!machine.begin_if_due(at(20)), "one at a time");
        assert!(!machine.result(true));
        assert_eq!(machine.next_due(), Some(at(17)));
        assert!(machine.result(true));
        assert!(!machine.result(false));
        assert_eq!(machine.verdict, Some(true));
        assert!(machine.result(false));
        assert_eq!(machine.verdict, Some(false));
    }
}
