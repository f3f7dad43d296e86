//! Tests of metadata access, ids and times. Invariant: what is set is what is read.

use super::*;
use serde_json::json;

#[test]
fn reads_and_writes_metadata() {
    let mut pod = json!({"spec": {}});
    set_name(&mut pod, "web");
    set_namespace(&mut pod, "default");
    set_revision(&mut pod, Some(Revision::new(42)));
    set_label(&mut pod, "app", "web");
    assert!(add_finalizer(&mut pod, "x/y"));
    assert!(!add_finalizer(&mut pod, "x/y"));
    set_gvk(&mut pod, &GroupVersionKind::from_static("", "v1", "Pod"));
    assert_eq!(
        pod.to_string(),
        r#"{"apiVersion":"v1","kind":"Pod","spec":{},"metadata":{"name":"web","namespace":"default","resourceVersion":"42","labels":{"app":"web"},"finalizers":["x/y"]}}"#
    );
    assert_eq!(
        (name(&pod), namespace(&pod), label(&pod, "app")),
        ("web", "default", Some("web"))
    );
    assert_eq!(revision(&pod), Some(Revision::new(42)));
    assert_eq!(
        gvk(&pod),
        Some(GroupVersionKind::from_static("", "v1", "Pod"))
    );
    assert_eq!(display_name(&pod), "default/web");
    assert!(remove_finalizer(&mut pod, "x/y"));
    assert!(metadata(&pod).is_some_and(|metadata| !metadata.contains_key("finalizers")));
    assert!(!is_deleting(&pod));
    set_deletion(&mut pod, Timestamp::UNIX_EPOCH, 30);
    assert_eq!(deletion_timestamp(&pod), "1970-01-01T00:00:00Z");
    assert_eq!(deletion_grace_seconds(&pod), Some(30));
}

use jiff::Timestamp;

#[test]
fn reads_owners() {
    let pod = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "2", "controller": true},
    ]}});
    let owner = controller_of(&pod).expect("there is a controller");
    assert_eq!(
        owner.gvk(),
        Some(GroupVersionKind::from_static("apps", "v1", "ReplicaSet"))
    );
    assert_eq!(owner_references(&pod).len(), 2);
}

#[test]
fn revisions_are_plain_numbers() {
    for (text, want) in [
        ("0", Some(0)),
        ("17", Some(17)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("x", None),
    ] {
        assert_eq!(
            Revision::parse(text).ok().map(Revision::get),
            want,
            "{text}"
        );
    }
    assert_eq!(Revision::new(9).to_string(), "9");
}

#[test]
fn times() {
    let time = parse_time("2026-11-22T11:10:43.123456Z").expect("valid");
    assert_eq!(format_time(time), "2026-11-22T11:10:43Z");
    assert_eq!(format_micro_time(time), "2026-11-22T11:10:43.123456Z");
    let whole = parse_time("2026-11-22T11:10:43+02:00").expect("valid");
    assert_eq!(format_time(whole), "2026-11-22T09:10:43Z");
    assert_eq!(format_micro_time(whole), "2026-11-22T09:10:43.000000Z");
    for bad in [
        "",
        "2026-11-22",
        "2026-11-22 11:10:43Z",
        "2026-11-22T11:10:43",
        "2026-13-22T11:10:43Z",
        "x026-11-22T11:10:43Z",
    ] {
        assert_eq!(parse_time(bad), None, "{bad}");
    }
}

#[test]
fn names_of_groups() {
    assert_eq!(GroupVersion::parse("a/b/c"), None);
    assert_eq!(
        GroupResource::new("apps", "deployments").to_string(),
        "deployments.apps"
    );
    assert_eq!(
        GroupVersionKind::from_static("apps", "v1", "Deployment").to_string(),
        "apps/v1, Kind=Deployment"
    );
}
