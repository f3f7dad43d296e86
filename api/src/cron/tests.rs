//! Tables of what schedules mean and of what is wrong with them.

use super::*;

fn next(schedule: &str, after: &str, zone: &str) -> String {
    let schedule = Schedule::parse(schedule).expect("a good schedule");
    let after: Timestamp = after.parse().expect("a timestamp");
    let zone = time_zone(zone).expect("a known zone");
    let next = schedule.next_after(after, &zone);
    next.map_or_else(|| "never".to_owned(), |next| next.to_string())
}

#[test]
fn next_times() {
    let cases = [
        ("* * * * *", "2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
        (
            "* * * * *",
            "2024-01-01T00:00:59.5Z",
            "2024-01-01T00:01:00Z",
        ),
        (
            "*/15 * * * *",
            "2024-01-01T00:15:00Z",
            "2024-01-01T00:30:00Z",
        ),
        (
            "5/20 3 * * *",
            "2024-01-01T03:46:00Z",
            "2024-01-02T03:05:00Z",
        ),
        (
            "0 0 1 JAN ?",
            "2024-01-01T00:00:00Z",
            "2025-01-01T00:00:00Z",
        ),
        (
            "0 12 * * mon-fri",
            "2024-01-05T12:00:00Z",
            "2024-01-08T12:00:00Z",
        ),
        // The thirteenth, or a Friday.
        ("0 0 13 * 5", "2024-01-10T00:00:00Z", "2024-01-12T00:00:00Z"),
        ("0 0 13 * 5", "2024-01-12T00:00:00Z", "2024-01-13T00:00:00Z"),
        ("0 0 29 2 *", "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 31 2 *", "2024-03-01T00:00:00Z", "never"),
        (", * * * *", "2024-03-01T00:00:00Z", "never"),
        ("@weekly", "2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"),
        ("@hourly", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
        (
            "@every 90m",
            "2024-01-01T00:00:00.7Z",
            "2024-01-01T01:30:00Z",
        ),
        ("@every 1ms", "2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z"),
        (
            "TZ=Asia/Tokyo 0 9 * * *",
            "2024-01-01T00:00:00Z",
            "2024-01-02T00:00:00Z",
        ),
    ];
    for (schedule, after, expected) in cases {
        assert_eq!(next(schedule, after, "UTC"), expected, "{schedule}");
    }
}

#[test]
fn clocks_that_change() {
    let cases = [
        // Half past two does not exist on that Sunday.
        ("30 2 * * *", "2024-03-09T12:00:00Z", "2024-03-11T06:30:00Z"),
        // Half past one comes twice on that one.
        ("30 1 * * *", "2024-11-03T05:00:00Z", "2024-11-03T05:30:00Z"),
        ("30 1 * * *", "2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"),
        ("0 9 * * *", "2024-07-01T00:00:00Z", "2024-07-01T13:00:00Z"),
    ];
    for (schedule, after, expected) in cases {
        assert_eq!(
            next(schedule, after, "America/New_York"),
            expected,
            "{schedule}"
        );
    }
}

#[test]
fn faults_are_named() {
    let cases = [
        ("", "empty spec string"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        (
            "5-1 * * * *",
            "beginning of range (5) beyond end of range (1): 5-1",
        ),
        (
            "*/0 * * * *",
            "step of range should be a positive number: */0",
        ),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        (
            "x * * * *",
            "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ("*/-5 * * * *", "negative number (-5) not allowed: -5"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("@often", "unrecognized descriptor: @often"),
        (
            "@every 5",
            "failed to parse duration @every 5: time: missing unit in duration \"5\"",
        ),
        (
            "TZ=0",
            "invalid schedule format: runtime error: slice bounds out of range [:-1]",
        ),
        (
            "CRON_TZ=Moon/Base * * * * *",
            "provided bad location Moon/Base: unknown time zone Moon/Base",
        ),
    ];
    for (schedule, expected) in cases {
        let fault = Schedule::parse(schedule).expect_err("a fault");
        assert_eq!(fault.to_string(), expected, "{schedule}");
    }
}

#[test]
fn zones_are_known_by_their_exact_names() {
    for name in ["UTC", "Europe/Berlin", "Etc/GMT+5", "EST5EDT"] {
        assert!(time_zone(name).is_some(), "{name}");
    }
    for name in ["europe/berlin", "Europe/Nowhere", "Etc/Unknown", "utc", ""] {
        assert!(time_zone(name).is_none(), "{name}");
    }
}
