//! Selectors: which objects are meant, by labels or by fields. Which fields a kind offers is known to `kinds`.
//! Invariant: a selector's text parses back to an equal selector, and an empty selector means everything.

use std::fmt;

mod fields;
mod labels;
mod parse;
mod structured;
#[cfg(test)]
mod tests;

pub use fields::{FieldRequirement, FieldSelector};
pub use labels::{LabelSelector, Labels, Operator, Requirement};

/// Why a selector cannot be read. The message is upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError(pub(crate) String);

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SelectorError {}
