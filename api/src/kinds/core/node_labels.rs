//! Labels of nodes that are no longer to be used, and what people are told who still select by them.

use serde_json::Value;

use crate::kinds::Path;
use crate::kinds::value::Get;

const DEPRECATED: &[(&str, &str)] = &[
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

/// Beta labels and the ones that took their place.
const SUCCESSORS: &[(&str, &str)] = &[
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
];

/// What to say of a label that should not be used any more.
pub(crate) fn deprecation(key: &str) -> Option<&'static str> {
    let found = DEPRECATED.iter().find(|(label, _)| *label == key);
    found.map(|(_, word)| *word)
}

/// The label that took the place of a beta one.
pub(crate) fn successor(key: &str) -> Option<&'static str> {
    let found = SUCCESSORS.iter().find(|(label, _)| *label == key);
    found.map(|(_, newer)| *newer)
}

/// Warnings about `matchExpressions` that name such labels.
pub(crate) fn expression_warnings(holder: &Value, path: &Path<'_>) -> Vec<String> {
    let at = path.child("matchExpressions");
    let expressions = holder.list("matchExpressions").iter().enumerate();
    let warning = |(i, expression): (usize, &Value)| {
        let key = expression.text("key");
        let word = deprecation(key)?;
        let at = at.index(i);
        let at = at.child("key").to_field_path();
        Some(format!("{at}: {key} is {word}"))
    };
    expressions.filter_map(warning).collect()
}
