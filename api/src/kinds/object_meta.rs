//! Checks of `metadata`, the same for every kind.

use serde_json::Value;

use super::names::{label_value, qualified_name};
use super::strategy::{NameRule, Rules, immutable};
use super::value::Get;
use super::{Errors, Path};

/// All annotations of an object together, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

/// Checks the metadata of a new object.
pub fn validate(object: &Value, rules: &Rules, errors: &mut Errors) {
    let path = Path::new("metadata");
    let meta = object.at("metadata");
    let prefix = meta.text("generateName");
    if !prefix.is_empty() {
        errors.invalid_each(
            &path.child("generateName"),
            prefix,
            rules.name.check(prefix, true),
        );
    }
    let name = meta.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        errors.invalid_each(&path.child("name"), name, rules.name.check(name, false));
    }
    let namespace = meta.text("namespace");
    let at = path.child("namespace");
    match (rules.namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&at, ""),
        (true, false) => {
            errors.invalid_each(&at, namespace, NameRule::Label.check(namespace, false))
        }
        (false, false) => errors.forbidden(&at, "not allowed on this type"),
        (false, true) => {}
    }
    errors.non_negative(&path.child("generation"), meta.int("generation"));
    validate_labels(meta.at("labels"), &path.child("labels"), errors);
    validate_annotations(meta.at("annotations"), &path.child("annotations"), errors);
    validate_owners(meta, &path.child("ownerReferences"), errors);
    validate_finalizers(meta, &path.child("finalizers"), errors);
}

/// Checks the metadata of an update.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    let (new, old) = (new.at("metadata"), old.at("metadata"));
    let finalizers = path.child("finalizers");
    if old.has("deletionTimestamp") {
        validate_no_new_finalizers(new, old, &finalizers, errors);
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
    ] {
        immutable(new.at(key), old.at(key), &path.child(key), errors);
    }
    if !super::value::same(
        new.at("deletionGracePeriodSeconds"),
        old.at("deletionGracePeriodSeconds"),
    ) {
        errors.invalid(
            &path.child("deletionGracePeriodSeconds"),
            new.at("deletionGracePeriodSeconds"),
            "field is immutable; may only be changed via deletion",
        );
    }
    validate_labels(new.at("labels"), &path.child("labels"), errors);
    validate_annotations(new.at("annotations"), &path.child("annotations"), errors);
    validate_owners(new, &path.child("ownerReferences"), errors);
    validate_finalizers(new, &finalizers, errors);
}

/// Checks the metadata that a template carries: labels, annotations and finalizers, but no name.
pub fn validate_template(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_labels(meta.at("labels"), &path.child("labels"), errors);
    validate_annotations(meta.at("annotations"), &path.child("annotations"), errors);
}

/// Checks the metadata of a template that carries labels and annotations and nothing else.
pub fn validate_bare_template(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_annotations(meta.at("annotations"), &path.child("annotations"), errors);
    validate_labels(meta.at("labels"), &path.child("labels"), errors);
    for (key, _) in meta.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "annotations" | "labels") && !meta.is_empty_at(key) {
            errors.forbidden(&path.child(key), "cannot be set");
        }
    }
}

/// Checks a map of labels.
pub fn validate_labels(labels: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(map) = labels.as_object() else {
        return;
    };
    for (key, value) in map {
        errors.invalid_each(path, key, qualified_name(key));
        let value = value.as_str().unwrap_or("");
        errors.invalid_each(path, value, label_value(value));
    }
}

/// Checks a map of annotations and its size.
pub fn validate_annotations(annotations: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(map) = annotations.as_object() else {
        return;
    };
    for key in map.keys() {
        // Annotation keys may have upper-case domains, unlike labels.
        errors.invalid_each(path, key, qualified_name(&key.to_lowercase()));
    }
    let bytes: usize = map
        .iter()
        .map(|(k, v)| k.len() + v.as_str().unwrap_or("").len())
        .sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn validate_owners(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut controller: Option<&str> = None;
    for owner in meta.list("ownerReferences") {
        let api_version = owner.text("apiVersion");
        let version = api_version.rsplit('/').next().unwrap_or("");
        if api_version.matches('/').count() > 1 {
            let detail = format!("unexpected GroupVersion string: {api_version}");
            errors.invalid(&path.child("apiVersion"), api_version, detail);
        } else if version.is_empty() {
            errors.invalid(
                &path.child("apiVersion"),
                api_version,
                "version must not be empty",
            );
        }
        for key in ["kind", "name", "uid"] {
            if owner.is_empty_at(key) {
                errors.invalid(&path.child(key), "", "must not be empty");
            }
        }
        if api_version == "v1" && owner.text("kind") == "Event" {
            errors.invalid(
                path,
                owner,
                "/v1, Kind=Event is disallowed from being an owner",
            );
        }
        if owner.flag("controller") {
            let name = owner.text("name");
            match controller {
                None => controller = Some(name),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for \
                         {first} and {name}"
                    );
                    errors.invalid(path, meta.at("ownerReferences"), detail);
                }
            }
        }
    }
}

fn validate_finalizers(meta: &Value, path: &Path<'_>, errors: &mut Errors) {
    let finalizers = meta.list("finalizers");
    let has = |name: &str| finalizers.iter().any(|f| f.as_str() == Some(name));
    for finalizer in finalizers {
        let finalizer = finalizer.as_str().unwrap_or("");
        errors.invalid_each(path, finalizer, qualified_name(finalizer));
    }
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, meta.at("finalizers"), detail);
    }
    for (i, finalizer) in finalizers.iter().enumerate() {
        validate_finalizer(finalizer.as_str().unwrap_or(""), &path.index(i), errors);
    }
}

/// Checks one finalizer: a standard one, or `domain/name`.
pub fn validate_finalizer(finalizer: &str, path: &Path<'_>, errors: &mut Errors) {
    let malformed = qualified_name(finalizer);
    if !malformed.is_empty() {
        errors.invalid_each(path, finalizer, malformed);
    } else if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
        errors.invalid(
            path,
            finalizer,
            "name is neither a standard finalizer name nor is it fully qualified",
        );
    }
}

fn validate_no_new_finalizers(new: &Value, old: &Value, path: &Path<'_>, errors: &mut Errors) {
    let before = old.list("finalizers");
    let added: Vec<String> = new
        .list("finalizers")
        .iter()
        .filter(|f| !before.contains(f))
        .map(|f| format!("{:?}", f.as_str().unwrap_or("")))
        .collect();
    if !added.is_empty() {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        errors.forbidden(path, detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(meta: Value, rules: &Rules) -> Vec<String> {
        let mut errors = Errors::new();
        validate(&json!({"metadata": meta}), rules, &mut errors);
        errors.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_and_namespaces() {
        let ok: Vec<String> = vec![];
        assert_eq!(
            check(json!({"name": "a", "namespace": "b"}), &Rules::NAMESPACED),
            ok
        );
        assert_eq!(
            check(json!({}), &Rules::NAMESPACED),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value",
            ]
        );
        assert_eq!(
            check(json!({"name": "a", "namespace": "b"}), &Rules::CLUSTER),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        let errors = check(json!({"name": "A", "namespace": "b"}), &Rules::NAMESPACED);
        assert!(
            errors[0]
                .starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain")
        );
    }

    #[test]
    fn sizes_owners_and_finalizers() {
        let large = "x".repeat(ANNOTATIONS_BYTES_MAX);
        assert_eq!(
            check(
                json!({"name": "a", "annotations": {"k": large}}),
                &Rules::CLUSTER
            ),
            ["metadata.annotations: Too long: may not be more than 262144 bytes"]
        );
        let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
        let errors = check(
            json!({"name": "a", "ownerReferences": [owner("x"), owner("y")]}),
            &Rules::CLUSTER,
        );
        assert!(
            errors[0].ends_with("Found \"true\" in references for x and y"),
            "{errors:?}"
        );
        let errors = check(
            json!({"name": "a", "finalizers": ["mine"]}),
            &Rules::CLUSTER,
        );
        assert_eq!(
            errors,
            [
                "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it \
              fully qualified"
            ]
        );
    }

    #[test]
    fn updates_keep_identity_and_add_no_finalizer_while_deleting() {
        let mut errors = Errors::new();
        let old = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "2024-01-01T00:00:00Z"}});
        let new = json!({"metadata": {"name": "a", "uid": "2", "deletionTimestamp": "2024-01-01T00:00:00Z",
                                      "finalizers": ["a.b/c"]}});
        validate_update(&new, &old, &mut errors);
        let errors: Vec<String> = errors.finish().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found \
                 new finalizers []string{\"a.b/c\"}",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }
}
