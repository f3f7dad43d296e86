//! Amounts of resources: `500m`, `1.5Gi`, `2e3`. It does not know which resource an amount is of.
//! Invariant: a quantity is an exact number of billionths; what is finer is rounded away from zero when read, so that
//! asking for something never becomes asking for nothing. One amount has one canonical text per format.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

mod parse;
#[cfg(test)]
mod tests;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;
/// Amounts end here, at 10^29 on either side of zero: far beyond any resource, and safe to add a billion times.
const NANO_MAX: i128 = 100_000_000_000_000_000_000_000_000_000_000_000_000;

/// Which suffixes the text uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Powers of 1024: Ki, Mi, Gi, Ti, Pi, Ei.
    BinarySi,
    /// Powers of 1000: n, u, m, k, M, G, T, P, E.
    DecimalSi,
    /// Powers of ten: `e3`.
    DecimalExponent,
}

/// An amount and the format it is written in. Equality and order look at the amount only.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like a number with a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Form,
    /// There is no such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// The JSON value is neither a text nor a number.
    #[error("quantities must be a string or a number")]
    Type,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Quantity {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// A number of thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Quantity {
            nanos: i128::from(milli) * 1_000_000,
            format: Format::DecimalSi,
        }
    }

    /// Reads the JSON form: a text, or a bare number.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Type),
        }
    }

    /// The format it is written in.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number.
    pub fn is_integer(self) -> bool {
        self.nanos % NANO == 0
    }

    /// The amount in whole units, rounded away from zero and held within i64.
    pub fn value(self) -> i64 {
        clamp(divide_away(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded away from zero and held within i64.
    pub fn milli_value(self) -> i64 {
        clamp(divide_away(self.nanos, 1_000_000))
    }

    /// The amount as a float, for ratios.
    #[expect(clippy::cast_precision_loss, reason = "a ratio does not need more")]
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// The sum, in this quantity's format (in the other's when this is zero).
    #[must_use]
    pub fn plus(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Quantity {
            nanos: (self.nanos + other.nanos).clamp(-NANO_MAX, NANO_MAX),
            format,
        }
    }

    /// The difference, in this quantity's format (in the other's when this is zero).
    #[must_use]
    pub fn minus(self, other: Quantity) -> Quantity {
        self.plus(Quantity {
            nanos: -other.nanos,
            ..other
        })
    }

    /// The amount taken `count` times.
    #[must_use]
    pub fn times(self, count: u32) -> Quantity {
        Quantity {
            nanos: self
                .nanos
                .saturating_mul(i128::from(count))
                .clamp(-NANO_MAX, NANO_MAX),
            ..self
        }
    }

    fn write_binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        let mut number = self.nanos / NANO;
        let mut power = 0;
        while number % 1024 == 0 && power + 1 < SUFFIXES.len() {
            number /= 1024;
            power += 1;
        }
        write!(f, "{number}{}", SUFFIXES[power])
    }

    fn write_decimal(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let exponential = self.format == Format::DecimalExponent;
        let mut number = self.nanos;
        let mut power = 0;
        while number % 1000 == 0 && (exponential || power + 1 < SUFFIXES.len()) {
            number /= 1000;
            power += 1;
        }
        if exponential {
            let exponent = i32::try_from(power).expect("39 digits have few thousands") * 3 - 9;
            return if exponent == 0 {
                write!(f, "{number}")
            } else {
                write!(f, "{number}e{exponent}")
            };
        }
        write!(f, "{number}{}", SUFFIXES[power])
    }
}

fn divide_away(number: i128, divisor: i128) -> i128 {
    let quotient = number / divisor;
    if number % divisor == 0 {
        quotient
    } else {
        quotient + number.signum()
    }
}

fn clamp(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    /// The canonical text: the largest suffix that leaves no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        // Small and broken amounts have no binary suffix.
        let binary =
            self.format == Format::BinarySi && self.is_integer() && self.nanos.abs() >= 1024 * NANO;
        if binary {
            self.write_binary(f)
        } else {
            self.write_decimal(f)
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        self.plus(other)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        self.minus(other)
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(quantities: I) -> Quantity {
        quantities.fold(Quantity::ZERO, Quantity::plus)
    }
}
