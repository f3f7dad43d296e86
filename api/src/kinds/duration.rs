//! Ages as people read them: two significant units at most, as kubectl prints them.

use jiff::Timestamp;
use serde_json::Value;

/// Text for times that are not known.
pub const UNKNOWN: &str = "<unknown>";

/// Time from a timestamp field until `now`; `<unknown>` when there is none.
pub fn age(timestamp: &Value, now: Timestamp) -> String {
    match parse(timestamp) {
        Some(then) => human(now.as_second() - then.as_second()),
        None => UNKNOWN.to_owned(),
    }
}

/// The instant in a timestamp field.
pub(crate) fn parse(timestamp: &Value) -> Option<Timestamp> {
    timestamp.as_str()?.parse().ok()
}

/// A duration of whole seconds in the shortest form that still tells enough: `119s`, `5m3s`, `3h12m`, `2d`.
pub fn human(seconds: i64) -> String {
    // A second of clock skew is not worth alarming anybody.
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    if seconds < 120 {
        return format!("{seconds}s");
    }
    let minutes = seconds / 60;
    if minutes < 10 {
        return pair(minutes, "m", seconds % 60, "s");
    }
    if minutes < 180 {
        return format!("{minutes}m");
    }
    let hours = seconds / 3600;
    if hours < 8 {
        return pair(hours, "h", minutes % 60, "m");
    }
    if hours < 48 {
        return format!("{hours}h");
    }
    let days = hours / 24;
    if hours < 24 * 8 {
        return pair(days, "d", hours % 24, "h");
    }
    if hours < 24 * 365 * 2 {
        return format!("{days}d");
    }
    let years = hours / 24 / 365;
    if hours < 24 * 365 * 8 {
        return pair(years, "y", days % 365, "d");
    }
    format!("{years}y")
}

fn pair(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_kubectl_does() {
        let (minute, hour, day, year) = (60, 3600, 86_400, 365 * 86_400);
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (9 * minute + 59, "9m59s"),
            (10 * minute + 5, "10m"),
            (179 * minute, "179m"),
            (3 * hour, "3h"),
            (7 * hour + 30 * minute, "7h30m"),
            (8 * hour + 30 * minute, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (2 * day + 5 * hour, "2d5h"),
            (8 * day + hour, "8d"),
            (729 * day, "729d"),
            (2 * year, "2y"),
            (2 * year + 3 * day, "2y3d"),
            (9 * year, "9y"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn age_of_nothing_is_unknown() {
        assert_eq!(age(&Value::Null, Timestamp::UNIX_EPOCH), "<unknown>");
    }
}
