//! Field selectors: `metadata.name=x,status.phase!=Running`. Which fields exist is the kind's business: `fields()`
//! lists what is asked for, so that the caller can refuse others. Invariant: all conditions must hold, and a field
//! that is absent compares as the empty text.

use std::fmt;

use super::SelectorError;

/// One condition on one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    /// The field's path.
    pub field: String,
    /// The value to compare with.
    pub value: String,
    /// Whether the field must have the value, or must not.
    pub equal: bool,
}

/// Which objects are meant, by their fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Means every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The field must have this value.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        let requirement = FieldRequirement {
            field: field.into(),
            value: value.into(),
            equal: true,
        };
        FieldSelector {
            requirements: vec![requirement],
        }
    }

    /// The same selector with the further condition that the field has this value.
    #[must_use]
    pub fn and_equals(mut self, field: impl Into<String>, value: impl Into<String>) -> Self {
        let further = Self::equals(field, value);
        self.requirements.extend(further.requirements);
        self
    }

    /// Reads the text form. Commas, equal signs and backslashes in values are escaped by a backslash.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let Some((field, equal, value)) = split_operator(term) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                )));
            };
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                value: unescape(value)?,
                equal,
            });
        }
        Ok(FieldSelector { requirements })
    }

    /// The conditions.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// The fields that are asked for.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.requirements
            .iter()
            .map(|requirement| requirement.field.as_str())
    }

    /// Whether every object is meant.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value `field` must have, when there is such a condition: to find an object without a search.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        let mut found = self
            .requirements
            .iter()
            .filter(|requirement| requirement.equal);
        found
            .find(|requirement| requirement.field == field)
            .map(|requirement| requirement.value.as_str())
    }

    /// Whether an object with these fields is meant.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let found = field(&requirement.field).unwrap_or("");
            (found == requirement.value) == requirement.equal
        })
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_operator(term: &str) -> Option<(&str, bool, &str)> {
    for at in 0..term.len() {
        let Some(rest) = term.get(at..) else { continue };
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..at], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
            },
            ',' | '=' => {
                let code = c as u32;
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {code}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if requirement.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}", requirement.field)?;
            for c in requirement.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
