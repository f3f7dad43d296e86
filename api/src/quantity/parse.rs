//! Reading quantities. Not writing them. Invariant: any text is read in time proportional to its length, whatever
//! exponent it claims.

use super::{Format, NANO, NANO_MAX, Quantity, QuantityError};

/// Digits beyond these cannot change the amount by a billionth of it; the last kept one is rounded up.
const DIGITS_MAX: usize = 36;

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Form);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = split_digits(rest);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if !suffix_formed(suffix) {
        return Err(QuantityError::Form);
    }
    let (format, base_two, ten) = read_suffix(suffix)?;
    let mut number = Decimal::read(whole, fraction);
    number.ten = number.ten.saturating_add(ten);
    let mut nanos = number.into_nanos(base_two);
    let mut format = format;
    if format == Format::BinarySi {
        nanos = nanos.min(i128::from(i64::MAX) * NANO);
        if nanos > 0 && nanos < NANO {
            format = Format::DecimalSi;
        }
    }
    Ok(Quantity {
        nanos: if negative { -nanos } else { nanos },
        format,
    })
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Suffix letters, then an optional sign and digits.
fn suffix_formed(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    rest.bytes().all(|byte| byte.is_ascii_digit())
}

/// The format, the power of two and the power of ten a suffix stands for.
fn read_suffix(suffix: &str) -> Result<(Format, u32, i64), QuantityError> {
    let decimal = |ten| Ok((Format::DecimalSi, 0, ten));
    let binary = |two| Ok((Format::BinarySi, two, 0));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix
                .strip_prefix(['e', 'E'])
                .ok_or(QuantityError::Suffix)?;
            // i32 is what upstream keeps; anything that size saturates or vanishes all the same.
            let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((Format::DecimalExponent, 0, i64::from(exponent)))
        }
    }
}

/// `digits` times ten to the `ten`; `inexact` when digits were cut off.
struct Decimal {
    digits: i128,
    ten: i64,
    inexact: bool,
}

impl Decimal {
    fn read(whole: &str, fraction: &str) -> Self {
        let (mut digits, mut ten, mut kept, mut inexact) = (0_i128, 0_i64, 0_usize, false);
        for (in_fraction, text) in [(false, whole), (true, fraction.trim_end_matches('0'))] {
            for byte in text.bytes() {
                let digit = i128::from(byte - b'0');
                if kept >= DIGITS_MAX {
                    inexact |= digit != 0;
                    ten += i64::from(!in_fraction);
                    continue;
                }
                digits = digits * 10 + digit;
                kept += usize::from(digits != 0);
                ten -= i64::from(in_fraction);
            }
        }
        Decimal {
            digits,
            ten,
            inexact,
        }
    }

    /// Multiplies out, rounding up and ending at the largest amount.
    fn into_nanos(mut self, two: u32) -> i128 {
        if self.digits == 0 && !self.inexact {
            return 0;
        }
        let shift = 1_i128 << two;
        self.ten += 9;
        let mut product = loop {
            match self.digits.checked_mul(shift) {
                Some(product) => break product,
                None => self.cut_digit(),
            }
        };
        while self.ten > 0 {
            self.ten -= 1;
            product = product.saturating_mul(10);
            if product >= NANO_MAX {
                return NANO_MAX;
            }
        }
        while self.ten < 0 && product > 0 {
            self.ten += 1;
            self.inexact |= product % 10 != 0;
            product /= 10;
        }
        (product + i128::from(self.inexact)).min(NANO_MAX)
    }

    fn cut_digit(&mut self) {
        self.inexact |= self.digits % 10 != 0;
        self.digits /= 10;
        self.ten += 1;
    }
}
