//! Laws of server-side apply, over random small Deployments and managers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{applied, written};
use super::*;

/// What one manager may wish of a Deployment: scalars, a map, a list by key with a map-like list inside, a set, a list as a whole.
#[derive(Debug, Clone)]
struct Wishes {
    replicas: Option<u8>,
    labels: BTreeMap<String, String>,
    /// By name: the image, and environment variables.
    containers: BTreeMap<String, (Option<String>, BTreeMap<String, String>)>,
    finalizers: Vec<String>,
    tolerations: Option<Vec<String>>,
}

impl Wishes {
    fn object(&self) -> Value {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}});
        if let Some(replicas) = self.replicas {
            object["spec"]["replicas"] = replicas.into();
        }
        if !self.labels.is_empty() {
            object["metadata"]["labels"] = json!(self.labels);
        }
        if !self.finalizers.is_empty() {
            object["metadata"]["finalizers"] = json!(self.finalizers);
        }
        let container =
            |(name, (image, env)): (&String, &(Option<String>, BTreeMap<String, String>))| {
                let mut container = json!({"name": name});
                if let Some(image) = image {
                    container["image"] = json!(image);
                }
                if !env.is_empty() {
                    let env: Vec<Value> = env
                        .iter()
                        .map(|(name, value)| json!({"name": name, "value": value}))
                        .collect();
                    container["env"] = env.into();
                }
                container
            };
        let pod = &mut object["spec"]["template"]["spec"];
        if !self.containers.is_empty() {
            pod["containers"] = self.containers.iter().map(container).collect();
        }
        if let Some(tolerations) = &self.tolerations {
            pod["tolerations"] = tolerations.iter().map(|key| json!({"key": key})).collect();
        }
        if pod.is_null() {
            // Indexing made it: nothing is wished of the pod.
            let spec = object["spec"].as_object_mut().expect("it was just made");
            spec.shift_remove("template");
            if spec.is_empty() {
                object
                    .as_object_mut()
                    .expect("an object")
                    .shift_remove("spec");
            }
        }
        object
    }
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let few = || proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let containers = proptest::collection::btree_map(
        "[a-c]",
        (proptest::option::of("[x-z]".prop_map(String::from)), few()),
        0..3,
    );
    let finalizers = proptest::collection::btree_set("[a-c]/[x-y]", 0..3);
    (
        proptest::option::of(0_u8..3),
        few(),
        containers,
        finalizers,
        proptest::option::of(proptest::collection::vec(
            "[a-c]".prop_map(String::from),
            1..3,
        )),
    )
        .prop_map(
            |(replicas, labels, containers, finalizers, tolerations)| Wishes {
                replicas,
                labels,
                containers,
                finalizers: finalizers.into_iter().collect(),
                tolerations,
            },
        )
}

/// Whether all that is wished is so: maps and lists by name may hold more.
fn holds(object: &Value, wishes: &Value) -> bool {
    match (object, wishes) {
        (Value::Object(object), Value::Object(wishes)) => wishes
            .iter()
            .all(|(key, wish)| object.get(key).is_some_and(|found| holds(found, wish))),
        (Value::Array(object), Value::Array(wishes)) => wishes.iter().all(|wish| {
            let same = |found: &&Value| match wish.get("name") {
                Some(name) => found.get("name") == Some(name),
                None => *found == wish,
            };
            object
                .iter()
                .find(same)
                .is_some_and(|found| holds(found, wish))
        }),
        (object, wishes) => object == wishes,
    }
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]
        .as_object_mut()
        .expect("metadata")
        .shift_remove("managedFields");
    object
}

fn nothing() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_applied_holds_and_applying_it_again_changes_nothing(live in wishes(), wish in wishes()) {
        let live = written(&live.object(), "writer");
        let once = applied(&live, &wish.object(), "one", true).expect("force takes all");
        prop_assert!(holds(&once, &wish.object()), "{once}");
        let twice = applied(&once, &wish.object(), "one", false).expect("it owns all that it wishes");
        prop_assert_eq!(&twice, &once);
    }

    #[test]
    fn without_force_what_others_wished_stays(first in wishes(), second in wishes()) {
        let live = applied(&nothing(), &first.object(), "one", false).expect("there is nobody else");
        if let Ok(both) = applied(&live, &second.object(), "two", false) {
            prop_assert!(holds(&both, &first.object()), "{both}");
            prop_assert!(holds(&both, &second.object()), "{both}");
            let forced = applied(&live, &second.object(), "two", true).expect("force takes all");
            prop_assert_eq!(both, forced, "force is nothing where there is no conflict");
        }
    }

    #[test]
    fn whoever_wishes_nothing_any_more_leaves_no_trace(first in wishes(), second in wishes()) {
        let live = applied(&nothing(), &first.object(), "one", false).expect("there is nobody else");
        if let Ok(both) = applied(&live, &second.object(), "two", false) {
            let left = applied(&both, &nothing(), "two", false).expect("to let go is no conflict");
            prop_assert_eq!(bare(&left), bare(&live));
            prop_assert_eq!(tests::owned(&left, "one"), tests::owned(&live, "one"));
            prop_assert_eq!(tests::owned(&left, "two"), Vec::<String>::new());
        }
    }

    #[test]
    fn every_field_has_an_owner(first in wishes(), second in wishes(), third in wishes()) {
        let mut live = applied(&nothing(), &first.object(), "one", false).expect("there is nobody else");
        live = applied(&live, &second.object(), "two", true).expect("force takes all");
        live = applied(&live, &third.object(), "one", true).expect("force takes all");
        let all = without_untracked(walk::fields_of(walk::View::of_type(tests::deployment()), &bare(&live)));
        let owned = Managers::of(&live).all();
        prop_assert!(all.difference(&owned).is_empty(), "{:?}", all.difference(&owned).paths());
    }

    #[test]
    fn sets_are_sets(a in wishes(), b in wishes()) {
        let set = |wishes: &Wishes| without_untracked(walk::fields_of(walk::View::of_type(tests::deployment()), &wishes.object()));
        let (a, b) = (set(&a), set(&b));
        let union = a.union(&b);
        prop_assert_eq!(&union, &b.union(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&union).is_empty() && a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(Set::from_json(&union.to_json()), Some(union));
    }
}
