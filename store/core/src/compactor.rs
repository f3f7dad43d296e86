//! When to compact by itself, and to where: by age of history, or by number of revisions kept.
//! Not the compaction; and no clock: time is passed in.
//! Invariant: what is younger than the retention is never given up, whoever led when it was written.

use std::{collections::VecDeque, time::Duration};

use crate::{ids::Revision, lessor::Elapsed};

/// What history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// All of it, until somebody compacts.
    #[default]
    All,
    /// What is younger than this.
    Age(Duration),
    /// This many revisions.
    Revisions(u64),
}

/// Looks per period of age: history is kept for at most a tenth longer than asked.
const LOOKS_PER_PERIOD: u32 = 10;
/// How often revisions are counted; as etcd does.
const REVISIONS_EVERY: Duration = Duration::from_secs(5 * 60);
/// Not more often than this, however short the retention.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Decides on the leader; a new leader begins with nothing remembered, and so keeps history for longer, never shorter.
#[derive(Debug)]
pub struct Compactor {
    retention: Retention,
    /// Revisions that were the newest at some time, oldest first.
    seen: VecDeque<(Elapsed, Revision)>,
    /// Where it compacted last.
    last: Revision,
}

impl Compactor {
    /// One that has seen nothing.
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            seen: VecDeque::new(),
            last: Revision::ZERO,
        }
    }

    /// How often it wants to look; none if it never compacts.
    pub fn interval(&self) -> Option<Duration> {
        match self.retention {
            Retention::All => None,
            Retention::Age(age) => Some((age / LOOKS_PER_PERIOD).max(EVERY_MIN)),
            Retention::Revisions(_) => Some(REVISIONS_EVERY),
        }
    }

    /// Forgets what it has seen: this member does not lead.
    pub fn reset(&mut self) {
        self.seen.clear();
    }

    /// Looks at the newest revision. Gives where to compact to, if that is further than before.
    pub fn look(&mut self, now: Elapsed, newest: Revision) -> Option<Revision> {
        let target = match self.retention {
            Retention::All => None,
            Retention::Revisions(kept) => {
                let kept = i64::try_from(kept).unwrap_or(i64::MAX);
                Some(Revision::new(newest.get().saturating_sub(kept)))
            }
            Retention::Age(age) => {
                self.seen.push_back((now, newest));
                let old = self
                    .seen
                    .partition_point(|(at, _)| now.saturating_sub(*at) >= age);
                self.seen
                    .drain(..old)
                    .next_back()
                    .map(|(_, revision)| revision)
            }
        };
        let target = target.filter(|target| *target > self.last)?;
        self.last = target;
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    fn revision(number: i64) -> Revision {
        Revision::new(number)
    }

    #[test]
    fn by_age_it_gives_up_what_was_old_enough_then() {
        let mut compactor = Compactor::new(Retention::Age(minutes(10)));
        assert_eq!(compactor.interval(), Some(minutes(1)));
        for minute in 0..10 {
            let newest = revision(100 + i64::try_from(minute).unwrap());
            assert_eq!(compactor.look(minutes(minute), newest), None);
        }
        assert_eq!(
            compactor.look(minutes(10), revision(200)),
            Some(revision(100))
        );
        assert_eq!(
            compactor.look(minutes(12), revision(200)),
            Some(revision(102))
        );
        compactor.reset();
        assert_eq!(compactor.look(minutes(20), revision(300)), None);
        assert_eq!(compactor.look(minutes(29), revision(300)), None);
        assert_eq!(
            compactor.look(minutes(30), revision(301)),
            Some(revision(300))
        );
        assert_eq!(
            compactor.look(minutes(40), revision(301)),
            Some(revision(301))
        );
        assert_eq!(
            compactor.look(minutes(50), revision(301)),
            None,
            "an idle store needs no compaction"
        );
    }

    #[test]
    fn by_number_it_keeps_so_many() {
        let mut compactor = Compactor::new(Retention::Revisions(1000));
        assert_eq!(compactor.look(minutes(0), revision(900)), None);
        assert_eq!(
            compactor.look(minutes(5), revision(1500)),
            Some(revision(500))
        );
        assert_eq!(compactor.look(minutes(10), revision(1500)), None);
        assert_eq!(Compactor::new(Retention::All).interval(), None);
    }
}
