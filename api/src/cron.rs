//! Schedules as CronJobs have them: five fields of cron, `@daily` and its like, or `@every 1h30m`.
//!
//! It knows no clock: who asks gives the time. Texts and their faults are those of the library that upstream uses, and so
//! is the sense of the fields: where both a day of the month and a day of the week are given, either of them will do.
//! Time zones come from the database in the program, whatever the host has.

mod duration;
mod field;

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, Zoned};

use field::Field;

/// A schedule that fits no day is given up after so many years.
const YEARS_MAX: i16 = 5;

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(pub(crate) String);

/// When something is to happen again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    times: Times,
    /// The time zone in the text itself, which new CronJobs may not have.
    zone: Option<TimeZone>,
}

#[derive(Debug, Clone, PartialEq)]
enum Times {
    Fields(Box<Fields>),
    Every(SignedDuration),
}

#[derive(Debug, Clone, PartialEq)]
struct Fields {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Schedule {
    /// Reads a schedule.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        if text.is_empty() {
            return Err(ScheduleError("empty spec string".to_owned()));
        }
        let (zone, rest) = split_zone(text)?;
        let times = match rest.strip_prefix('@') {
            Some(_) => Times::named(rest)?,
            None => Times::fields(rest)?,
        };
        Ok(Self { times, zone })
    }

    /// The first time after `time`, with fields read in `zone` unless the text has a zone of its own. `None` when there is
    /// none for years.
    pub fn next_after(&self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let zone = self.zone.as_ref().unwrap_or(zone);
        let whole = Timestamp::from_second(time.as_second()).ok()?;
        match &self.times {
            Times::Every(period) => whole.checked_add(*period).ok(),
            Times::Fields(fields) => fields.next_after(&whole.to_zoned(zone.clone())),
        }
    }
}

/// The time zone of that very name; case counts, as it does for files.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    let zone = ZONES.get(name).ok()?;
    (zone.iana_name() == Some(name) && !zone.is_unknown()).then_some(zone)
}

/// The zone in front of a schedule, `TZ=x` or `CRON_TZ=x`, and the rest.
fn split_zone(text: &str) -> Result<(Option<TimeZone>, &str), ScheduleError> {
    let named = text
        .strip_prefix("TZ=")
        .or_else(|| text.strip_prefix("CRON_TZ="));
    let Some(named) = named else {
        return Ok((None, text));
    };
    let Some((name, rest)) = named.split_once(' ') else {
        // Upstream's parser breaks here, and its caller tells so.
        return Err(ScheduleError(
            "invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned(),
        ));
    };
    // The host's own zone is UTC to us.
    let zone = match name {
        "" | "Local" => TimeZone::UTC,
        name => time_zone(name).ok_or_else(|| {
            ScheduleError(format!(
                "provided bad location {name}: unknown time zone {name}"
            ))
        })?,
    };
    Ok((Some(zone), rest.trim()))
}

impl Times {
    fn named(name: &str) -> Result<Self, ScheduleError> {
        let fields = match name {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => {
                let Some(period) = name.strip_prefix("@every ") else {
                    return Err(ScheduleError(format!("unrecognized descriptor: {name}")));
                };
                let period = duration::parse(period).map_err(|fault| {
                    ScheduleError(format!("failed to parse duration {name}: {fault}"))
                })?;
                // Nothing happens more often than each second.
                return Ok(Self::Every(SignedDuration::from_secs(
                    period.as_secs().max(1),
                )));
            }
        };
        Self::fields(fields)
    }

    fn fields(text: &str) -> Result<Self, ScheduleError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = words.as_slice() else {
            return Err(ScheduleError(format!(
                "expected exactly 5 fields, found {}: [{}]",
                words.len(),
                words.join(" ")
            )));
        };
        Ok(Self::Fields(Box::new(Fields {
            minute: Field::parse(minute, &field::MINUTES)?,
            hour: Field::parse(hour, &field::HOURS)?,
            day: Field::parse(day, &field::DAYS)?,
            month: Field::parse(month, &field::MONTHS)?,
            weekday: Field::parse(weekday, &field::WEEKDAYS)?,
        })))
    }
}

impl Fields {
    /// Goes through whole minutes, over months, days and hours that do not fit at one step each. Hours and minutes are
    /// steps of real time: what the clocks leave out in spring is left out, what they repeat in autumn is repeated.
    fn next_after(&self, time: &Zoned) -> Option<Timestamp> {
        let year_max = time.year() + YEARS_MAX;
        let mut at = forward(time, 60 - i64::from(time.second()))?;
        while at.year() <= year_max {
            at = if !self.month.has(at.month()) {
                midnight(at.date().last_of_month().tomorrow().ok()?, &at)?
            } else if !self.fits_day(&at) {
                midnight(at.date().tomorrow().ok()?, &at)?
            } else if !self.hour.has(at.hour()) {
                forward(&at, 60 * (60 - i64::from(at.minute())))?
            } else if !self.minute.has(at.minute()) {
                forward(&at, 60)?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    fn fits_day(&self, at: &Zoned) -> bool {
        let day = self.day.has(at.day());
        let weekday = self.weekday.has(at.weekday().to_sunday_zero_offset());
        if self.day.is_star() || self.weekday.is_star() {
            day && weekday
        } else {
            day || weekday
        }
    }
}

fn forward(at: &Zoned, seconds: i64) -> Option<Zoned> {
    at.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// The first moment of a day, in the zone of `at`.
fn midnight(day: Date, at: &Zoned) -> Option<Zoned> {
    day.to_zoned(at.time_zone().clone()).ok()
}

#[cfg(test)]
mod tests;
