//! Reading the JSON form of label selectors, `{matchLabels, matchExpressions}`. Not its validation with field paths,
//! which kinds do. Invariant: a missing selector selects nothing, an empty one everything.

use serde_json::Value;

use super::SelectorError;
use super::labels::{LabelSelector, Operator, Requirement};
use crate::quote::quote;

pub(super) fn from_json(value: &Value) -> Result<LabelSelector, SelectorError> {
    let object = match value {
        Value::Null => return Ok(LabelSelector::nothing()),
        Value::Object(object) => object,
        _ => {
            return Err(SelectorError(
                "a label selector must be an object".to_owned(),
            ));
        }
    };
    let mut requirements = Vec::new();
    for (key, value) in object
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let value = value.as_str().unwrap_or("").to_owned();
        requirements.push(Requirement::new(key, Operator::In, vec![value])?);
    }
    for expression in object
        .get("matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or("");
        let values = expression
            .get("values")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let values = values
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(SelectorError(format!(
                    "{} is not a valid label selector operator",
                    quote(other)
                )));
            }
        };
        requirements.push(Requirement::new(text("key"), operator, values)?);
    }
    Ok(LabelSelector::new(requirements))
}
