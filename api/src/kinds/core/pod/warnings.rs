//! What is allowed in a pod but hardly meant: told to the author as warnings.

use serde_json::Value;

use crate::kinds::Path;
use crate::kinds::core::node_labels;
use crate::kinds::value::Get;
use crate::quantity::Quantity;

/// Warnings about the spec of a pod or of a template.
pub fn warnings(spec: &Value, path: &Path<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let selector = path.child("nodeSelector");
    for (key, _) in spec.entries("nodeSelector") {
        if let Some(word) = node_labels::deprecation(key) {
            let at = selector.key(key).to_field_path();
            found.push(format!("{at}: {word}"));
        }
    }
    let at = path.child("imagePullSecrets");
    for (i, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        if secret.is_empty_at("name") {
            let at = at.index(i);
            found.push(format!(
                "{}: invalid empty name \"\"",
                at.child("name").to_field_path()
            ));
        }
    }
    if spec
        .int("terminationGracePeriodSeconds")
        .is_some_and(|seconds| seconds < 0)
    {
        let at = path.child("terminationGracePeriodSeconds").to_field_path();
        found.push(format!(
            "{at}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for key in ["initContainers", "containers"] {
        let at = path.child(key);
        for (i, container) in spec.list(key).iter().enumerate() {
            container_warnings(container, &at.index(i), &mut found);
        }
    }
    found
}

fn container_warnings(container: &Value, path: &Path<'_>, found: &mut Vec<String>) {
    let variables = container.list("env");
    let at = path.child("env");
    for (i, variable) in variables.iter().enumerate() {
        let name = variable.text("name");
        if !name.is_empty() && variables[..i].iter().any(|v| v.text("name") == name) {
            let at = at.index(i).to_field_path();
            found.push(format!(
                "{at}: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
    }
    let ports = container.list("ports");
    let at = path.child("ports");
    for (i, port) in ports.iter().enumerate() {
        let key = |p: &Value| {
            (
                p.int("containerPort"),
                p.text("protocol").to_owned(),
                p.int("hostPort").unwrap_or(0),
            )
        };
        if let Some(first) = ports[..i].iter().position(|p| key(p) == key(port)) {
            let (at, first) = (at.index(i).to_field_path(), at.index(first).to_field_path());
            found.push(format!("{at}: duplicate port definition with {first}"));
        }
    }
    let at = path.child("resources");
    for kind in ["limits", "requests"] {
        let at = at.child(kind);
        for (name, amount) in container.at("resources").entries(kind) {
            let whole = Quantity::from_json(amount).is_ok_and(Quantity::is_integer);
            if matches!(name, "memory" | "ephemeral-storage") && !whole {
                let at = at.key(name).to_field_path();
                let amount = amount.as_str().unwrap_or("");
                found.push(format!(
                    "{at}: fractional byte value \"{amount}\" is invalid, must be an integer"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slips_are_told() {
        let spec = json!({
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{
                "env": [{"name": "A"}, {"name": "A"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
                "resources": {"requests": {"memory": "500m"}},
            }],
        });
        assert_eq!(
            warnings(&spec, &Path::new("spec")),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[0].resources.requests[memory]: fractional byte value \"500m\" is invalid, must be an \
                 integer",
            ]
        );
    }
}
