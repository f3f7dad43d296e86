//! JSON patch with the leniencies of the library upstream uses, which clients have come to rely on: `replace` creates, `test`
//! for null holds for what is absent, a missing value is null, and indexes may count from the end.
//! Invariant: the copied bytes and the number of operations are bounded.

use serde_json::{Map, Value};

use super::PatchError;

/// Upstream's limit.
const OPERATIONS_MAX: usize = 10_000;
/// What all copies of a patch together may add: the size of a request body.
const COPY_BYTES_MAX: usize = 3 << 20;

pub(super) fn apply(target: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = match patch {
        Value::Null => return Ok(target.clone()),
        Value::Array(operations) => operations,
        _ => {
            return Err(PatchError::Malformed(
                "a JSON patch must be a list of operations".to_owned(),
            ));
        }
    };
    if operations.len() > OPERATIONS_MAX {
        let count = operations.len();
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    let mut document = target.clone();
    let mut copied_bytes = 0;
    for operation in operations {
        let Value::Object(operation) = operation else {
            return Err(PatchError::Malformed(
                "an operation of a JSON patch must be an object".to_owned(),
            ));
        };
        run(&mut document, operation, &mut copied_bytes)?;
    }
    Ok(document)
}

fn text<'a>(operation: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    operation.get(key).and_then(Value::as_str)
}

fn run(
    document: &mut Value,
    operation: &Map<String, Value>,
    copied_bytes: &mut usize,
) -> Result<(), PatchError> {
    let kind = text(operation, "op").unwrap_or("unknown");
    let path = text(operation, "path").unwrap_or("");
    let from = || {
        let found = text(operation, "from");
        found.ok_or_else(|| fail(kind, path, "the operation has no from"))
    };
    let value = operation.get("value").cloned().unwrap_or(Value::Null);
    match kind {
        "add" => put(document, path, value, Put::Add),
        "replace" => put(document, path, value, Put::Replace),
        "remove" => take(document, path).map(drop),
        "move" => {
            let value = take(document, from()?)?;
            put(document, path, value, Put::Add)
        }
        "copy" => {
            let from = from()?;
            let value = get(document, from)
                .cloned()
                .ok_or_else(|| fail("copy", from, "missing value"))?;
            *copied_bytes = copied_bytes.saturating_add(value.to_string().len());
            if *copied_bytes > COPY_BYTES_MAX {
                return Err(PatchError::TooLarge(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, exceeding \
                     the limit {COPY_BYTES_MAX}"
                )));
            }
            put(document, path, value, Put::Add)
        }
        "test" => {
            let found = get(document, path).unwrap_or(&Value::Null);
            if *found == value {
                return Ok(());
            }
            Err(PatchError::DoesNotApply(format!(
                "testing value {path} failed: test failed"
            )))
        }
        other => Err(PatchError::DoesNotApply(format!(
            "Unexpected kind: {other}"
        ))),
    }
}

fn fail(kind: &str, path: &str, why: &str) -> PatchError {
    PatchError::DoesNotApply(format!("error in {kind} for path: '{path}': {why}"))
}

/// The steps of a pointer; `None` when it does not start with a slash.
fn steps(path: &str) -> Option<Vec<String>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let rest = path.strip_prefix('/')?;
    Some(
        rest.split('/')
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
            .collect(),
    )
}

/// An index; negative ones count from `end`.
fn index(step: &str, end: usize) -> Option<usize> {
    match step.strip_prefix('-') {
        Some(back) => end.checked_sub(back.parse().ok()?),
        None => step.parse().ok(),
    }
}

fn descend<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.get(index(step, items.len())?),
        _ => None,
    }
}

fn get<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path)?
        .iter()
        .try_fold(document, |value, step| descend(value, step))
}

/// What holds the last step, and that step.
fn holder<'a>(
    document: &'a mut Value,
    path: &str,
    kind: &str,
) -> Result<(&'a mut Value, String), PatchError> {
    let missing = || {
        PatchError::DoesNotApply(format!(
            "{kind} operation does not apply: doc is missing path: \"{path}\": missing value"
        ))
    };
    let mut steps = steps(path).ok_or_else(missing)?;
    let last = steps.pop().ok_or_else(missing)?;
    let mut value = document;
    for step in &steps {
        value = match value {
            Value::Object(map) => map.get_mut(step),
            Value::Array(items) => index(step, items.len()).and_then(|index| items.get_mut(index)),
            _ => None,
        }
        .ok_or_else(missing)?;
    }
    Ok((value, last))
}

#[derive(Clone, Copy, PartialEq)]
enum Put {
    Add,
    Replace,
}

fn put(document: &mut Value, path: &str, value: Value, how: Put) -> Result<(), PatchError> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    let kind = if how == Put::Add { "add" } else { "replace" };
    let (holder, step) = holder(document, path, kind)?;
    let invalid = || {
        fail(
            kind,
            path,
            &format!("Unable to access invalid index: {step}: invalid index referenced"),
        )
    };
    match holder {
        Value::Object(map) => {
            map.insert(step, value);
        }
        Value::Array(items) if how == Put::Add => {
            let at = if step == "-" {
                Some(items.len())
            } else {
                index(&step, items.len() + 1)
            };
            let at = at.filter(|at| *at <= items.len()).ok_or_else(invalid)?;
            items.insert(at, value);
        }
        Value::Array(items) => {
            let at = index(&step, items.len());
            *at.and_then(|at| items.get_mut(at)).ok_or_else(invalid)? = value;
        }
        _ => {
            return Err(fail(
                kind,
                path,
                "the parent is neither an object nor a list",
            ));
        }
    }
    Ok(())
}

fn take(document: &mut Value, path: &str) -> Result<Value, PatchError> {
    let (holder, step) = holder(document, path, "remove")?;
    match holder {
        Value::Object(map) => map.shift_remove(&step).ok_or_else(|| {
            fail(
                "remove",
                path,
                &format!("Unable to remove nonexistent key: {step}: missing value"),
            )
        }),
        Value::Array(items) => match index(&step, items.len()).filter(|at| *at < items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => Err(fail(
                "remove",
                path,
                &format!("Unable to access invalid index: {step}: invalid index referenced"),
            )),
        },
        _ => Err(fail(
            "remove",
            path,
            "the parent is neither an object nor a list",
        )),
    }
}
