//! The kinds of flowcontrol.apiserver.k8s.io, and what they share: whose requests go first when there are too many.

pub mod flow_schema;
pub mod mandatory;
pub mod priority_level_configuration;

use serde_json::Value;

use super::value::Get;
use super::{Errors, Path};

/// Group of both kinds.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Bits of a flow's hash that may be used up when queues are dealt to it; a few more would favour some queues.
pub const ENTROPY_BITS_MAX: u32 = 60;

/// How many bits of hash it takes to deal `hand` of `deck` queues.
pub fn entropy_bits(deck: u32, hand: u32) -> u32 {
    // The cast saturates, and only nonsense comes near its bounds.
    (f64::from(deck).log2() * f64::from(hand)).ceil() as u32
}

/// Checks the conditions in the status of either kind.
fn validate_conditions(status: &Value, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let conditions = status.list("conditions");
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        let kind = condition.text("type");
        if conditions[..i].iter().any(|c| c.text("type") == kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        if kind.is_empty() {
            errors.required(&at.child("type"), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_cost_bits() {
        assert_eq!(entropy_bits(64, 8), 48);
        assert_eq!(entropy_bits(128, 6), 42);
        assert_eq!(entropy_bits(1, 1), 0);
        assert_eq!(entropy_bits(100, 10), 67);
    }
}
