//! Durations as Go writes them: `1h30m`, `1.5h`, `-20ms`.

use jiff::SignedDuration;

use crate::quote::quote;

/// Reads a duration; what is wrong is said in Go's words.
pub(super) fn parse(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split(rest, |byte| byte.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split(after, |byte| byte.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (name, after) = split(after, |byte| !byte.is_ascii_digit() && byte != b'.');
        if name.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some(unit) = nanoseconds_of(name) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                quote(name),
                quote(text)
            ));
        };
        let amount = amount(whole, fraction, unit).ok_or_else(invalid)?;
        nanoseconds = nanoseconds.saturating_add(amount);
        rest = after;
    }
    if text.starts_with('-') {
        nanoseconds = -nanoseconds;
    }
    let nanoseconds = i64::try_from(nanoseconds).map_err(|_| invalid())?;
    Ok(SignedDuration::from_nanos(nanoseconds))
}

fn split(text: &str, good: impl Fn(u8) -> bool) -> (&str, &str) {
    let length = text.bytes().take_while(|byte| good(*byte)).count();
    text.split_at(length)
}

fn nanoseconds_of(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        // Micro has two letters in Unicode.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn amount(whole: &str, fraction: &str, unit: i128) -> Option<i128> {
    let number = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<i64>().ok().map(i128::from),
    };
    // Twelve digits after the point tell a nanosecond of an hour; later ones change nothing.
    let fraction = fraction.get(..12).unwrap_or(fraction);
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(number(whole)? * unit + number(fraction)? * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let cases = [
            ("0", 0),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("-1m", -60_000_000_000),
            ("+3us", 3_000),
            ("1h1s", 3_601_000_000_000),
        ];
        for (text, expected) in cases {
            assert_eq!(
                parse(text),
                Ok(SignedDuration::from_nanos(expected)),
                "{text}"
            );
        }
    }

    #[test]
    fn says_what_go_says() {
        let cases = [
            ("", "time: invalid duration \"\""),
            ("h", "time: invalid duration \"h\""),
            (".s", "time: invalid duration \".s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
