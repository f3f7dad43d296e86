//! IngressClass: a controller that serves ingresses, and its parameters.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, validate_typed_reference};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::{Generation, immutable};
use crate::kinds::value::{Get, set};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `ingressclasses` of networking.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "IngressClass",
    list_kind: "IngressClassList",
    resource: "ingressclasses",
    singular: "ingressclass",
    short_names: &[],
    categories: &[],
    namespaced: false,
    storage_prefix: "ingressclasses",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Controller", "Who serves ingresses of this class."),
        Column::text("Parameters", "Object with further settings."),
        Column::AGE,
    ],
    strategy: &IngressClass,
};

const CONTROLLER_BYTES_MAX: usize = 250;

struct IngressClass;

static RULES: Rules = Rules {
    generation: Generation::Spec,
    ..Rules::CLUSTER
};

impl Strategy for IngressClass {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let parameters = object
            .get_mut("spec")
            .and_then(|spec| spec.get_mut("parameters"));
        if let Some(parameters) = parameters.filter(|parameters| !parameters.has("scope")) {
            set(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        validate_controller(spec.text("controller"), &path.child("controller"), errors);
        if let Some(parameters) = spec.opt("parameters") {
            validate_parameters(parameters, &path.child("parameters"), errors);
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (new, old) = (new.at("spec"), old.at("spec"));
        let path = Path::new("spec.controller");
        immutable(new.at("controller"), old.at("controller"), &path, errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let parameters = match spec.opt("parameters") {
            None => "<none>".to_owned(),
            Some(parameters) => {
                let group = parameters.opt_text("apiGroup");
                let group = group.map(|group| format!(".{group}")).unwrap_or_default();
                let (kind, name) = (parameters.text("kind"), parameters.text("name"));
                format!("{kind}{group}/{name}")
            }
        };
        vec![
            meta.text("name").into(),
            spec.text("controller").into(),
            parameters.into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

/// A controller is named as a domain and a path below it.
fn validate_controller(controller: &str, path: &Path<'_>, errors: &mut Errors) {
    if controller.len() > CONTROLLER_BYTES_MAX {
        errors.too_long(path, CONTROLLER_BYTES_MAX);
    }
    if controller.is_empty() {
        errors.required(path, "");
        return;
    }
    let parts = controller.split_once('/');
    let Some((host, rest)) = parts.filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.invalid(path, controller, detail);
        return;
    };
    errors.invalid_each(path, host, names::subdomain(host, false));
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(good) {
        let detail =
            r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.invalid(path, rest, detail);
    }
}

fn validate_parameters(parameters: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_typed_reference(parameters, path, errors);
    let namespace = parameters.opt_text("namespace");
    let at = path.child("namespace");
    match (parameters.opt_text("scope"), namespace) {
        (None, _) => errors.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => {
            errors.required(&at, "`parameters.scope` is set to 'Namespace'");
        }
        (Some("Namespace"), Some(namespace)) => {
            errors.invalid_each(&at, namespace, names::label(namespace, false));
        }
        (Some("Cluster"), Some(_)) => {
            errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'");
        }
        (Some("Cluster"), None) => {}
        (Some(scope), _) => {
            errors.not_supported(&path.child("scope"), scope, &["Cluster", "Namespace"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn class() -> Value {
        json!({
            "metadata": {"name": "a"},
            "spec": {"controller": "example.com/c", "parameters": {"apiGroup": "k.example.com", "kind": "P", "name": "x"}},
        })
    }

    #[test]
    fn parameters_are_cluster_wide_when_nothing_is_said() {
        let mut object = class();
        IngressClass.default(&mut object);
        assert_eq!(object["spec"]["parameters"]["scope"], "Cluster");
        let mut plain = json!({"spec": {"controller": "a/b"}});
        IngressClass.default(&mut plain);
        assert_eq!(plain, json!({"spec": {"controller": "a/b"}}));
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&IngressClass, class()), none);
        let parameters = "spec.parameters";
        let cases = [
            (
                "/spec/controller",
                json!(""),
                "spec.controller: Required value".to_owned(),
            ),
            (
                "/spec/controller",
                json!("nginx"),
                "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")"
                    .to_owned(),
            ),
            (
                "/spec/controller",
                json!("a.io/b c"),
                "spec.controller: Invalid value: \"b c\": Invalid path (regex used for validation is \
                 '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"
                    .to_owned(),
            ),
            (
                "/spec/controller",
                json!(format!("a.io/{}", "x".repeat(250))),
                "spec.controller: Too long: may not be more than 250 bytes".to_owned(),
            ),
            (
                "/spec/parameters/scope",
                json!("Namespace"),
                format!("{parameters}.namespace: Required value: `parameters.scope` is set to 'Namespace'"),
            ),
            (
                "/spec/parameters/namespace",
                json!("n"),
                format!("{parameters}.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"),
            ),
            (
                "/spec/parameters/scope",
                json!("All"),
                format!(
                    "{parameters}.scope: Unsupported value: \"All\": supported values: \"Cluster\", \"Namespace\""
                ),
            ),
        ];
        for (pointer, value, expected) in cases {
            let found = create(&IngressClass, with(class(), pointer, value));
            assert_eq!(found, [expected], "{pointer}");
        }
    }

    #[test]
    fn controllers_stay() {
        let new = with(class(), "/spec/controller", json!("example.com/d"));
        assert_eq!(
            update(&IngressClass, new, class()),
            ["spec.controller: Invalid value: \"example.com/d\": field is immutable"]
        );
    }

    #[test]
    fn row() {
        let row = IngressClass.row(&class(), Timestamp::UNIX_EPOCH);
        let expected = ["a", "example.com/c", "P.k.example.com/x", "<unknown>"];
        assert_eq!(row, expected.map(Value::from));
    }
}
