//! Tests of patches: a table of cases for each language, and laws. Invariant: expectations are those of upstream's library.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn cases_read_as_upstreams() {
    for line in include_str!("cases.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let parts: Vec<&str> = line.split(" | ").collect();
        let [kind, object, patch, want] = parts[..] else {
            panic!("{line}")
        };
        let object: Value = serde_json::from_str(object).expect(line);
        let patch: Value = serde_json::from_str(patch).expect(line);
        let group = if kind == "Deployment" { "apps" } else { "" };
        let result = match kind {
            "JSON" => json_patch(&object, &patch),
            kind => strategic_merge_patch(
                &GroupVersionKind::new(group, "v1", kind.to_owned()),
                &object,
                &patch,
            ),
        };
        if want == "ERROR" {
            assert!(result.is_err(), "{line}\n{result:?}");
            continue;
        }
        let want: Value = serde_json::from_str(want).expect(line);
        assert_eq!(
            result.map_err(|error| error.to_string()),
            Ok(want),
            "{line}"
        );
    }
}

#[test]
fn json_patches_are_bounded() {
    let copies: Vec<Value> = (0..64)
        .map(|n| json!({"op": "copy", "from": "", "path": format!("/{n}")}))
        .collect();
    let error =
        json_patch(&json!({"a": "x".repeat(1000)}), &Value::from(copies)).expect_err("too large");
    assert_eq!(Status::from(error).code(), 413);
    let many = Value::from(vec![
        json!({"op": "test", "path": "/a", "value": 1});
        10_001
    ]);
    assert_eq!(
        json_patch(&json!({"a": 1}), &many).map_err(|error| Status::from(error).code()),
        Err(413)
    );
}

#[test]
fn merge_patch_cases() {
    for (object, patch, want) in [
        (
            json!({"a": {"b": 1}}),
            json!({"a": {"b": null, "c": {"d": null, "e": 1}}}),
            json!({"a": {"c": {"e": 1}}}),
        ),
        (
            json!({"a": [1]}),
            json!({"a": [null]}),
            json!({"a": [null]}),
        ),
        (
            json!({"a": "x"}),
            json!({"a": {"b": 1}}),
            json!({"a": {"b": 1}}),
        ),
        (json!({"a": 1}), json!({}), json!({"a": 1})),
    ] {
        assert_eq!(merge_patch(&object, &patch), Ok(want));
    }
    let error = merge_patch(&json!({}), &json!([1])).expect_err("refused");
    assert_eq!(Status::from(error).code(), 400);
}

#[test]
fn kinds_without_schema_have_no_strategic_merge() {
    let widget = GroupVersionKind::from_static("example.com", "v1", "Widget");
    let error = strategic_merge_patch(&widget, &json!({}), &json!({})).expect_err("refused");
    assert_eq!(Status::from(error).code(), 415);
}

/// What kubectl would send to turn a pod's containers and labels from one state to another.
fn difference(from: &Pod, to: &Pod) -> Value {
    let mut labels = json!({});
    for (key, value) in &to.labels {
        labels[key] = json!(value);
    }
    for key in from
        .labels
        .keys()
        .filter(|key| !to.labels.contains_key(*key))
    {
        labels[key] = Value::Null;
    }
    let mut containers: Vec<Value> = Vec::new();
    for (name, image) in &to.containers {
        if from
            .containers
            .iter()
            .any(|old| old == &(name.clone(), image.clone()))
        {
            continue;
        }
        containers.push(json!({"name": name, "image": image}));
    }
    for (name, _) in from
        .containers
        .iter()
        .filter(|(name, _)| !to.containers.iter().any(|new| new.0 == *name))
    {
        containers.push(json!({"$patch": "delete", "name": name}));
    }
    let order: Vec<Value> = to
        .containers
        .iter()
        .map(|(name, _)| json!({"name": name}))
        .collect();
    json!({"metadata": {"labels": labels}, "spec": {"containers": containers, "$setElementOrder/containers": order}})
}

#[derive(Debug, Clone)]
struct Pod {
    labels: std::collections::BTreeMap<String, String>,
    containers: Vec<(String, String)>,
}

impl Pod {
    fn object(&self) -> Value {
        let containers: Vec<Value> = self
            .containers
            .iter()
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect();
        json!({"metadata": {"labels": self.labels}, "spec": {"containers": containers}})
    }
}

fn pods() -> impl Strategy<Value = Pod> {
    let labels = proptest::collection::btree_map("[a-d]", "[x-z]", 0..4);
    let containers = proptest::collection::btree_map("[a-f]", "[x-z]", 1..6)
        .prop_map(Vec::from_iter)
        .prop_shuffle();
    (labels, containers).prop_map(|(labels, containers)| Pod { labels, containers })
}

proptest! {
    #[test]
    fn a_difference_leads_to_its_target(from in pods(), to in pods()) {
        let gvk = GroupVersionKind::from_static("", "v1", "Pod");
        let patch = difference(&from, &to);
        let result = strategic_merge_patch(&gvk, &from.object(), &patch);
        prop_assert_eq!(result, Ok(to.object()));
        let again = strategic_merge_patch(&gvk, &to.object(), &patch);
        prop_assert_eq!(again, Ok(to.object()), "a patch may be applied twice");
    }

    #[test]
    fn an_empty_patch_changes_nothing(pod in pods()) {
        let gvk = GroupVersionKind::from_static("", "v1", "Pod");
        prop_assert_eq!(strategic_merge_patch(&gvk, &pod.object(), &json!({})), Ok(pod.object()));
        prop_assert_eq!(merge_patch(&pod.object(), &json!({})), Ok(pod.object()));
        prop_assert_eq!(merge_patch(&json!({}), &pod.object()), Ok(pod.object()));
    }
}
