//! `successPolicy`: an Indexed Job may be done before all of its indexes are.

use k8s_openapi::api::batch::v1::{SuccessPolicy, SuccessPolicyRule};

use super::intervals::Intervals;

/// Which rule is met, in upstream's words.
pub(super) fn met(
    policy: Option<&SuccessPolicy>,
    completions: i32,
    succeeded: &Intervals,
) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let fits = |rule: &SuccessPolicyRule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (Some(indexes), count) => {
            let wanted = Intervals::parse(indexes, completions);
            let done = wanted.common(succeeded);
            !wanted.is_empty() && (done == wanted.total() || count.is_some_and(|n| done >= n))
        }
        (None, count) => count.is_some_and(|count| succeeded.total() >= count),
    };
    let rule = policy?.rules.iter().position(fits)?;
    Some(format!("Matched rules at index {rule}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_first_rule_that_is_met_is_told() {
        let cases: [(Value, &str, Option<usize>); 8] = [
            (json!([{"succeededIndexes": "0-2"}]), "0-3", Some(0)),
            (json!([{"succeededIndexes": "0-2"}]), "0,1,3", None),
            (
                json!([{"succeededIndexes": "0-2", "succeededCount": 2}]),
                "0,2",
                Some(0),
            ),
            (
                json!([{"succeededIndexes": "0-2", "succeededCount": 2}]),
                "2-5",
                None,
            ),
            (json!([{"succeededCount": 3}]), "1,4,6", Some(0)),
            (
                json!([{"succeededCount": 9}, {"succeededIndexes": "4"}]),
                "1,4,6",
                Some(1),
            ),
            (json!([{"succeededIndexes": "90"}]), "1", None),
            (json!([{"succeededCount": 1}]), "", None),
        ];
        for (rules, succeeded, expected) in cases {
            let policy = serde_json::from_value(json!({"rules": rules})).expect("policy");
            let found = met(Some(&policy), 10, &Intervals::parse(succeeded, 10));
            let expected = expected.map(|at| format!("Matched rules at index {at}"));
            assert_eq!(found, expected, "{rules} {succeeded}");
        }
    }
}
