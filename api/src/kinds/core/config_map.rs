//! ConfigMap: configuration as keys and values.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, same};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `configmaps` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    list_kind: "ConfigMapList",
    resource: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    namespaced: true,
    storage_prefix: "configmaps",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Data", "Number of keys."),
        Column::AGE,
    ],
    strategy: &ConfigMap,
};

/// All values of a ConfigMap or Secret together, in bytes.
pub(crate) const DATA_BYTES_MAX: usize = 1024 * 1024;

const IMMUTABLE: &str = "field is immutable when `immutable` is set";

struct ConfigMap;

impl Strategy for ConfigMap {
    fn rules(&self) -> &Rules {
        &Rules::NAMESPACED
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (data, binary) = (object.at("data"), object.at("binaryData"));
        let mut bytes = 0;
        for (key, value) in object.entries("data") {
            let path = Path::new("data");
            errors.invalid_each(&path.key(key), key, names::config_map_key(key));
            if binary.has(key) {
                errors.invalid(
                    &path.key(key),
                    key,
                    "duplicate of key present in binaryData",
                );
            }
            bytes += value.as_str().unwrap_or("").len();
        }
        for (key, value) in object.entries("binaryData") {
            let path = Path::new("binaryData");
            errors.invalid_each(&path.key(key), key, names::config_map_key(key));
            if data.has(key) {
                errors.invalid(&path.key(key), key, "duplicate of key present in data");
            }
            bytes += decoded_len(value.as_str().unwrap_or(""));
        }
        if bytes > DATA_BYTES_MAX {
            // Upstream names no field here and prints the empty path this way.
            errors.too_long(&Path::new("[]"), DATA_BYTES_MAX);
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_immutable(new, old, &["data", "binaryData"], errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let keys = object.entries("data").count() + object.entries("binaryData").count();
        vec![
            meta.text("name").into(),
            keys.into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

/// Refuses changes to a ConfigMap or Secret that is marked immutable.
pub(crate) fn validate_immutable(new: &Value, old: &Value, keys: &[&str], errors: &mut Errors) {
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        errors.forbidden(&Path::new("immutable"), IMMUTABLE);
    }
    for key in keys {
        if !same(new.at(key), old.at(key)) {
            errors.forbidden(&Path::new(key), IMMUTABLE);
        }
    }
}

/// Bytes that a base64 text stands for.
pub(crate) fn decoded_len(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn map() -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "data": {"k": "v"}})
    }

    #[test]
    fn keys_sizes_and_duplicates() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&ConfigMap, map()), none);
        let errors = create(&ConfigMap, with(map(), "/data/..", json!("x")));
        assert_eq!(
            errors[0],
            "data[..]: Invalid value: \"..\": must not be '..'"
        );
        let errors = create(&ConfigMap, with(map(), "/binaryData", json!({"k": "YQ=="})));
        assert_eq!(
            errors[0],
            "data[k]: Invalid value: \"k\": duplicate of key present in binaryData"
        );
        let errors = create(
            &ConfigMap,
            with(map(), "/data/k", json!("x".repeat(DATA_BYTES_MAX + 1))),
        );
        assert_eq!(errors, ["[]: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn immutable_stays() {
        let old = with(map(), "/immutable", json!(true));
        assert_eq!(
            update(&ConfigMap, with(map(), "/data/k", json!("w")), old),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
    }

    #[test]
    fn row_counts_keys() {
        let row = ConfigMap.row(&map(), Timestamp::UNIX_EPOCH);
        assert_eq!(row, [json!("a"), json!(1), json!("<unknown>")]);
        assert_eq!(decoded_len("YWI="), 2);
    }
}
