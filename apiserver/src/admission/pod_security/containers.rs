//! Walking a pod's containers, and the words in which several of them are named.

use serde_json::Value;

use super::PodView;

/// All containers: init, plain, ephemeral.
pub(super) fn all<'a>(pod: PodView<'a>) -> impl Iterator<Item = (&'a str, &'a Value)> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |list| items(&pod.spec[list]))
        .map(|container| (container["name"].as_str().unwrap_or(""), container))
}

/// The names of the containers for which this holds.
pub(super) fn named<'a>(pod: PodView<'a>, holds: impl Fn(&Value) -> bool) -> Vec<&'a str> {
    all(pod)
        .filter(|(_, container)| holds(container))
        .map(|(name, _)| name)
        .collect()
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn words(names: &[&str]) -> String {
    format!("{} {}", plural("container", names.len()), quoted(names))
}

/// `pod`, containers, or both; none when nobody did it.
pub(super) fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let mut setters = Vec::new();
    if pod {
        setters.push("pod".to_owned());
    }
    if !names.is_empty() {
        setters.push(words(names));
    }
    (!setters.is_empty()).then(|| setters.join(" and "))
}

pub(super) fn plural(word: &str, count: usize) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

pub(super) fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<String> = names
        .iter()
        .map(|name| format!("{:?}", name.as_ref()))
        .collect();
    quoted.join(", ")
}

/// Sorted, each once.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let set: std::collections::BTreeSet<&str> = names.collect();
    set.into_iter().collect()
}

pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    items(value).iter().filter_map(Value::as_str)
}
