//! Defaults, mistakes, updates and rows, as tables.

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn claim() -> Value {
    json!({
        "metadata": {"name": "data", "namespace": "n"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
    })
}

fn bound() -> Value {
    let mut claim = claim();
    claim["spec"]["volumeName"] = json!("disk");
    claim["spec"]["storageClassName"] = json!("gold");
    claim["status"] =
        json!({"phase": "Bound", "capacity": {"storage": "4Gi"}, "accessModes": ["ReadWriteOnce"]});
    claim
}

#[test]
fn defaults() {
    let mut object = claim();
    PersistentVolumeClaim.default(&mut object);
    assert_eq!(object["spec"]["volumeMode"], "Filesystem");
    assert_eq!(object["status"], json!({"phase": "Pending"}));
    let mut pushed = bound();
    PersistentVolumeClaim.prepare_for_create(&mut pushed);
    assert_eq!(pushed["status"], json!({"phase": "Pending"}));
}

#[test]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&PersistentVolumeClaim, claim()), none);
    let cases = [
        (
            "/spec/accessModes",
            json!([]),
            "spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (
            "/spec/resources",
            json!({}),
            "spec.resources[storage]: Required value",
        ),
        (
            "/spec/resources/requests/storage",
            json!("0"),
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            "/spec/volumeMode",
            json!("Tape"),
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ),
        (
            "/spec/selector",
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or \
             'NotIn'",
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = create(&PersistentVolumeClaim, with(claim(), pointer, value));
        assert_eq!(found, [expected], "{pointer}");
    }
    let found = create(
        &PersistentVolumeClaim,
        with(claim(), "/spec/storageClassName", json!("No")),
    );
    assert!(
        found[0].starts_with("spec.storageClassName: Invalid value: \"No\""),
        "{found:?}"
    );
}

#[test]
fn data_sources_are_made_to_agree() {
    let settled = |spec: Value| {
        let mut spec = spec;
        settle_data_sources(&mut spec, &Value::Null);
        spec
    };
    let other = json!({"kind": "PersistentVolumeClaim", "name": "a"});
    let both = json!({"dataSource": other, "dataSourceRef": other});
    assert_eq!(settled(json!({"dataSource": other})), both);
    assert_eq!(
        settled(json!({"dataSourceRef": other})),
        json!({"dataSourceRef": other, "dataSource": other})
    );
    let populator = json!({"apiGroup": "a.example.com", "kind": "Tea", "name": "a"});
    assert_eq!(settled(json!({"dataSource": populator})), json!({}));
    let elsewhere = json!({"kind": "PersistentVolumeClaim", "name": "a", "namespace": "b"});
    assert_eq!(settled(json!({"dataSourceRef": elsewhere})), json!({}));
    let mut torn = claim();
    torn["spec"]["dataSource"] = other.clone();
    torn["spec"]["dataSourceRef"] = json!({"kind": "PersistentVolumeClaim", "name": "b"});
    assert_eq!(
        create(&PersistentVolumeClaim, torn),
        ["spec: Invalid value: \"spec.dataSource\": must match dataSourceRef"]
    );
}

#[test]
fn what_was_asked_for_stays() {
    let none: Vec<String> = vec![];
    let cases = [
        (claim(), "/spec/volumeName", json!("disk"), none.clone()),
        (claim(), "/spec/storageClassName", json!("gold"), none.clone()),
        (claim(), "/spec/storageClassName", json!(""), none.clone()),
        (
            bound(),
            "/spec/resources/requests/storage",
            json!("9Gi"),
            none.clone(),
        ),
        (
            bound(),
            "/spec/volumeAttributesClassName",
            json!("fast"),
            none,
        ),
        (
            bound(),
            "/spec/resources/requests/storage",
            json!("4Gi"),
            vec![
                "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
                    .to_owned(),
            ],
        ),
        (
            bound(),
            "/spec/volumeMode",
            json!("Block"),
            vec![
                "spec: Forbidden: spec is immutable after creation except resources.requests and \
                 volumeAttributesClassName for bound claims\nspec.volumeMode: from \"Filesystem\" to \"Block\""
                    .to_owned(),
                "volumeMode: Invalid value: \"Block\": field is immutable".to_owned(),
            ],
        ),
    ];
    for (old, pointer, value, expected) in cases {
        let new = with(old.clone(), pointer, value);
        assert_eq!(update(&PersistentVolumeClaim, new, old), expected);
    }
    for (pointer, value) in [
        ("/spec/volumeName", json!("other")),
        ("/spec/storageClassName", json!("silver")),
        ("/spec/storageClassName", Value::Null),
        ("/spec/accessModes", json!(["ReadOnlyMany"])),
    ] {
        let found = update(
            &PersistentVolumeClaim,
            with(bound(), pointer, value),
            bound(),
        );
        assert_eq!(found.len(), 1, "{pointer} {found:?}");
    }
    let unbound = with(claim(), "/spec/resources/requests/storage", json!("9Gi"));
    assert_eq!(update(&PersistentVolumeClaim, unbound, claim()).len(), 1);
}

#[test]
fn classes_move_from_the_annotation_to_the_field() {
    let old = with(
        claim(),
        "/metadata/annotations",
        json!({CLASS_ANNOTATION: "gold"}),
    );
    let none: Vec<String> = vec![];
    let moved = with(claim(), "/spec/storageClassName", json!("gold"));
    assert_eq!(update(&PersistentVolumeClaim, moved, old.clone()), none);
    let other = with(
        claim(),
        "/metadata/annotations",
        json!({CLASS_ANNOTATION: "silver"}),
    );
    assert_eq!(
        update(&PersistentVolumeClaim, other, old),
        [
            "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"silver\": field is immutable"
        ]
    );
}

#[test]
fn applied_attributes_stay_named() {
    let mut old = bound();
    old["spec"]["volumeAttributesClassName"] = json!("fast");
    old["status"]["currentVolumeAttributesClassName"] = json!("fast");
    let new = with(old.clone(), "/spec/volumeAttributesClassName", Value::Null);
    assert_eq!(
        update(&PersistentVolumeClaim, new, old),
        [
            "spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when \
          status.currentVolumeAttributesClassName is not nil"
        ]
    );
}

#[test]
fn statuses_are_checked() {
    let faults = |status: Value| {
        let mut errors = Errors::new();
        validate_status(&status, &mut errors);
        let errors = errors.finish();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let good = json!({"capacity": {"storage": "1Gi"}, "allocatedResources": {"storage": "2Gi"},
                      "allocatedResourceStatuses": {"storage": "NodeResizePending"}});
    assert!(faults(good).is_empty());
    assert_eq!(
        faults(json!({"capacity": {"storage": "-1"}, "allocatedResources": {"cpu": "1"}})),
        [
            "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
            "status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
        ]
    );
}

#[test]
fn rows_and_warnings() {
    let mut object = claim();
    PersistentVolumeClaim.default(&mut object);
    object["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    let now = "2024-01-01T01:00:00Z".parse().expect("a timestamp");
    let row = |object: &Value| Value::Array(PersistentVolumeClaim.row(object, now));
    let cells = json!([
        "data",
        "Pending",
        "",
        "",
        "",
        "",
        "<unset>",
        "60m",
        "Filesystem"
    ]);
    assert_eq!(row(&object), cells);
    let cells = json!([
        "data",
        "Bound",
        "disk",
        "4Gi",
        "RWO",
        "gold",
        "<unset>",
        "<unknown>",
        "<unset>"
    ]);
    assert_eq!(row(&bound()), cells);
    object["spec"]["resources"]["requests"]["storage"] = json!("500m");
    assert_eq!(
        PersistentVolumeClaim.warnings(&object),
        [
            "spec.resources.requests[storage]: fractional byte value \"500m\" is invalid, must be an integer"
        ]
    );
}
