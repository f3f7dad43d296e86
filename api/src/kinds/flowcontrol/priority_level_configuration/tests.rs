//! Tests of priority levels: defaults, checks and rows.

use serde_json::{Value, json};

use super::*;
use crate::kinds::errors::testing::{create, with};

fn level() -> Value {
    json!({
        "metadata": {"name": "a"},
        "spec": {
            "type": "Limited",
            "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 16}}},
        },
    })
}

#[test]
fn defaults() {
    let mut object = level();
    PriorityLevelConfiguration.default(&mut object);
    assert_eq!(
        object["spec"]["limited"],
        json!({
            "limitResponse": {"type": "Queue", "queuing": {"queues": 16, "handSize": 8, "queueLengthLimit": 50}},
            "nominalConcurrencyShares": 30,
            "lendablePercent": 0,
        })
    );
    let zero = "/spec/limited/nominalConcurrencyShares";
    let mut object = with(level(), zero, json!(0));
    PriorityLevelConfiguration.default(&mut object);
    assert_eq!(object.pointer(zero), Some(&json!(0)));
    let mut object = json!({"spec": {"type": "Exempt", "exempt": {}}});
    PriorityLevelConfiguration.default(&mut object);
    assert_eq!(
        object["spec"]["exempt"],
        json!({"nominalConcurrencyShares": 0, "lendablePercent": 0})
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of mistakes")]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&PriorityLevelConfiguration, level()), none);
    let limited = "spec.limited";
    let queuing = "spec.limited.limitResponse.queuing";
    let cases = [
        (
            "/spec/type",
            json!("Free"),
            "spec.type: Unsupported value: \"Free\": supported values: \"Exempt\", \"Limited\"".to_owned(),
        ),
        (
            "/spec/limited",
            Value::Null,
            format!("{limited}: Required value: must not be empty when type is Limited"),
        ),
        (
            "/spec/exempt",
            json!({}),
            "spec.exempt: Forbidden: must be nil if the type is Limited".to_owned(),
        ),
        (
            "/spec/limited/nominalConcurrencyShares",
            json!(-1),
            format!("{limited}.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"),
        ),
        (
            "/spec/limited/lendablePercent",
            json!(101),
            format!("{limited}.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"),
        ),
        (
            "/spec/limited/borrowingLimitPercent",
            json!(-1),
            format!(
                "{limited}.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"
            ),
        ),
        (
            "/spec/limited/limitResponse/type",
            json!("Reject"),
            format!("{queuing}: Forbidden: must be nil if limited.limitResponse.type is not Limited"),
        ),
        (
            "/spec/limited/limitResponse/queuing",
            Value::Null,
            format!("{queuing}: Required value: must not be empty if limited.limitResponse.type is Limited"),
        ),
        (
            "/spec/limited/limitResponse/type",
            json!("Wait"),
            "spec.limited.limitResponse.type: Unsupported value: \"Wait\": supported values: \"Queue\", \"Reject\""
                .to_owned(),
        ),
        (
            "/spec/limited/limitResponse/queuing/queues",
            json!(4),
            format!("{queuing}.handSize: Invalid value: 8: should not be greater than queues (4)"),
        ),
        (
            "/spec/limited/limitResponse/queuing/handSize",
            json!(16),
            format!(
                "{queuing}.handSize: Invalid value: 16: required entropy bits of deckSize 16 and handSize 16 should not \
                 be greater than 60"
            ),
        ),
        (
            "/spec/limited/limitResponse/queuing/queueLengthLimit",
            json!(-5),
            format!("{queuing}.queueLengthLimit: Invalid value: -5: must be positive"),
        ),
        (
            "/metadata/annotations",
            json!({ZERO_SHARES: ""}),
            format!("metadata.annotations: Forbidden: annotation '{ZERO_SHARES}' is forbidden"),
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = create(&PriorityLevelConfiguration, with(level(), pointer, value));
        assert_eq!(found, [expected], "{pointer}");
    }
    let exempt = with(level(), "/spec", json!({"type": "Exempt"}));
    assert_eq!(
        create(&PriorityLevelConfiguration, exempt),
        [
            "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"
        ]
    );
}

#[test]
fn mandatory_levels_are_fixed() {
    let none: Vec<String> = vec![];
    let lending = with(
        levels()[0].clone(),
        "/spec/exempt/lendablePercent",
        json!(50),
    );
    assert_eq!(create(&PriorityLevelConfiguration, lending), none);
    let shares = "/spec/limited/nominalConcurrencyShares";
    let errors = create(
        &PriorityLevelConfiguration,
        with(levels()[1].clone(), shares, json!(6)),
    );
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].ends_with("spec of 'catch-all' must equal the fixed value"),
        "{errors:?}"
    );
}

#[test]
fn rows() {
    let mut object = level();
    PriorityLevelConfiguration.default(&mut object);
    let row = PriorityLevelConfiguration.row(&object, Timestamp::UNIX_EPOCH);
    assert_eq!(
        Value::from(row),
        json!(["a", "Limited", 30, 16, 8, 50, "<unknown>"])
    );
    let row = PriorityLevelConfiguration.row(&levels()[0], Timestamp::UNIX_EPOCH);
    let none = "<none>";
    assert_eq!(
        Value::from(row),
        json!(["exempt", "Exempt", none, none, none, none, "<unknown>"])
    );
}
