//! Label selectors as a list of requirements, all of which must hold. Reading text is in `parse`, reading JSON in
//! `structured`. Invariant: requirements are sorted by key, values are sorted and unique.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::SelectorError;
use crate::names;
use crate::quote::quote;

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The value is one of those listed.
    In,
    /// The label is absent, or its value is none of those listed.
    NotIn,
    /// `=`: the value is the one listed.
    Equals,
    /// `!=`: the label is absent, or its value is another.
    NotEquals,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The value is a number greater than the one listed.
    GreaterThan,
    /// The value is a number less than the one listed.
    LessThan,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How to compare.
    pub operator: Operator,
    /// What to compare with.
    pub values: Vec<String>,
}

/// Anything labels can be looked up in.
pub trait Labels {
    /// The value of the label `key`.
    fn get_label(&self, key: &str) -> Option<&str>;
}

impl Labels for Map<String, Value> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl Labels for BTreeMap<String, String> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.get_label(key)
    }
}

impl<L: Labels> Labels for &L {
    fn get_label(&self, key: &str) -> Option<&str> {
        (*self).get_label(key)
    }
}

impl Labels for [(&str, &str)] {
    fn get_label(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(found, _)| *found == key)
            .map(|(_, value)| *value)
    }
}

impl Requirement {
    /// A checked requirement: key and values are well formed and fit the operator.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        if let Some(fault) = names::qualified_name(key).first() {
            return Err(SelectorError(format!(
                "<nil>: Invalid value: {}: {fault}",
                quote(key)
            )));
        }
        let shown = |values: &[String]| serde_json::to_string(values).unwrap_or_default();
        let wrong = |why: &str| {
            Err(SelectorError(format!(
                "values: Invalid value: {}: {why}",
                shown(&values)
            )))
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return wrong("for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Equals | Operator::NotEquals if values.len() != 1 => {
                return wrong("exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return wrong("values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                return wrong("for 'Gt', 'Lt' operators, exactly one value is required");
            }
            Operator::GreaterThan | Operator::LessThan if values[0].parse::<i64>().is_err() => {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                return Err(SelectorError(format!(
                    "values[0]: Invalid value: {}: {why}",
                    quote(&values[0])
                )));
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(fault) = names::label_value(value).first() {
                let message = format!(
                    "values[{index}][{key}]: Invalid value: {}: {fault}",
                    quote(value)
                );
                return Err(SelectorError(message));
            }
        }
        let mut values = values;
        values.sort();
        values.dedup();
        Ok(Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    /// Whether labels fulfil it.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let found = labels.get_label(&self.key);
        let listed = |found: &str| self.values.iter().any(|value| value == found);
        let number = |order: std::cmp::Ordering| {
            let (found, wanted) = (
                found.and_then(|found| found.parse::<i64>().ok()),
                self.values[0].parse::<i64>(),
            );
            matches!((found, wanted), (Some(found), Ok(wanted)) if found.cmp(&wanted) == order)
        };
        match self.operator {
            Operator::In | Operator::Equals => found.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !found.is_some_and(listed),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan => number(std::cmp::Ordering::Greater),
            Operator::LessThan => number(std::cmp::Ordering::Less),
        }
    }
}

/// Which objects are meant, by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Means every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Means no object: what a missing selector of a workload says.
    pub fn nothing() -> Self {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// All of these must hold.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<Requirement> = requirements.into_iter().collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// Each label must have exactly this value; unchecked, for selectors of Services, which have no other form.
    pub fn exactly<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::new(labels.into_iter().map(|(key, value)| Requirement {
            key: key.to_owned(),
            operator: Operator::Equals,
            values: vec![value.to_owned()],
        }))
    }

    /// Reads the text form: `a=b,c!=d,e in (x,y),!f,g`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        super::parse::parse(text).map(Self::new)
    }

    /// Reads the JSON form `{matchLabels, matchExpressions}`. An empty object means everything, null means nothing.
    pub fn from_json(value: &Value) -> Result<Self, SelectorError> {
        super::structured::from_json(value)
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether every object is meant.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether no object is meant, whatever its labels.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether an object with these labels is meant.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(labels))
    }

    /// Whether this object is meant.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(&crate::meta::labels(object))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = self.values.join(",");
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}
