//! Tables of what a StatefulSet gets, what is refused, and how it prints.

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn stateful_set() -> Value {
    json!({
        "metadata": {"name": "db", "namespace": "b"},
        "spec": {
            "selector": {"matchLabels": {"app": "db"}},
            "serviceName": "db",
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{
                    "name": "c", "image": "nginx:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]},
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}},
            }],
        },
    })
}

#[test]
fn defaults() {
    let mut object = stateful_set();
    StatefulSet.default(&mut object);
    let spec = &object["spec"];
    assert_eq!(
        spec["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
    );
    assert_eq!(spec["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        spec["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(
        (&spec["replicas"], &spec["revisionHistoryLimit"]),
        (&json!(1), &json!(10))
    );
    let claim = &spec["volumeClaimTemplates"][0];
    assert_eq!(
        (&claim["apiVersion"], &claim["kind"]),
        (&json!("v1"), &json!("PersistentVolumeClaim"))
    );
    assert_eq!(claim["status"], json!({"phase": "Pending"}));
    assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert_eq!(spec["template"]["spec"]["dnsPolicy"], "ClusterFirst");
}

#[test]
fn a_strategy_that_is_named_is_not_filled_in() {
    let cases = [
        (
            json!({"type": "RollingUpdate"}),
            json!({"type": "RollingUpdate"}),
        ),
        (json!({"type": "OnDelete"}), json!({"type": "OnDelete"})),
        (
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}),
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2, "maxUnavailable": 1}}),
        ),
    ];
    for (mut strategy, expected) in cases {
        default_strategy(&mut strategy);
        assert_eq!(strategy, expected);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of mistakes")]
fn mistakes_are_named() {
    let none: Vec<String> = vec![];
    assert_eq!(create(&StatefulSet, stateful_set()), none);
    let cases = [
        (
            "/metadata/name",
            json!("d.b"),
            "metadata.name: Invalid value: \"d.b\": a lowercase RFC 1123 label must consist",
        ),
        (
            "/spec/selector",
            json!({}),
            "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
        ),
        (
            "/spec/selector",
            Value::Null,
            "spec.selector: Required value",
        ),
        (
            "/spec/podManagementPolicy",
            json!("Any"),
            "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}}),
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy \
             'RollingUpdate'",
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "Recreate"}),
            "spec.updateStrategy: Invalid value: {\"type\":\"Recreate\"}: must be 'RollingUpdate' or 'OnDelete'",
        ),
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"maxUnavailable": 0}, "type": "RollingUpdate"}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ),
        (
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenScaled": "Keep"}),
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \
             \"Retain\", \"Delete\"",
        ),
        (
            "/spec/ordinals",
            json!({"start": -1}),
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/serviceName",
            json!("a.b"),
            "spec.serviceName: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist",
        ),
        (
            "/spec/volumeClaimTemplates/0/spec/accessModes",
            json!([]),
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (
            "/spec/volumeClaimTemplates/0/spec/accessModes",
            json!(["ReadWriteOncePod", "ReadWriteOnce"]),
            "spec.volumeClaimTemplates[0].spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access \
             modes",
        ),
        (
            "/spec/volumeClaimTemplates/0/spec/resources",
            json!({}),
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        ),
        (
            "/spec/volumeClaimTemplates",
            json!([]),
            "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
    ];
    for (pointer, value, expected) in cases {
        let errors = create(&StatefulSet, with(stateful_set(), pointer, value));
        let first = errors.first().map_or("", String::as_str);
        assert!(first.starts_with(expected), "{pointer}: {errors:?}");
    }
}

#[test]
fn claims_and_other_sources_are_checked() {
    let at = |source: Value| {
        with(
            stateful_set(),
            "/spec/volumeClaimTemplates/0/spec/dataSource",
            source,
        )
    };
    assert_eq!(
        create(
            &StatefulSet,
            at(json!({"kind": "VolumeSnapshot", "name": "s"}))
        ),
        [
            "spec.volumeClaimTemplates[0].spec.dataSource: Invalid value: \"VolumeSnapshot\": must be \
             'PersistentVolumeClaim' when referencing the default apiGroup"
        ]
    );
    let mut two = at(json!({"kind": "PersistentVolumeClaim", "name": "a"}));
    two["spec"]["volumeClaimTemplates"][0]["spec"]["dataSourceRef"] =
        json!({"kind": "PersistentVolumeClaim", "name": "b"});
    assert_eq!(
        create(&StatefulSet, two),
        [
            "spec.volumeClaimTemplates[0].spec: Invalid value: \"spec.volumeClaimTemplates[0].spec.dataSource\": must \
             match dataSourceRef"
        ]
    );
}

#[test]
fn host_names_of_pods_are_the_controllers() {
    let named = with(
        stateful_set(),
        "/spec/template/spec/hostname",
        json!("Not A Name"),
    );
    let none: Vec<String> = vec![];
    assert_eq!(create(&StatefulSet, named), none);
}

#[test]
fn most_of_the_spec_stays() {
    let none: Vec<String> = vec![];
    let allowed = [
        ("/spec/replicas", json!(4)),
        ("/spec/minReadySeconds", json!(4)),
        ("/spec/ordinals", json!({"start": 2})),
        ("/spec/template/spec/containers/0/image", json!("nginx:2")),
        ("/spec/updateStrategy", json!({"type": "OnDelete"})),
        ("/spec/revisionHistoryLimit", json!(-1)),
    ];
    for (pointer, value) in allowed {
        let new = with(stateful_set(), pointer, value);
        assert_eq!(update(&StatefulSet, new, stateful_set()), none, "{pointer}");
    }
    for (pointer, value) in [
        ("/spec/serviceName", json!("A.")),
        ("/spec/podManagementPolicy", json!("Parallel")),
        (
            "/spec/volumeClaimTemplates/0/spec/accessModes",
            json!(["ReadWriteMany"]),
        ),
    ] {
        let new = with(stateful_set(), pointer, value);
        let errors = update(&StatefulSet, new, stateful_set());
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with(
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals',"
        ));
    }
}

#[test]
fn broken_templates_of_old_stay_updatable() {
    let broken = with(
        stateful_set(),
        "/spec/template/spec/containers/0/name",
        json!("Old"),
    );
    let none: Vec<String> = vec![];
    let scaled = with(broken.clone(), "/spec/replicas", json!(3));
    assert_eq!(update(&StatefulSet, scaled, broken.clone()), none);
    assert_eq!(create(&StatefulSet, broken).len(), 1);
}

#[test]
fn status_counts_agree() {
    let status = |status: Value| with(stateful_set(), "/status", status);
    let new = status(json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2}));
    let errors = StatefulSet.validate_status_update(&new, &stateful_set());
    assert_eq!(errors.len(), 1);
    assert_eq!(
        errors[0].to_string(),
        "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas"
    );
}

#[test]
fn slips_are_told() {
    let mut object = with(stateful_set(), "/spec/revisionHistoryLimit", json!(-1));
    object["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] =
        json!("500m");
    let expected = [
        "spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value \"500m\" is invalid, must be \
         an integer",
        "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
    ];
    assert_eq!(StatefulSet.warnings(&object), expected);
}

#[test]
fn row() {
    let mut object = with(stateful_set(), "/status", json!({"readyReplicas": 2}));
    StatefulSet.default(&mut object);
    let row = StatefulSet.row(&object, Timestamp::UNIX_EPOCH);
    let expected = json!(["db", "2/1", "<unknown>", "c", "nginx:1"]);
    assert_eq!(Value::Array(row), expected);
}
