//! Verdicts, and which objects a change wakes.

use corten_api::kinds;
use corten_client::ObjectName;
use corten_client::cache::{CacheOptions, Change, MetaCache};
use corten_client::{PartialObject, Target};
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> PartialObject {
    serde_json::from_value(value).expect("object")
}

fn owned(by: &[&str], finalizers: &[&str]) -> ObjectMeta {
    let owners: Vec<Value> = by
        .iter()
        .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid}))
        .collect();
    object(json!({"metadata": {"name": "p", "namespace": "d", "uid": "p", "ownerReferences": owners, "finalizers": finalizers}})).metadata
}

#[test]
fn verdicts() {
    use Owner::{Absent, Present, Waiting};
    use Propagation::{Background, Foreground, Orphan};
    let delete = Verdict::Delete;
    for (owners, finalizers, dependents, expected) in [
        (vec![], vec![], false, Verdict::Keep),
        (vec![Present], vec![], false, Verdict::Keep),
        (vec![Present, Present], vec![], false, Verdict::Keep),
        (vec![Absent], vec![], false, delete(Background)),
        (vec![Absent, Absent], vec![], true, delete(Background)),
        (vec![Absent], vec![ORPHAN], false, delete(Orphan)),
        (vec![Absent], vec![FOREGROUND], false, delete(Foreground)),
        (vec![Waiting], vec![], false, delete(Background)),
        (vec![Waiting], vec![], true, delete(Foreground)),
        (vec![Absent, Waiting], vec![], true, delete(Foreground)),
    ] {
        let uids: Vec<&str> = ["a", "b"][..owners.len()].to_vec();
        assert_eq!(
            verdict::of(&owned(&uids, &finalizers), &owners, dependents),
            expected,
            "{owners:?} {finalizers:?}"
        );
    }
    for owners in [[Present, Absent], [Present, Waiting]] {
        let Verdict::KeepOnly(kept) = verdict::of(&owned(&["a", "b"], &[]), &owners, false) else {
            panic!("{owners:?}")
        };
        assert_eq!(
            kept.iter()
                .map(|owner| owner.uid.as_str())
                .collect::<Vec<_>>(),
            ["a"]
        );
    }
}

/// ReplicaSets (kind 0) and pods (kind 1).
fn graph(sets: Vec<Value>, pods: Vec<Value>) -> Graph {
    let cache = |group: &str, resource: &str, objects: Vec<Value>| {
        let kind = kinds::registry()
            .resource(group, "v1", resource)
            .expect("a built-in kind");
        let target = Target::resource(group, "v1", resource);
        let options = CacheOptions::all().index(BY_OWNER, owners_of);
        (
            kind,
            MetaCache::fixed_for(&target, objects.into_iter().map(object), options),
        )
    };
    Graph {
        kinds: Arc::new(vec![
            cache("apps", "replicasets", sets),
            cache("", "pods", pods),
        ]),
    }
}

fn pod(owner: &str) -> Value {
    json!({"metadata": {"name": "p", "namespace": "d", "uid": "p", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "blockOwnerDeletion": true}]}})
}

fn set(going: bool) -> Value {
    let mut set = json!({"metadata": {"name": "a", "namespace": "d", "uid": "a"}});
    if going {
        set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        set["metadata"]["finalizers"] = json!([FOREGROUND]);
    }
    set
}

fn woken(graph: &Graph, kind: usize, change: &Change<PartialObject>) -> Vec<String> {
    graph
        .woken(kind, change)
        .iter()
        .map(|node| format!("{}:{node}", node.kind))
        .collect()
}

#[test]
fn changes_wake_dependents_and_waiting_owners() {
    let changed = |value: Value| Arc::new(object(value));
    let graph_with = |going| graph(vec![set(going)], vec![pod("a")]);
    assert_eq!(
        woken(&graph_with(false), 0, &Change::Added(changed(set(false)))),
        [""; 0]
    );
    assert_eq!(
        woken(&graph_with(false), 0, &Change::Deleted(changed(set(false)))),
        ["1:d/p"]
    );
    assert_eq!(
        woken(&graph_with(true), 0, &Change::Added(changed(set(true)))),
        ["1:d/p", "0:d/a"]
    );
    assert_eq!(
        woken(&graph_with(true), 1, &Change::Deleted(changed(pod("a")))),
        ["0:d/a"]
    );
    assert_eq!(
        woken(&graph_with(false), 1, &Change::Added(changed(pod("a")))),
        ["1:d/p"]
    );
}

#[test]
fn owners_are_found_in_scope_only() {
    let graph = graph(vec![set(false)], vec![pod("a")]);
    let pod = Node {
        kind: 1,
        name: ObjectName::new("d", "p"),
    };
    let reference = |kind: &str| OwnerReference {
        api_version: "apps/v1beta9".to_owned(),
        kind: kind.to_owned(),
        name: "a".to_owned(),
        ..OwnerReference::default()
    };
    assert_eq!(
        graph
            .owner(&pod, &reference("ReplicaSet"))
            .expect("found")
            .to_string(),
        "d/a"
    );
    assert_eq!(graph.owner(&pod, &reference("Unheard")), None);
    let outside = Node {
        kind: 1,
        name: ObjectName::new("", "p"),
    };
    assert_eq!(graph.owner(&outside, &reference("ReplicaSet")), None);
}

#[test]
fn every_stored_kind_is_collected() {
    let names: Vec<&str> = Graph::collected().map(|kind| kind.resource).collect();
    for needed in [
        "pods",
        "replicasets",
        "deployments",
        "endpointslices",
        "leases",
        "configmaps",
        "nodes",
    ] {
        assert!(names.contains(&needed), "{needed} in {names:?}");
    }
    assert!(!names.contains(&"events"));
}
