//! The two forms of time in the API: RFC 3339 with seconds, and with microseconds. It never asks what time it is.
//! Invariant: written times are in UTC and end in Z.

use jiff::Timestamp;

/// `metav1.Time`: whole seconds.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: always six digits.
pub fn format_micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads either form. Only what RFC 3339 allows: date, `T`, time, and an offset or `Z`.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes
            .get(range)
            .is_some_and(|b| b.iter().all(u8::is_ascii_digit))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.len() < 20 || !marks.iter().all(|(at, mark)| bytes[*at] == *mark) {
        return None;
    }
    if ![0..4, 5..7, 8..10, 11..13, 14..16, 17..19]
        .into_iter()
        .all(digits)
    {
        return None;
    }
    let offset = bytes[19..]
        .iter()
        .position(|byte| matches!(byte, b'Z' | b'+' | b'-'))?
        + 19;
    let fraction = &bytes[19..offset];
    if !fraction.is_empty()
        && (fraction.len() < 2 || !matches!(fraction[0], b'.') || !digits(20..offset))
    {
        return None;
    }
    let zone = &bytes[offset..];
    let zone_ok = zone == b"Z"
        || (zone.len() == 6
            && zone[3] == b':'
            && digits(offset + 1..offset + 3)
            && digits(offset + 4..offset + 6));
    // More than nine digits of fraction cannot be kept; upstream cuts them off too.
    if fraction.len() > 10 {
        return zone_ok
            .then(|| format!("{}{}", &text[..29], &text[offset..]).parse().ok())
            .flatten();
    }
    zone_ok.then(|| text.parse().ok()).flatten()
}
