//! Which scheduled time is due, and which comes next. Pure.

use corten_api::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// More missed times than this are told. Upstream's number.
const MISSED_MAX: i64 = 100;

/// A schedule seen from a point in time.
pub(super) struct Moments<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) zone: &'a TimeZone,
    /// From when on times count.
    pub(super) since: Timestamp,
    pub(super) now: Timestamp,
}

/// A time that has come and is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    /// Whether suspiciously many were missed before it.
    pub(super) many_missed: bool,
}

/// The schedule fits no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time difference between two schedules is less than 1 second")]
pub(super) struct NeverError;

pub(super) fn seconds(time: Timestamp, seconds: i64) -> Result<Timestamp, jiff::Error> {
    time.checked_add(SignedDuration::from_secs(seconds))
}

impl Moments<'_> {
    fn after(&self, time: Timestamp) -> Option<Timestamp> {
        self.schedule.next_after(time, self.zone)
    }

    /// The last time up to now, of those that count and may still be served.
    pub(super) fn due(&self, deadline: Option<i64>) -> Result<Option<Due>, NeverError> {
        let oldest = deadline.and_then(|max| seconds(self.now, max.checked_neg()?).ok());
        let since = oldest.map_or(self.since, |oldest| oldest.max(self.since));
        self.last_since(since)
    }

    fn last_since(&self, since: Timestamp) -> Result<Option<Due>, NeverError> {
        let first = self.after(since).ok_or(NeverError)?;
        if self.now < first {
            return Ok(None);
        }
        let due = |at, many_missed| Some(Due { at, many_missed });
        let second = self.after(first).ok_or(NeverError)?;
        if self.now < second {
            return Ok(due(first, false));
        }
        // Times far back are not gone through one by one: their number is guessed from the first two, and the search
        // begins two before the last one by that guess.
        let period = (second.as_second() - first.as_second()).max(1);
        let missed = (self.now.as_second() - first.as_second()) / period + 1;
        let mut back = 2;
        while back < missed {
            let from = seconds(first, (missed - back) * period).ok();
            if let Some(last) = from.and_then(|from| self.last_from(from)) {
                return Ok(due(last, missed > MISSED_MAX));
            }
            // Periods need not be equal. Upstream stops here and lets the start be missed for good.
            back *= 2;
        }
        Ok(due(
            self.last_from(first).unwrap_or(first),
            missed > MISSED_MAX,
        ))
    }

    /// The last time after `from` and up to now.
    fn last_from(&self, from: Timestamp) -> Option<Timestamp> {
        let mut times = std::iter::successors(self.after(from), |at| self.after(*at));
        let mut last = None;
        while let Some(at) = times.next().filter(|at| *at <= self.now) {
            last = Some(at);
        }
        last
    }

    /// The first time after now that counts from the last one.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let from = match self.last_since(self.since) {
            Ok(Some(due)) => due.at,
            // Nothing came yet: periods count from here, also those of `@every`.
            Ok(None) if self.after(self.since).is_some_and(|first| self.now < first) => self.since,
            Ok(None) | Err(NeverError) => self.now,
        };
        self.after(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-{text}Z").parse().expect("time")
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of times")]
    fn the_last_time_is_due() {
        let cases = [
            // schedule, since, now, deadline, due, next
            (
                "0 * * * *",
                "01T10:00:00",
                "01T10:59:59",
                None,
                None,
                "01T11:00:00",
            ),
            (
                "0 * * * *",
                "01T10:00:00",
                "01T11:00:00",
                None,
                Some("01T11:00:00"),
                "01T12:00:00",
            ),
            (
                "0 * * * *",
                "01T10:00:00",
                "01T15:30:00",
                None,
                Some("01T15:00:00"),
                "01T16:00:00",
            ),
            (
                "0 * * * *",
                "01T10:00:00",
                "01T11:10:00",
                Some(300),
                None,
                "01T12:00:00",
            ),
            (
                "0 * * * *",
                "01T10:00:00",
                "01T15:30:00",
                Some(7200),
                Some("01T15:00:00"),
                "01T16:00:00",
            ),
            (
                "30 6-16/4 * * 1-5",
                "02T06:30:00",
                "05T12:00:00",
                None,
                Some("05T10:30:00"),
                "05T14:30:00",
            ),
            // The steps of a day are far from even: by the first of them the last one would be in the night.
            (
                "30 10-16/4 * * *",
                "01T00:00:00",
                "01T23:00:00",
                None,
                Some("01T14:30:00"),
                "02T10:30:00",
            ),
            (
                "@every 1h",
                "01T10:10:00",
                "01T11:00:00",
                None,
                None,
                "01T11:10:00",
            ),
            (
                "@every 1h",
                "01T10:10:00",
                "01T13:00:00",
                None,
                Some("01T12:10:00"),
                "01T13:10:00",
            ),
        ];
        for (schedule, since, now, deadline, due, next) in cases {
            let parsed = Schedule::parse(schedule).expect("schedule");
            let moments = Moments {
                schedule: &parsed,
                zone: &TimeZone::UTC,
                since: at(since),
                now: at(now),
            };
            let found = moments.due(deadline).expect("a schedule that fits");
            assert_eq!(found.map(|due| due.at), due.map(at), "{schedule} {now}");
            assert_eq!(moments.next(), Some(at(next)), "{schedule} {now}");
        }
    }

    #[test]
    fn many_missed_times_and_none_at_all_are_told() {
        let every_minute = Schedule::parse("* * * * *").expect("schedule");
        let never = Schedule::parse("59 23 31 2 *").expect("schedule");
        let zone = TimeZone::UTC;
        let moments = |schedule, now| Moments {
            schedule,
            zone: &zone,
            since: at("01T00:00:00"),
            now: at(now),
        };
        let many = |now| {
            let due = moments(&every_minute, now).due(None).expect("fits");
            due.expect("due").many_missed
        };
        assert!(!many("01T01:40:00"));
        assert!(many("01T01:41:00"));
        assert_eq!(moments(&never, "02T00:00:00").due(None), Err(NeverError));
        assert_eq!(moments(&never, "02T00:00:00").next(), None);
    }
}
