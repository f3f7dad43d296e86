//! Ownership and apply: who owns what after which writes, and what becomes of the object.

use serde_json::{Value, json};

use super::*;
use crate::meta::GroupVersionKind;
use crate::schema;

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

pub(super) fn deployment() -> &'static Type {
    schema::lookup(&GroupVersionKind::from_static("apps", "v1", "Deployment")).expect("known")
}

fn writer(manager: &str, operation: Operation) -> Writer {
    Writer {
        manager: manager.to_owned(),
        operation,
        api_version: "apps/v1".to_owned(),
        subresource: String::new(),
    }
}

fn web(containers: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}},
        },
    })
}

fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image})
}

/// The object with its managers noted in it, as it is stored.
fn stored(mut object: Value, managers: &Managers) -> Value {
    object["metadata"]["managedFields"] = managers.to_json();
    object
}

pub(super) fn written(object: &Value, by: &str) -> Value {
    let writer = writer(by, Operation::Update);
    let managers = update(
        deployment(),
        &json!({}),
        object,
        Managers::default(),
        &writer,
        T1,
    );
    stored(object.clone(), &managers)
}

pub(super) fn applied(
    live: &Value,
    wishes: &Value,
    by: &str,
    force: bool,
) -> Result<Value, Vec<Conflict>> {
    let mut bare = live.clone();
    if let Some(metadata) = bare["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    let writer = writer(by, Operation::Apply);
    let applied = apply(
        deployment(),
        &bare,
        wishes,
        Managers::of(live),
        &writer,
        force,
        T2,
    )?;
    Ok(stored(applied.object, &applied.managers))
}

pub(super) fn owned(object: &Value, manager: &str) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let entry = entries
        .into_iter()
        .flatten()
        .find(|entry| entry["manager"] == manager);
    entry.map_or_else(Vec::new, |entry| {
        Set::from_json(&entry["fieldsV1"]).expect("a set").paths()
    })
}

#[test]
fn a_writer_owns_what_it_wrote() {
    let object = written(&web(json!([container("c", "a")])), "kubectl-create");
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1", "time": T1,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}},
                    },
                },
            },
        }])
    );
    let again = Managers::of(&object);
    assert_eq!(again.to_json(), object["metadata"]["managedFields"]);
}

#[test]
fn whoever_changes_a_field_takes_it() {
    let object = written(&web(json!([container("c", "a")])), "one");
    let mut changed = object.clone();
    changed["spec"]["replicas"] = 5.into();
    let scaler = writer("two", Operation::Update);
    let managers = update(
        deployment(),
        &object,
        &changed,
        Managers::of(&object),
        &scaler,
        T2,
    );
    let changed = stored(changed, &managers);
    assert_eq!(owned(&changed, "two"), [".spec.replicas"]);
    assert!(!owned(&changed, "one").contains(&".spec.replicas".to_owned()));
    // Writing the same again changes nothing, not even the time.
    let same = update(
        deployment(),
        &changed,
        &changed,
        managers.clone(),
        &scaler,
        "later",
    );
    assert_eq!(same, managers);
    // A field that goes is nobody's.
    let mut less = changed.clone();
    less["spec"]
        .as_object_mut()
        .expect("a spec")
        .shift_remove("replicas");
    let managers = update(deployment(), &changed, &less, managers, &scaler, T2);
    assert_eq!(owned(&stored(less, &managers), "two"), Vec::<String>::new());
}

#[test]
fn apply_merges_by_key_and_keeps_what_others_made() {
    let live = written(
        &web(json!([container("c", "a"), container("sidecar", "s")])),
        "injector",
    );
    let wishes = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"team": "x"}},
        "spec": {"template": {"spec": {"containers": [
            {"name": "new", "image": "n"},
            {"name": "c", "env": [{"name": "A", "value": "1"}]},
        ]}}},
    });
    let after = applied(&live, &wishes, "me", false).expect("no conflict");
    let containers = &after["spec"]["template"]["spec"]["containers"];
    let names: Vec<&str> = containers
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|container| container["name"].as_str())
        .collect();
    assert_eq!(names, ["new", "c", "sidecar"]);
    assert_eq!(containers[1]["image"], "a");
    assert_eq!(
        after["metadata"]["labels"],
        json!({"app": "web", "team": "x"})
    );
    assert!(
        owned(&after, "me").contains(
            &".spec.template.spec.containers[name=\"c\"].env[name=\"A\"].value".to_owned()
        )
    );
}

#[test]
fn what_is_no_longer_wished_goes_unless_somebody_owns_it() {
    let live = written(&web(json!([container("c", "a")])), "base");
    let wishes = |labels: Value, containers: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels},
            "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let mine = json!({"name": "mine", "image": "m", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]});
    let first = applied(
        &live,
        &wishes(json!({"a": "1", "b": "2"}), json!([mine])),
        "me",
        false,
    )
    .expect("fine");
    // Another applier shares a label with the same value.
    let shared = applied(
        &first,
        &wishes(json!({"b": "2"}), json!([container("c", "a")])),
        "other",
        false,
    )
    .expect("fine");
    // An updater puts something into the item that will go.
    let mut touched = shared.clone();
    touched["spec"]["template"]["spec"]["containers"][1]["workingDir"] = "/x".into();
    assert_eq!(
        touched["spec"]["template"]["spec"]["containers"][1]["name"],
        "mine"
    );
    let by = writer("toucher", Operation::Update);
    let managers = update(
        deployment(),
        &shared,
        &touched,
        Managers::of(&shared),
        &by,
        T2,
    );
    let touched = stored(touched, &managers);

    let fewer = json!({"name": "mine", "image": "m", "env": [{"name": "B", "value": "2"}]});
    let after = applied(&touched, &wishes(json!({}), json!([fewer])), "me", false).expect("fine");
    assert_eq!(after["metadata"]["labels"], json!({"app": "web", "b": "2"}));
    let kept = &after["spec"]["template"]["spec"]["containers"][1];
    assert_eq!(kept["env"], json!([{"name": "B", "value": "2"}]));
    assert_eq!(kept["workingDir"], "/x");
    assert_eq!(owned(&after, "other").len(), owned(&shared, "other").len());

    // Without the item at all: it goes with all that is in it, since nobody else owns the item itself.
    let none = applied(
        &after,
        &wishes(json!({}), json!([container("c", "a")])),
        "me",
        false,
    )
    .expect("fine");
    assert_eq!(
        none["spec"]["template"]["spec"]["containers"],
        json!([container("c", "a")])
    );
}

#[test]
fn foreign_fields_are_conflicts_and_force_takes_them() {
    let live = written(&web(json!([container("c", "a")])), "kube-scaler");
    let wishes = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 7}});
    let conflicts = applied(&live, &wishes, "me", false).expect_err("another's");
    let status = conflicts_status(&conflicts).to_json();
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"kube-scaler\" using apps/v1: .spec.replicas"
    );
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(409), &json!("Conflict"))
    );
    assert_eq!(
        status["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"kube-scaler\" using apps/v1", "field": ".spec.replicas"}])
    );
    let forced = applied(&live, &wishes, "me", true).expect("forced");
    assert_eq!(forced["spec"]["replicas"], 7);
    assert_eq!(owned(&forced, "me"), [".spec.replicas"]);
    assert!(!owned(&forced, "kube-scaler").contains(&".spec.replicas".to_owned()));
    // The same value is no conflict: it is owned together.
    let same = applied(&forced, &wishes, "another", false).expect("shared");
    assert_eq!(owned(&same, "me"), owned(&same, "another"));
    let mut more = wishes.clone();
    more["spec"]["replicas"] = 8.into();
    more["metadata"]["labels"] = json!({"app": "x"});
    let message = conflicts_status(&applied(&same, &more, "me", false).expect_err("two")).message;
    assert_eq!(
        message,
        "Apply failed with 2 conflicts: conflicts with \"another\":\n- .spec.replicas\n\
         conflicts with \"kube-scaler\" using apps/v1:\n- .metadata.labels.app"
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let wishes = web(json!([container("c", "a")]));
    let empty = json!({});
    let first = applied(&empty, &wishes, "me", false).expect("created");
    let mut bare = first.clone();
    bare["metadata"]
        .as_object_mut()
        .expect("metadata")
        .shift_remove("managedFields");
    assert_eq!(bare, wishes);
    let by = writer("me", Operation::Apply);
    let again = apply(
        deployment(),
        &bare,
        &wishes,
        Managers::of(&first),
        &by,
        false,
        "later",
    )
    .expect("fine");
    assert!(!again.changed);
    assert_eq!(again.managers.to_json(), first["metadata"]["managedFields"]);
}

#[test]
fn an_object_without_managers_belongs_to_before() {
    let live = web(json!([container("c", "a")]));
    let wishes = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1}});
    let conflicts = applied(&live, &wishes, "me", false).expect_err("whose is it?");
    assert_eq!(conflicts[0].manager, "\"before-first-apply\" using apps/v1");
}

#[test]
fn kubectl_moves_over_from_client_side_apply() {
    let mut object = web(json!([container("c", "a")]));
    object["metadata"]["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": web(json!([container("c", "a")])).to_string()});
    let live = written(&object, "kubectl-client-side-apply");
    let mut wishes = web(json!([container("c", "b")]));
    wishes["spec"]["replicas"] = 4.into();
    assert!(applied(&live, &wishes, "somebody", false).is_err());
    let after = applied(&live, &wishes, "kubectl", false).expect("it was its own");
    assert_eq!(after["spec"]["replicas"], 4);
}

#[test]
fn sets_and_atomic_lists() {
    let base = json!({"metadata": {"name": "web", "finalizers": ["a/a", "b/b"]},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "command": ["x", "y"]}]}}}});
    let live = written(&base, "one");
    let wishes = json!({"metadata": {"name": "web", "finalizers": ["c/c", "a/a"]},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "command": ["z"]}]}}}});
    let conflicts = applied(&live, &wishes, "me", false).expect_err("a command is one thing");
    assert_eq!(
        conflicts[0].path,
        ".spec.template.spec.containers[name=\"c\"].command"
    );
    let after = applied(&live, &wishes, "me", true).expect("forced");
    assert_eq!(
        after["metadata"]["finalizers"],
        json!(["c/c", "a/a", "b/b"]),
        "the new one stands before a/a, as wished"
    );
    assert_eq!(
        after["spec"]["template"]["spec"]["containers"][0]["command"],
        json!(["z"])
    );
    assert!(owned(&after, "me").contains(&".metadata.finalizers[=\"c/c\"]".to_owned()));
}

#[test]
fn clients_may_reset_managers_or_leave_them() {
    let live = written(&web(json!([])), "one");
    let known = Managers::of(&live);
    assert_eq!(Managers::given(None, &live), known);
    assert_eq!(Managers::given(Some(&json!([])), &live), known);
    assert_eq!(
        Managers::given(Some(&json!([{"manager": "broken"}])), &live),
        known
    );
    assert!(Managers::given(Some(&json!([{}])), &live).is_empty());
    assert_eq!(Managers::given(Some(&known.to_json()), &json!({})), known);
}

#[test]
fn too_many_updaters_are_folded() {
    let mut object = web(json!([container("c", "a")]));
    let mut managers = Managers::default();
    for n in 0..15 {
        let mut next = object.clone();
        next["metadata"]["labels"][format!("l{n}")] = "x".into();
        let time = format!("2026-01-01T00:00:{n:02}Z");
        let by = writer(&format!("m{n}"), Operation::Update);
        managers = update(deployment(), &object, &next, managers, &by, &time);
        object = next;
    }
    let list = managers.to_json();
    let list = list.as_array().expect("a list");
    assert_eq!(list.len(), 10);
    assert_eq!(list[0]["manager"], "ancient-changes");
    let object = stored(object, &managers);
    assert!(owned(&object, "ancient-changes").contains(&".metadata.labels.l0".to_owned()));
}

#[test]
fn a_manager_that_lets_go_of_all_leaves_name_and_uid() {
    let mut live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default", "uid": "u1"}});
    let mut wishes = live.clone();
    wishes["metadata"]["finalizers"] = json!(["a/x"]);
    live = applied(&live, &wishes, "one", false).expect("there is nobody else");
    wishes["metadata"]
        .as_object_mut()
        .expect("metadata")
        .shift_remove("finalizers");
    let left = applied(&live, &wishes, "one", false).expect("there is nobody else");
    assert_eq!(left["metadata"]["name"], "web", "{left}");
    assert_eq!(left["metadata"]["uid"], "u1", "{left}");
    assert_eq!(left["metadata"].get("finalizers"), None, "{left}");
}
