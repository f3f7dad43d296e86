//! Defaults, mistakes, updates and rows, as tables.

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn volume() -> Value {
    json!({
        "metadata": {"name": "disk"},
        "spec": {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "csi.example.com", "volumeHandle": "h"},
        },
    })
}

#[test]
fn defaults() {
    let mut object = volume();
    object["spec"]["hostPath"] = json!({"path": "/a"});
    PersistentVolume.default(&mut object);
    assert_eq!(object["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(object["spec"]["volumeMode"], "Filesystem");
    assert_eq!(object["spec"]["hostPath"]["type"], "");
    assert_eq!(object["status"], json!({"phase": "Pending"}));
    let mut disk = json!({"spec": {"azureDisk": {}, "rbd": {"user": "me"}}});
    PersistentVolume.default(&mut disk);
    assert_eq!(
        disk["spec"]["azureDisk"],
        json!({"cachingMode": "ReadWrite", "fsType": "ext4", "kind": "Shared", "readOnly": false})
    );
    assert_eq!(disk["spec"]["rbd"]["user"], "me");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of mistakes")]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&PersistentVolume, volume()), none);
    let cases = [
        (
            "/spec/capacity",
            json!({"storage": "0"}),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            "/spec/capacity",
            json!({"cpu": "1"}),
            "spec.capacity: Unsupported value: {\"cpu\":\"1\"}: supported values: \"storage\"",
        ),
        (
            "/spec/accessModes",
            json!([]),
            "spec.accessModes: Required value",
        ),
        (
            "/spec/accessModes",
            json!(["Sometimes"]),
            "spec.accessModes: Unsupported value: \"Sometimes\": supported values: \"ReadOnlyMany\", \
             \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
        ),
        (
            "/spec/accessModes",
            json!(["ReadWriteOncePod", "ReadOnlyMany"]),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            "/spec/csi",
            Value::Null,
            "spec: Required value: must specify a volume type",
        ),
        (
            "/spec/hostPath",
            json!({"path": "/a"}),
            "spec.csi: Forbidden: may not specify more than 1 volume type",
        ),
        (
            "/spec/csi/volumeHandle",
            json!(""),
            "spec.csi.volumeHandle: Required value",
        ),
        (
            "/spec/csi/nodePublishSecretRef",
            json!({"name": "a"}),
            "spec.csi.nodePublishSecretRef.namespace: Required value",
        ),
        (
            "/spec/persistentVolumeReclaimPolicy",
            json!("Burn"),
            "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \
             \"Recycle\", \"Retain\"",
        ),
        (
            "/spec/volumeMode",
            json!("Tape"),
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ),
        (
            "/spec/nodeAffinity",
            json!({}),
            "spec.nodeAffinity.required: Required value: must specify required node constraints",
        ),
        (
            "/spec/volumeAttributesClassName",
            json!(""),
            "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
        ),
        (
            "/metadata/annotations",
            json!({"volume.beta.kubernetes.io/mount-options": "ro"}),
            "metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options \
             for this volume type",
        ),
    ];
    for (pointer, value, expected) in cases {
        let found = create(&PersistentVolume, with(volume(), pointer, value));
        assert_eq!(found, [expected], "{pointer}");
    }
}

#[test]
fn local_and_host_paths() {
    let of = |source: Value, policy: &str| {
        let mut object = with(volume(), "/spec/csi", Value::Null);
        for (key, value) in source.as_object().expect("an object") {
            object["spec"][key] = value.clone();
        }
        object["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
        create(&PersistentVolume, object)
    };
    assert_eq!(
        of(json!({"local": {"path": "/mnt"}}), "Retain"),
        ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
    );
    let term = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]}});
    let found = of(
        json!({"local": {"path": "/mnt"}, "nodeAffinity": term}),
        "Delete",
    );
    assert_eq!(found.len(), 0, "{found:?}");
    assert_eq!(
        of(json!({"hostPath": {"path": "//."}}), "Recycle"),
        [
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"
        ]
    );
    assert_eq!(
        of(json!({"nfs": {"server": "s", "path": "a"}}), "Retain"),
        ["spec.nfs.path: Invalid value: \"a\": must be an absolute path"]
    );
}

#[test]
fn where_it_is_stays() {
    let none: Vec<String> = vec![];
    let grown = with(volume(), "/spec/capacity/storage", json!("9Gi"));
    assert_eq!(update(&PersistentVolume, grown, volume()), none);
    let secret = json!({"name": "a", "namespace": "b"});
    let expandable = with(volume(), "/spec/csi/controllerExpandSecretRef", secret);
    assert_eq!(update(&PersistentVolume, expandable, volume()), none);
    let moved = with(volume(), "/spec/csi/volumeHandle", json!("i"));
    assert_eq!(
        update(&PersistentVolume, moved, volume()),
        [
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n\
          spec.csi.volumeHandle: from \"h\" to \"i\""
        ]
    );
    let block = with(volume(), "/spec/volumeMode", json!("Block"));
    assert_eq!(
        update(&PersistentVolume, block, volume()),
        ["volumeMode: Invalid value: \"Block\": field is immutable"]
    );
    let on = |key: &str| {
        let expression = json!({"key": key, "operator": "In", "values": ["z"]});
        let terms =
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}});
        with(volume(), "/spec/nodeAffinity", terms)
    };
    let beta = || on("failure-domain.beta.kubernetes.io/zone");
    let newer = on("topology.kubernetes.io/zone");
    assert_eq!(update(&PersistentVolume, newer.clone(), beta()), none);
    assert_eq!(update(&PersistentVolume, newer.clone(), volume()), none);
    assert_eq!(update(&PersistentVolume, beta(), newer).len(), 1);
}

#[test]
fn phases_get_times() {
    let at = |time: &str| time.parse::<Timestamp>().expect("a timestamp");
    let mut made = volume();
    PersistentVolume.prepare_for_create(&mut made);
    note_transition(&mut made, None, at("2024-01-01T00:00:00Z"));
    let first = json!({"phase": "Pending", "lastPhaseTransitionTime": "2024-01-01T00:00:00Z"});
    assert_eq!(made["status"], first);
    let mut bound = made.clone();
    bound["status"]["phase"] = json!("Bound");
    note_transition(&mut bound, Some(&made), at("2024-01-02T00:00:00Z"));
    assert_eq!(
        bound["status"]["lastPhaseTransitionTime"],
        "2024-01-02T00:00:00Z"
    );
    let mut again = with(
        bound.clone(),
        "/status/lastPhaseTransitionTime",
        Value::Null,
    );
    note_transition(&mut again, Some(&bound), at("2024-01-03T00:00:00Z"));
    assert_eq!(again, bound);
}

#[test]
fn rows_and_warnings() {
    let mut object = volume();
    PersistentVolume.default(&mut object);
    object["spec"]["claimRef"] = json!({"namespace": "n", "name": "c"});
    object["spec"]["storageClassName"] = json!("gold");
    object["spec"]["accessModes"] = json!(["ReadWriteMany", "ReadWriteOnce", "ReadWriteOnce"]);
    object["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    let now = "2024-01-01T01:00:00Z".parse().expect("a timestamp");
    let row = PersistentVolume.row(&object, now);
    let cells = json!([
        "disk",
        "5Gi",
        "RWO,RWX",
        "Retain",
        "Pending",
        "n/c",
        "gold",
        "<unset>",
        "",
        "60m",
        "Filesystem"
    ]);
    assert_eq!(Value::Array(row), cells);
    object["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    assert_eq!(PersistentVolume.row(&object, now)[4], "Terminating");
    object["spec"]["persistentVolumeReclaimPolicy"] = json!("Recycle");
    object["spec"]["rbd"] = json!({});
    object["metadata"]["annotations"] = json!({CLASS_ANNOTATION: "silver"});
    assert_eq!(PersistentVolume.row(&object, now)[6], "silver");
    assert_eq!(PersistentVolume.warnings(&object).len(), 3);
}
