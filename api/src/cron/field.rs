//! One field of a schedule: a set of numbers, written as a list of ranges with steps.

use super::ScheduleError;

/// What the numbers of a field may be.
pub(super) struct Bounds {
    min: u32,
    max: u32,
    /// Words for the numbers from `min` on.
    names: &'static [&'static str],
}

const fn numbers(min: u32, max: u32) -> Bounds {
    Bounds {
        min,
        max,
        names: &[],
    }
}

pub(super) const MINUTES: Bounds = numbers(0, 59);
pub(super) const HOURS: Bounds = numbers(0, 23);
pub(super) const DAYS: Bounds = numbers(1, 31);
pub(super) const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
pub(super) const WEEKDAYS: Bounds = Bounds {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// A set of numbers below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Field {
    bits: u64,
    /// Whether it was written with a `*` that leaves nothing out.
    star: bool,
}

impl Field {
    pub(super) fn parse(text: &str, bounds: &Bounds) -> Result<Self, ScheduleError> {
        let mut all = Self::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let range = Self::range(range, bounds)?;
            all.bits |= range.bits;
            all.star |= range.star;
        }
        Ok(all)
    }

    pub(super) fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits >> number & 1 == 1)
    }

    pub(super) fn is_star(self) -> bool {
        self.star
    }

    fn range(text: &str, bounds: &Bounds) -> Result<Self, ScheduleError> {
        let fault = |what: String| Err(ScheduleError(format!("{what}: {text}")));
        let parts: Vec<&str> = text.split('/').collect();
        let ends: Vec<&str> = parts[0].split('-').collect();
        let any = matches!(ends[0], "*" | "?");
        let (first, mut last) = match ends.as_slice() {
            _ if any => (bounds.min, bounds.max),
            [one] => {
                let one = number_or_name(one, bounds)?;
                (one, one)
            }
            [first, last] => (
                number_or_name(first, bounds)?,
                number_or_name(last, bounds)?,
            ),
            _ => return fault("too many hyphens".to_owned()),
        };
        let step = match parts.as_slice() {
            [_] => 1,
            [_, step] => {
                // `5/10` is every tenth from the fifth on.
                if ends.len() == 1 {
                    last = bounds.max;
                }
                number(step)?
            }
            _ => return fault("too many slashes".to_owned()),
        };
        let (min, max) = (bounds.min, bounds.max);
        if first < min {
            return fault(format!(
                "beginning of range ({first}) below minimum ({min})"
            ));
        }
        if last > max {
            return fault(format!("end of range ({last}) above maximum ({max})"));
        }
        if first > last {
            return fault(format!(
                "beginning of range ({first}) beyond end of range ({last})"
            ));
        }
        if step == 0 {
            return fault("step of range should be a positive number".to_owned());
        }
        let chosen = (first..=last).filter(|number| (number - first) % step == 0);
        Ok(Self {
            bits: chosen.fold(0, |bits, number| bits | 1 << number),
            star: any && step == 1,
        })
    }
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, ScheduleError> {
    let same = |name: &&str| name.eq_ignore_ascii_case(text);
    match (bounds.min..)
        .zip(bounds.names)
        .find(|(_, name)| same(name))
    {
        Some((number, _)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, ScheduleError> {
    let fault = |why: &str| {
        let quoted = crate::quote::quote(text);
        ScheduleError(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {quoted}: {why}"
        ))
    };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault("invalid syntax"));
    }
    match text.parse::<i64>() {
        Err(_) => Err(fault("value out of range")),
        Ok(number) if number < 0 => Err(ScheduleError(format!(
            "negative number ({number}) not allowed: {text}"
        ))),
        // No field reaches as far as what does not fit; the bounds will tell.
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
    }
}
