//! Garbled input for everything in this crate that reads what clients send: documents of every kind, patches, selectors,
//! quantities, managed fields, in JSON, YAML and protobuf. Nothing may panic or make much out of little.
//!
//! The documents are samples of every kind's schema whose text or tree was changed at random; proptest keeps and shrinks what fails.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decode::{self, Encoding, FieldValidation};
use crate::managed::{self, Managers, Operation, Writer};
use crate::meta::GroupVersionKind;
use crate::protobuf;
use crate::schema::{self, Type};
use crate::{patch, quantity, selector};

/// Names and texts that engines treat apart.
const WORDS: &[&str] = &[
    "",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "delete",
    "replace",
    "merge",
    "name",
    "metadata",
    "spec",
    "containers",
    "apiVersion",
    "kind",
    "f:metadata",
    ".",
    "k:{\"name\":\"a\"}",
    "v:1",
    "i:0",
    "op",
    "add",
    "/metadata/labels/a~1b~0c",
    "/-",
    "/spec/containers/0",
    "copy",
    "from",
    "test",
    "1e400",
    "9223372036854775808",
    "10Ei",
    "-1n",
    "\u{0}",
];

fn kinds() -> Vec<(&'static Type, GroupVersionKind)> {
    schema::types()
        .iter()
        .filter_map(|ty| Some((ty, ty.gvk.clone()?)))
        .filter(|(_, gvk)| !gvk.kind.ends_with("List"))
        .collect()
}

/// A document of a kind, and the kind.
fn document(pick: usize) -> (&'static Type, GroupVersionKind, Value) {
    let kinds = kinds();
    let (ty, gvk) = kinds[pick % kinds.len()].clone();
    let mut object = protobuf::tests::sample(ty, 4, &mut 0);
    object["apiVersion"] = gvk.api_version().into();
    object["kind"] = gvk.kind.as_ref().into();
    (ty, gvk, object)
}

/// A place and what is done to it.
type Edit = (usize, u8, usize);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    proptest::collection::vec((any::<usize>(), any::<u8>(), any::<usize>()), 1..6)
}

/// Changes bytes: flips, cuts, repeats, words.
fn garbled(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for &(place, what, with) in edits {
        let at = place % (bytes.len() + 1);
        let to = (at + with % 40).min(bytes.len());
        match what % 6 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (with % 8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let piece = bytes[at..to].to_vec();
                bytes.splice(
                    at..at,
                    piece.iter().copied().cycle().take(piece.len() * (with % 5)),
                );
            }
            4 => drop(bytes.splice(at..to, WORDS[with % WORDS.len()].bytes())),
            _ => drop(bytes.splice(at..at, [b"{}[]\":,&*!|>-%"[with % 14]])),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

/// Changes the tree: values of other types, words as names, things moved to where they do not belong.
fn bent(mut tree: Value, edits: &[Edit]) -> Value {
    for &(place, what, with) in edits {
        let mut left = place % (size(&tree) + 1);
        let word = WORDS[with % WORDS.len()];
        let other = match what % 7 {
            0 => Value::Null,
            1 => json!({ word: null }),
            2 => json!([{ "name": word }, { word: [] }]),
            3 => word.into(),
            4 => json!(i64::MIN),
            5 => json!({"$patch": word, "name": "a"}),
            _ => Value::Array(vec![Value::Bool(true); with % 50]),
        };
        bend(&mut tree, &mut left, &other, word);
    }
    tree
}

fn size(tree: &Value) -> usize {
    1 + match tree {
        Value::Object(map) => map.values().map(size).sum(),
        Value::Array(list) => list.iter().map(size).sum(),
        _ => 0,
    }
}

/// Puts `other` in the place that is `left` nodes away, and beside it under `word`.
fn bend(tree: &mut Value, left: &mut usize, other: &Value, word: &str) {
    if *left == 0 {
        *tree = match tree.take() {
            Value::Object(mut map) if !word.is_empty() => {
                map.insert(word.to_owned(), other.clone());
                Value::Object(map)
            }
            _ => other.clone(),
        };
        *left = usize::MAX;
        return;
    }
    *left -= 1;
    match tree {
        Value::Object(map) => map
            .values_mut()
            .for_each(|value| descend(value, left, other, word)),
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| descend(value, left, other, word)),
        _ => {}
    }
}

fn descend(tree: &mut Value, left: &mut usize, other: &Value, word: &str) {
    if *left != usize::MAX {
        bend(tree, left, other, word);
    }
}

/// What is made of a patch is bounded by what went in.
fn bounded(made: &Value, inputs: &[&Value]) {
    let sum: usize = inputs.iter().map(|input| input.to_string().len()).sum();
    let length = made.to_string().len();
    assert!(length <= 64 * (sum + 1024), "{length} bytes out of {sum}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn documents(pick in any::<usize>(), edits in edits(), strict in any::<bool>()) {
        let (ty, gvk, object) = document(pick);
        let validation = if strict { FieldValidation::Strict } else { FieldValidation::Warn };
        let json = garbled(object.to_string().into_bytes(), &edits);
        for encoding in [Encoding::Json, Encoding::Yaml] {
            if let Ok(read) = decode::decode(&json, encoding, &gvk, validation) {
                // What was read can be read again, and changes no more.
                let again = decode::check(read.object.clone(), &gvk, validation).expect("it passed before");
                prop_assert_eq!(&again.object, &read.object);
            }
            let _ = decode::parse(&json, encoding);
        }
        let bytes = protobuf::envelope(&gvk.api_version(), &gvk.kind, &protobuf::message(&object, ty));
        if let Ok(read) = protobuf::parse(&garbled(bytes, &edits), &gvk) {
            let _ = decode::check(read, &gvk, validation);
        }
    }

    #[test]
    fn bent_documents(pick in any::<usize>(), edits in edits()) {
        let (ty, gvk, object) = document(pick);
        let tree = bent(object, &edits);
        let _ = protobuf::message(&tree, ty);
        if let Ok(read) = decode::check(tree, &gvk, FieldValidation::Warn) {
            let _ = protobuf::message(&read.object, ty);
        }
    }

    #[test]
    fn patches(pick in any::<usize>(), of_target in edits(), of_patch in edits(), order in any::<bool>()) {
        let (_, gvk, object) = document(pick);
        let target = if order { object.clone() } else { bent(object.clone(), &of_target) };
        let merge = bent(object, &of_patch);
        for made in [
            patch::strategic_merge_patch(&gvk, &target, &merge),
            patch::merge_patch(&target, &merge),
            patch::strategic_merge_patch(&gvk, &merge, &target),
        ].into_iter().flatten() {
            bounded(&made, &[&target, &merge]);
            let _ = decode::check(made, &gvk, FieldValidation::Ignore);
        }
        let operations = json!([
            {"op": "copy", "from": "/metadata", "path": "/metadata/labels/a"},
            {"op": "add", "path": "/spec/x", "value": [1, 2]},
            {"op": "move", "from": "/spec/x/0", "path": "/spec/x/-"},
            {"op": "test", "path": "/kind", "value": gvk.kind.as_ref()},
            {"op": "remove", "path": "/metadata"},
        ]);
        let operations = bent(operations, &of_patch);
        if let Ok(made) = patch::json_patch(&target, &operations) {
            bounded(&made, &[&target, &operations, &target, &operations]);
        }
    }

    #[test]
    fn applies(pick in any::<usize>(), of_live in edits(), of_wish in edits(), of_managers in edits(), force in any::<bool>()) {
        let (ty, gvk, object) = document(pick);
        let check = |tree| decode::check(tree, &gvk, FieldValidation::Ignore).map(|read| read.object);
        let writer = Writer {
            manager: "one".to_owned(),
            operation: Operation::Apply,
            api_version: gvk.api_version().into_owned(),
            subresource: String::new(),
        };
        let noted = managed::update(ty, &json!({}), &object, Managers::default(), &writer, "2026-01-01T00:00:01Z").to_json();
        let managers = Managers::read(&bent(noted, &of_managers)).unwrap_or_default();
        if let (Ok(live), Ok(wish)) = (check(bent(object.clone(), &of_live)), check(bent(object, &of_wish))) {
            let _ = managed::update(ty, &live, &wish, managers.clone(), &writer, "2026-01-01T00:00:02Z");
            if let Ok(applied) = managed::apply(ty, &live, &wish, managers, &writer, force, "2026-01-01T00:00:03Z") {
                bounded(&applied.object, &[&live, &wish]);
                prop_assert!(check(applied.object).is_ok());
            }
        }
    }

    #[test]
    fn words(edits in edits(), pick in any::<usize>()) {
        const TEXTS: &[&str] = &["a in (b,c),!d,e!=f,g=h,i>1", "metadata.name=a,spec.nodeName!=b\\,c", "1.5Gi", "12e3", "300m", "50%"];
        let text = garbled(TEXTS[pick % TEXTS.len()].as_bytes().to_vec(), &edits);
        let text = String::from_utf8_lossy(&text);
        let _ = selector::LabelSelector::parse(&text);
        let _ = selector::FieldSelector::parse(&text);
        let _ = text.parse::<quantity::Quantity>();
    }
}
