//! Revisions: what is recorded, which one is the current one, names that are taken.

use corten_client::Error;
use corten_client::cache::CacheOptions;
use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use serde_json::{Value, json};

use super::*;

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn object(image: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "u", "annotations": {"kubernetes.io/change-cause": "why"}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template(image)},
    })
}

fn set(image: &str) -> StatefulSet {
    serde_json::from_value(object(image)).expect("stateful set")
}

fn daemons(image: &str) -> DaemonSet {
    serde_json::from_value(object(image)).expect("daemon set")
}

/// A revision as somebody else may have written it: without the empty `resources`.
fn revision(name: &str, number: i64, image: &str, owner: &str) -> ControllerRevision {
    let mut template = template(image);
    template["$patch"] = json!("replace");
    let owners = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": owner, "controller": true}]);
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "web"},
                     "ownerReferences": if owner.is_empty() { json!([]) } else { owners }},
        "data": {"spec": {"template": template}}, "revision": number,
    }))
    .expect("revision")
}

fn cache(all: Vec<ControllerRevision>) -> Cache<ControllerRevision> {
    let options = CacheOptions::all().index(BY_CONTROLLER, pods::controller_uid);
    Cache::fixed(all, options)
}

fn history(image: &str, all: Vec<ControllerRevision>) -> (History, Plan) {
    let set = set(image);
    let mut plan = Plan::nothing();
    let revisions = Revisions::of(&set, &cache(all));
    let history = History::keep(&set, &revisions, &mut plan);
    (history, plan)
}

fn words(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(ToString::to_string).collect()
}

fn created<K: Versioned>(owner: &K, history: &History) -> Value {
    let mut plan = Plan::nothing();
    history.current(owner, &mut plan);
    match plan.actions.as_slice() {
        [Action::Create { object, .. }] => object.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revision_records_the_template_as_upstream_does() {
    let (history, _) = history("v1", vec![]);
    let first = created(&set("v1"), &history);
    let data = serde_json::to_string(&first["data"]).expect("text");
    assert_eq!(
        data,
        r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"v1","name":"c","resources":{}}]}}}}"#
    );
    let name = first["metadata"]["name"].as_str().unwrap_or_default();
    let hash = name.strip_prefix("web-").unwrap_or_default();
    assert_eq!(hash.len(), HASH_LETTERS, "{name}");
    assert_eq!(
        first["metadata"]["labels"],
        json!({"app": "web", "controller.kubernetes.io/hash": hash})
    );
    assert_eq!(
        (
            &first["revision"],
            &first["metadata"]["ownerReferences"][0]["uid"]
        ),
        (&json!(1), &json!("u"))
    );
    assert_eq!(
        first["metadata"]["annotations"]["kubernetes.io/change-cause"],
        json!("why")
    );
    // A DaemonSet of the same name and template has another name for it, and says the hash elsewhere.
    let other = created(&daemons("v1"), &history);
    assert_ne!(other["metadata"]["name"], first["metadata"]["name"]);
    assert!(other["metadata"]["labels"]["controller-revision-hash"].is_string());
}

#[test]
fn a_counted_collision_makes_another_name() {
    let (history, _) = history("v1", vec![]);
    let mut set = set("v1");
    let first = created(&set, &history);
    set.status =
        Some(serde_json::from_value(json!({"replicas": 0, "collisionCount": 1})).expect("status"));
    assert_ne!(
        created(&set, &history)["metadata"]["name"],
        first["metadata"]["name"]
    );
}

#[test]
fn equal_revisions_are_used_again() {
    let all = || vec![revision("a", 1, "v1", "u"), revision("b", 2, "v2", "u")];
    for (image, expected, number, name) in [
        ("v2", vec![], 2, "b"),
        ("v1", vec!["patch controllerrevisions.apps d/a"], 3, "a"),
        (
            "v3",
            vec!["create controllerrevisions.apps d/web"],
            3,
            "web",
        ),
    ] {
        let (history, _) = history(image, all());
        let mut plan = Plan::nothing();
        let current = history.current(&set(image), &mut plan).expect("a revision");
        let found: Vec<String> = words(&plan)
            .iter()
            .map(|word| word.split("-").next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(found, expected, "{image}");
        assert_eq!(current.revision, number, "{image}");
        assert!(name_of(&current).starts_with(name), "{image}");
    }
}

#[test]
fn revisions_are_adopted_and_released() {
    let mut stray = revision("stray", 1, "v1", "u");
    stray.metadata.labels = None;
    let free = revision("free", 2, "v2", "");
    let other = revision("other", 3, "v3", "somebody");
    let (history, plan) = history("v1", vec![stray, free, other]);
    assert_eq!(
        words(&plan),
        [
            "patch controllerrevisions.apps d/stray",
            "expect statefulsets.apps d/web",
            "patch controllerrevisions.apps d/free"
        ]
    );
    assert!(history.find("free").is_some() && history.all().len() == 1);
}

#[test]
fn the_oldest_that_nothing_uses_go() {
    let all = (1..=4)
        .map(|number| revision(&format!("r{number}"), number, &format!("v{number}"), "u"))
        .collect();
    let (history, _) = history("v4", all);
    let mut plan = Plan::nothing();
    history.prune(2, |revision| name_of(revision) == "r1", &mut plan);
    assert_eq!(
        words(&plan),
        [
            "delete controllerrevisions.apps d/r2",
            "delete controllerrevisions.apps d/r3"
        ]
    );
}

#[test]
fn only_what_cannot_be_ours_is_a_collision() {
    let (history, _) = history("v1", vec![]);
    let set = set("v1");
    let mut plan = Plan::nothing();
    history.current(&set, &mut plan);
    let tried = plan.actions.remove(0);
    let Action::Create { object, .. } = &tried else {
        panic!("{tried:?}");
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    for (rival, expected) in [
        (None, false),
        (Some(revision(name, 1, "v1", "u")), false),
        (Some(revision(name, 1, "v1", "")), false),
        (Some(revision(name, 1, "v2", "u")), true),
        (Some(revision(name, 1, "v1", "somebody")), true),
    ] {
        let failed = Failed {
            action: tried.to_string(),
            tried: tried.clone(),
            error: Error::AlreadyExists(Box::default()),
        };
        let about = format!("{rival:?}");
        let counted = collision(&set, &[failed], &cache(rival.into_iter().collect()));
        assert_eq!(counted.is_some(), expected, "{about}");
    }
}
