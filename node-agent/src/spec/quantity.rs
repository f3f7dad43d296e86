//! Quantities as the node needs them: milli-CPU and bytes, rounded up. Validation has happened in the API server, so
//! anything malformed counts as absent.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value times 1000, rounded up.
pub fn milli(text: &str) -> Option<i64> {
    scaled(text, 1000)
}

/// The value, rounded up.
pub fn whole(text: &str) -> Option<i64> {
    scaled(text, 1)
}

fn scaled(text: &str, factor: i128) -> Option<i64> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (numerator, denominator) = suffix_ratio(suffix)?;
    let negative = number.starts_with('-');
    let digits = number.trim_start_matches(['+', '-']);
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if integer.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let mantissa: i128 = format!("{integer}{fraction}").parse().ok()?;
    let top = mantissa.checked_mul(numerator)?.checked_mul(factor)?;
    let bottom = scale.checked_mul(denominator)?;
    let value = top.checked_add(bottom - 1)? / bottom;
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

fn suffix_ratio(suffix: &str) -> Option<(i128, i128)> {
    let power = |base: i128, exponent: u32| base.checked_pow(exponent);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, power(10, 9)?),
        "u" => (1, power(10, 6)?),
        "m" => (1, 1000),
        "k" => (power(10, 3)?, 1),
        "M" => (power(10, 6)?, 1),
        "G" => (power(10, 9)?, 1),
        "T" => (power(10, 12)?, 1),
        "P" => (power(10, 15)?, 1),
        "E" => (power(10, 18)?, 1),
        "Ki" => (power(1024, 1)?, 1),
        "Mi" => (power(1024, 2)?, 1),
        "Gi" => (power(1024, 3)?, 1),
        "Ti" => (power(1024, 4)?, 1),
        "Pi" => (power(1024, 5)?, 1),
        "Ei" => (power(1024, 6)?, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let magnitude = power(10, exponent.unsigned_abs())?;
            if exponent < 0 {
                (1, magnitude)
            } else {
                (magnitude, 1)
            }
        }
    })
}

/// One entry of a resource list in base units: milli for `cpu`, whole for everything else.
pub fn of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    let quantity = list?.get(name)?;
    if name == "cpu" {
        milli(&quantity.0)
    } else {
        whole(&quantity.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let cases = [
            ("100m", Some(100), Some(1)),
            ("1", Some(1000), Some(1)),
            ("1.5", Some(1500), Some(2)),
            ("0.1", Some(100), Some(1)),
            ("64Mi", Some(67_108_864_000), Some(67_108_864)),
            ("1e3", Some(1_000_000), Some(1000)),
            ("12E-1", Some(1200), Some(2)),
            ("1n", Some(1), Some(1)),
            (".5G", Some(500_000_000_000), Some(500_000_000)),
            ("abc", None, None),
            ("", None, None),
        ];
        for (text, wanted_milli, wanted_whole) in cases {
            assert_eq!(
                (milli(text), whole(text)),
                (wanted_milli, wanted_whole),
                "{text}"
            );
        }
    }
}
