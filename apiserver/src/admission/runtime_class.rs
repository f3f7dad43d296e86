//! RuntimeClass: what a class adds to a pod (overhead, where it may run), and no pod of a class that does not exist.
//!
//! Facts and words are those of upstream's RuntimeClass admission plugin.

use corten_api::status::Status;
use serde_json::{Map, Value};

use super::Review;
use crate::registry::{Registry, Target};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const WITHOUT: &str =
    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

/// Completes a new pod.
pub(super) async fn admit(
    registry: &Registry,
    review: &Review<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    let class = class_of(registry, review, pod).await?;
    let overhead = class
        .as_ref()
        .map_or(&Value::Null, |class| &class["overhead"]["podFixed"]);
    let forbidden = |message: &str| review.target.forbidden(message);
    let given = &pod["spec"]["overhead"];
    match (overhead.is_null(), is_empty(given)) {
        (true, false) => return Err(forbidden(WITHOUT)),
        (false, false) if !same_amounts(given, overhead) => return Err(forbidden(MISMATCH)),
        (true, true) => {}
        (false, _) => pod["spec"]["overhead"] = overhead.clone(),
    }
    if let Some(class) = &class {
        select(&class["scheduling"]["nodeSelector"], pod).map_err(|message| forbidden(&message))?;
        tolerate(&class["scheduling"]["tolerations"], pod);
    }
    Ok(())
}

async fn class_of(
    registry: &Registry,
    review: &Review<'_>,
    pod: &Value,
) -> Result<Option<Value>, Status> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else {
        return Ok(None);
    };
    let Ok(target) = Target::of("node.k8s.io", "runtimeclasses", "", name) else {
        return Ok(None);
    };
    let cached = registry.caches().of(target.descriptor);
    let cached = cached.and_then(|cache| cache.snapshot().get("", name).cloned());
    let found = match cached {
        Some(item) => Ok(item),
        None => registry.item(&target, None).await,
    };
    match found {
        Ok(item) => Ok(Some(item.value())),
        Err(status) if status.code() == 404 => {
            let message = format!("pod rejected: RuntimeClass {name:?} not found");
            Err(review.target.forbidden(&message))
        }
        Err(status) => Err(status),
    }
}

fn is_empty(map: &Value) -> bool {
    map.as_object().is_none_or(Map::is_empty)
}

/// Whether both hold the same amounts, however they are written.
fn same_amounts(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else {
        return false;
    };
    let amount = |value: &Value| corten_api::quantity::Quantity::from_json(value).ok();
    one.len() == other.len()
        && one.iter().all(|(name, value)| {
            let other = other.get(name);
            other.is_some_and(|other| amount(other) == amount(value))
        })
}

fn select(class: &Value, pod: &mut Value) -> Result<(), String> {
    let Some(class) = class.as_object().filter(|class| !class.is_empty()) else {
        return Ok(());
    };
    let spec = &mut pod["spec"]["nodeSelector"];
    if spec.is_null() {
        *spec = Value::Object(Map::new());
    }
    let Some(selector) = spec.as_object_mut() else {
        return Ok(()); // validation says what is wrong with it
    };
    for (key, value) in class {
        let own = selector.get(key).filter(|own| *own != value);
        if let Some(own) = own {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            ));
        }
        selector.insert(key.clone(), value.clone());
    }
    Ok(())
}

fn tolerate(class: &Value, pod: &mut Value) {
    let Some(class) = class.as_array().filter(|class| !class.is_empty()) else {
        return;
    };
    let spec = &mut pod["spec"]["tolerations"];
    if spec.is_null() {
        *spec = Value::Array(Vec::new());
    }
    if let Some(own) = spec.as_array_mut() {
        let missing: Vec<Value> = class
            .iter()
            .filter(|one| !own.contains(one))
            .cloned()
            .collect();
        own.extend(missing);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_compared_and_not_their_spelling() {
        assert!(same_amounts(&json!({"cpu": "1"}), &json!({"cpu": "1000m"})));
        assert!(!same_amounts(&json!({"cpu": "1"}), &json!({"cpu": "2"})));
        assert!(!same_amounts(
            &json!({"cpu": "1"}),
            &json!({"cpu": "1", "memory": "1"})
        ));
    }

    #[test]
    fn a_class_adds_where_its_pods_may_run() {
        let mut pod = json!({"spec": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "x"}]}});
        select(&json!({"kind": "sandboxed", "a": "b"}), &mut pod).expect("no conflict");
        tolerate(&json!([{"key": "x"}, {"key": "y"}]), &mut pod);
        let expected = json!({"spec": {
            "nodeSelector": {"a": "b", "kind": "sandboxed"}, "tolerations": [{"key": "x"}, {"key": "y"}],
        }});
        assert_eq!(pod, expected);
        let conflict = select(&json!({"a": "c"}), &mut pod).expect_err("a conflict");
        let words =
            "conflict: runtimeClass.scheduling.nodeSelector[a] = c; pod.spec.nodeSelector[a] = b";
        assert_eq!(conflict, words);
    }
}
