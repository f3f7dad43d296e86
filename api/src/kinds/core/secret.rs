//! Secret: like a ConfigMap, for what must not be seen.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::config_map::{DATA_BYTES_MAX, decoded_len, validate_immutable};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::immutable;
use crate::kinds::value::{Get, default_to, object_at, remove, set};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, duration, names,
};

/// `secrets` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "Secret",
    list_kind: "SecretList",
    resource: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "secrets",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Type", "What the secret is for."),
        Column::text("Data", "Number of keys."),
        Column::AGE,
    ],
    strategy: &Secret,
};

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

struct Secret;

impl Strategy for Secret {
    fn rules(&self) -> &Rules {
        &Rules::NAMESPACED
    }

    fn default(&self, object: &mut Value) {
        default_to(object, "type", "Opaque");
        // `stringData` is only a way to write `data`.
        if let Some(Value::Object(texts)) = remove(object, "stringData")
            && !texts.is_empty()
            && let Some(data) = object_at(object, "data")
        {
            for (key, text) in texts {
                set(data, &key, STANDARD.encode(text.as_str().unwrap_or("")));
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("data");
        let mut bytes = 0;
        for (key, value) in object.entries("data") {
            errors.invalid_each(&path.key(key), key, names::config_map_key(key));
            bytes += decoded_len(value.as_str().unwrap_or(""));
        }
        if bytes > DATA_BYTES_MAX {
            errors.too_long(&path, DATA_BYTES_MAX);
        }
        validate_type(object, &path, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        immutable(new.at("type"), old.at("type"), &Path::new("type"), errors);
        validate_immutable(new, old, &["data"], errors);
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        fields.add("type", object.text("type"));
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            object.text("type").into(),
            object.entries("data").count().into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn validate_type(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let data = object.at("data");
    let annotations = object.at("metadata").at("annotations");
    let account = annotations.text(SERVICE_ACCOUNT_NAME);
    let mut need = |keys: &[&str]| {
        for key in keys.iter().filter(|key| !data.has(key)) {
            errors.required(&path.key(key), "");
        }
    };
    match object.text("type") {
        "kubernetes.io/service-account-token" if account.is_empty() => {
            let annotations = Path::new("metadata.annotations");
            errors.required(&annotations.key(SERVICE_ACCOUNT_NAME), "");
        }
        "kubernetes.io/dockercfg" => validate_json(data, ".dockercfg", path, errors),
        "kubernetes.io/dockerconfigjson" => validate_json(data, ".dockerconfigjson", path, errors),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => {
            need(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if data.is_empty_at("ssh-privatekey") => need(&["ssh-privatekey"]),
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
        _ => {}
    }
}

fn validate_json(data: &Value, key: &str, path: &Path<'_>, errors: &mut Errors) {
    let Some(text) = data.opt_text(key) else {
        return errors.required(&path.key(key), "");
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        errors.invalid(
            &path.key(key),
            "<secret contents redacted>",
            error.to_string(),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn secret(kind: &str, data: Value) -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "type": kind, "data": data})
    }

    #[test]
    fn string_data_goes_into_data() {
        let mut object = json!({"stringData": {"a": "x"}, "data": {"a": "eQ==", "b": "eQ=="}});
        Secret.default(&mut object);
        assert_eq!(
            object,
            json!({"data": {"a": "eA==", "b": "eQ=="}, "type": "Opaque"})
        );
    }

    #[test]
    fn types_need_their_keys() {
        let cases = [
            (
                secret("kubernetes.io/tls", json!({"tls.crt": ""})),
                vec!["data[tls.key]: Required value"],
            ),
            (
                secret("kubernetes.io/basic-auth", json!({})),
                vec![
                    "data[username]: Required value",
                    "data[password]: Required value",
                ],
            ),
            (
                secret("kubernetes.io/dockerconfigjson", json!({})),
                vec!["data[.dockerconfigjson]: Required value"],
            ),
            (
                secret("kubernetes.io/service-account-token", json!({})),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
            (secret("mine", json!({})), vec![]),
        ];
        for (object, expected) in cases {
            assert_eq!(create(&Secret, object), expected);
        }
    }

    #[test]
    fn type_is_immutable_and_selectable() {
        let old = secret("a", json!({}));
        let errors = update(&Secret, with(old.clone(), "/type", json!("b")), old.clone());
        assert_eq!(errors, ["type: Invalid value: \"b\": field is immutable"]);
        assert_eq!(Secret.selectable_fields(&old).get("type"), Some("a"));
    }
}
