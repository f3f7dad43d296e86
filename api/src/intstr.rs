//! The type that is a number or a text: ports by number or name, and counts that may be percentages.
//! It does not check names or ranges. Invariant: a percentage is digits followed by `%`.

use serde_json::Value;

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A text: a name, or a percentage.
    Text(String),
}

/// Why a value is no count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntOrStringError {
    /// It is neither a number nor a percentage.
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotPercentage,
    /// The JSON value is neither a number that fits nor a text.
    #[error("expected an integer of 32 bits or a string")]
    WrongType,
}

impl IntOrString {
    /// Reads the JSON form.
    pub fn from_json(value: &Value) -> Result<Self, IntOrStringError> {
        match value {
            Value::String(text) => Ok(IntOrString::Text(text.clone())),
            other => {
                let number = other.as_i64().and_then(|number| i32::try_from(number).ok());
                number
                    .map(IntOrString::Int)
                    .ok_or(IntOrStringError::WrongType)
            }
        }
    }

    /// Writes the JSON form.
    pub fn to_json(&self) -> Value {
        match self {
            IntOrString::Int(number) => Value::from(*number),
            IntOrString::Text(text) => Value::from(text.as_str()),
        }
    }

    /// The percentage, when it is one.
    pub fn percent(&self) -> Option<u32> {
        let IntOrString::Text(text) = self else {
            return None;
        };
        let digits = text.strip_suffix('%')?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse().ok()).flatten()
    }

    /// The count out of `total`: itself, or its percentage of the total, rounded up or down.
    pub fn scaled(&self, total: i32, round_up: bool) -> Result<i32, IntOrStringError> {
        if let IntOrString::Int(number) = self {
            return Ok(*number);
        }
        let percent = i64::from(self.percent().ok_or(IntOrStringError::NotPercentage)?);
        let product = percent * i64::from(total);
        let scaled = if round_up {
            (product + 99).div_euclid(100)
        } else {
            product.div_euclid(100)
        };
        Ok(i32::try_from(scaled).unwrap_or(i32::MAX))
    }
}

impl std::fmt::Display for IntOrString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IntOrString::Int(number) => write!(f, "{number}"),
            IntOrString::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scales() {
        for (value, total, up, want) in [
            (json!(3), 10, true, Some(3)),
            (json!("25%"), 10, true, Some(3)),
            (json!("25%"), 10, false, Some(2)),
            (json!("0%"), 10, true, Some(0)),
            (json!("200%"), 3, false, Some(6)),
            (json!("x"), 10, false, None),
            (json!("%"), 10, false, None),
            (json!("-5%"), 10, false, None),
        ] {
            let parsed = IntOrString::from_json(&value).expect("well formed");
            assert_eq!(parsed.scaled(total, up).ok(), want, "{value}");
            assert_eq!(parsed.to_json(), value);
        }
        assert!(IntOrString::from_json(&json!(1.5)).is_err());
        assert!(IntOrString::from_json(&json!(4_294_967_296_i64)).is_err());
        assert!(IntOrString::from_json(&json!(null)).is_err());
    }
}
