//! Tests of pods as a whole: one mistake at a time in a good pod, updates, and what the server adds.

mod faults;

use serde_json::{Value, json};

use super::*;
use crate::kinds::errors::testing::{create, update, with};

fn pod() -> Value {
    json!({
        "metadata": {"name": "p", "namespace": "b"},
        "spec": {
            "containers": [{
                "name": "c",
                "image": "nginx:1",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
                "securityContext": {},
            }],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    })
}

/// Each case puts a value at a pointer and expects exactly these errors.
fn check(cases: &[(&str, Value, &[&str])]) {
    let none: Vec<String> = vec![];
    assert_eq!(create(&Pod, pod()), none);
    for (pointer, value, expected) in cases {
        let errors = create(&Pod, with(pod(), pointer, value.clone()));
        assert_eq!(errors, *expected, "{pointer} = {value}");
    }
}

#[test]
fn containers() {
    let c = "/spec/containers/0";
    check(&[
        (
            "/spec/containers",
            json!([]),
            &["spec.containers: Required value"],
        ),
        (
            &format!("{c}/name"),
            Value::Null,
            &["spec.containers[0].name: Required value"],
        ),
        (
            &format!("{c}/image"),
            Value::Null,
            &["spec.containers[0].image: Required value"],
        ),
        (
            &format!("{c}/image"),
            json!(" x"),
            &[
                "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
            ],
        ),
        (
            "/spec/containers/1",
            json!({"name": "c", "image": "x"}),
            &["spec.containers[1].name: Duplicate value: \"c\""],
        ),
        (
            &format!("{c}/imagePullPolicy"),
            json!("Often"),
            &[
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \
               \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            &format!("{c}/ports/0/containerPort"),
            json!(70000),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            &format!("{c}/ports"),
            json!([{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]),
            &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\""],
        ),
        ("/spec/hostNetwork", json!(true), &[]),
    ]);
}

#[test]
fn init_and_ephemeral_containers() {
    check(&[
        (
            "/spec/initContainers",
            json!([{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}]),
            &[
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
               restartPolicy=Always",
            ],
        ),
        (
            "/spec/initContainers",
            json!([{"name": "i", "image": "x", "restartPolicy": "Always",
                    "livenessProbe": {"exec": {"command": ["x"]}}}]),
            &[],
        ),
        (
            "/spec/initContainers",
            json!([{"name": "c", "image": "x"}]),
            &["spec.initContainers[0].name: Duplicate value: \"c\""],
        ),
        (
            "/spec/ephemeralContainers",
            json!([{"name": "e", "image": "x"}]),
            &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
    ]);
}

#[test]
fn environment() {
    let e = "/spec/containers/0/env/0";
    let at = "spec.containers[0].env[0]";
    check(&[
        (
            &format!("{e}/name"),
            json!(""),
            &[&format!("{at}.name: Required value")],
        ),
        (
            e,
            json!({"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
            &[&format!(
                "{at}.valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"
            )],
        ),
        (
            e,
            json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}),
            &[&format!(
                "{at}.valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x"
            )],
        ),
        (
            e,
            json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}}),
            &[],
        ),
        (
            e,
            json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}),
            &[&format!("{at}.valueFrom.secretKeyRef.key: Required value")],
        ),
        (
            "/spec/containers/0/envFrom",
            json!([{}]),
            &[
                "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ],
        ),
    ]);
}

#[test]
fn volumes_and_mounts() {
    let v = "/spec/volumes/0";
    let m = "/spec/containers/0/volumeMounts";
    check(&[
        (
            v,
            json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            v,
            json!({"name": "v", "secret": {}}),
            &["spec.volumes[0].secret.secretName: Required value"],
        ),
        (
            v,
            json!({"name": "v", "configMap": {"name": "c", "defaultMode": 1000}}),
            &[
                "spec.volumes[0].configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 \
               (octal), both inclusive",
            ],
        ),
        (
            v,
            json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}),
            &[
                "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
            ],
        ),
        (
            v,
            json!({"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 5}}]}}),
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not \
               specify a duration less than 10 minutes",
            ],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "v"}),
            &["spec.volumes[1].name: Duplicate value: \"v\""],
        ),
        (
            m,
            json!([{"name": "w", "mountPath": "/w"}]),
            &["spec.containers[0].volumeMounts[0].name: Not found: \"w\""],
        ),
        (
            m,
            json!([{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]),
            &[
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique",
            ],
        ),
        (
            m,
            json!([{"name": "v", "mountPath": "/v", "subPath": "/a"}]),
            &[
                "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"/a\": must be a relative path",
            ],
        ),
        (
            m,
            json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]),
            &[
                "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is \
               available only to privileged containers",
            ],
        ),
    ]);
}

#[test]
fn probes_and_hooks() {
    let p = "/spec/containers/0/livenessProbe";
    let at = "spec.containers[0].livenessProbe";
    check(&[
        (
            p,
            json!({"periodSeconds": 5}),
            &[&format!(
                "{at}: Required value: must specify a handler type"
            )],
        ),
        (
            p,
            json!({"httpGet": {"port": 80}, "exec": {"command": ["x"]}}),
            &[&format!(
                "{at}.httpGet: Forbidden: may not specify more than 1 handler type"
            )],
        ),
        (
            p,
            json!({"httpGet": {"port": 0}, "periodSeconds": -1}),
            &[
                &format!(
                    "{at}.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"
                ),
                &format!(
                    "{at}.periodSeconds: Invalid value: -1: must be greater than or equal to 0"
                ),
            ],
        ),
        (
            p,
            json!({"httpGet": {"port": 80}, "successThreshold": 2}),
            &[&format!(
                "{at}.successThreshold: Invalid value: 2: must be 1"
            )],
        ),
        (
            "/spec/containers/0/lifecycle",
            json!({"preStop": {"sleep": {"seconds": 31}}}),
            &[
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
               terminationGracePeriodSeconds (30)",
            ],
        ),
    ]);
}

#[test]
fn resources() {
    let r = "/spec/containers/0/resources";
    let at = "spec.containers[0].resources";
    check(&[
        (
            r,
            json!({"requests": {"cpu": "3"}, "limits": {"cpu": "2"}}),
            &[&format!(
                "{at}.requests: Invalid value: \"3\": must be less than or equal to cpu limit of 2"
            )],
        ),
        (
            r,
            json!({"limits": {"memory": "-1Gi"}}),
            &[
                &format!(
                    "{at}.limits[memory]: Invalid value: \"-1Gi\": must be greater than or equal to 0"
                ),
                &format!(
                    "{at}.requests[memory]: Invalid value: \"-1Gi\": must be greater than or equal to 0"
                ),
            ],
        ),
        (
            r,
            json!({"requests": {"rubbish": "1"}}),
            &[&format!(
                "{at}.requests[rubbish]: Invalid value: \"rubbish\": must be a standard resource for containers"
            )],
        ),
        (
            r,
            json!({"requests": {"example.com/x": "1"}}),
            &[&format!(
                "{at}.limits: Required value: Limit must be set for non overcommitable resources"
            )],
        ),
        (r, json!({"limits": {"example.com/x": "1"}}), &[]),
    ]);
}

#[test]
fn security() {
    check(&[
        (
            "/spec/securityContext",
            json!({"runAsUser": -1}),
            &[
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ],
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"privileged": true, "allowPrivilegeEscalation": false}),
            &["spec.containers[0].securityContext: Invalid value: \
               {\"privileged\":true,\"allowPrivilegeEscalation\":false}: cannot set `allowPrivilegeEscalation` to false \
               and `privileged` to true"],
        ),
        (
            "/spec/securityContext",
            json!({"seccompProfile": {"type": "Localhost"}}),
            &[
                "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is \
               Localhost",
            ],
        ),
        (
            "/spec/securityContext",
            json!({"sysctls": [{"name": "Bad"}]}),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"Bad\": must have at most 253 characters and match \
               regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            ],
        ),
    ]);
}

#[test]
fn placement() {
    let term = |operator: &str, values: Value| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}]}}})
    };
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]\
              .matchExpressions[0]";
    check(&[
        ("/spec/affinity", term("In", json!(["b"])), &[]),
        (
            "/spec/affinity",
            term("In", json!([])),
            &[&format!(
                "{at}.values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            )],
        ),
        (
            "/spec/affinity",
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}}),
            &[
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: \
               can not be empty",
            ],
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Equal"}]),
            &[
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which \
               means \"match all values and all keys\"",
            ],
        ),
        (
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 1}]),
            &[
                "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when \
               `tolerationSeconds` is set",
            ],
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
            &[
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            ],
        ),
        ("/spec/nodeSelector", json!({"a": "b"}), &[]),
    ]);
}

#[test]
fn single_fields() {
    check(&[
        (
            "/spec/restartPolicy",
            json!("Odd"),
            &[
                "spec.restartPolicy: Unsupported value: \"Odd\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            "/spec/activeDeadlineSeconds",
            json!(0),
            &[
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ],
        ),
        (
            "/spec/dnsPolicy",
            json!("None"),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            "/spec/hostAliases",
            json!([{"ip": "x"}]),
            &[
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
               2001:db8::ffff)",
            ],
        ),
    ]);
}

#[test]
fn new_pods_are_pending_with_a_class() {
    let mut object = with(pod(), "/status", json!({"phase": "Running"}));
    object["spec"]["schedulingGates"] = json!([{"name": "g"}]);
    Pod.default(&mut object);
    Pod.prepare_for_create(&mut object);
    assert_eq!(object["status"]["phase"], "Pending");
    assert_eq!(object["status"]["qosClass"], "Burstable");
    assert_eq!(
        object["status"]["conditions"][0]["reason"],
        "SchedulingGated"
    );
    assert_eq!(object["metadata"]["generation"], 1);
}

#[test]
fn updates_change_what_they_may() {
    let none: Vec<String> = vec![];
    let old = with(pod(), "/spec/activeDeadlineSeconds", json!(10));
    let allowed = [
        with(old.clone(), "/spec/containers/0/image", json!("nginx:2")),
        with(old.clone(), "/spec/activeDeadlineSeconds", json!(5)),
        with(
            old.clone(),
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Exists"}]),
        ),
        with(old.clone(), "/metadata/labels", json!({"a": "b"})),
    ];
    for new in allowed {
        assert_eq!(update(&Pod, new.clone(), old.clone()), none, "{new}");
    }
    let errors = update(
        &Pod,
        with(old.clone(), "/spec/nodeName", json!("n1")),
        old.clone(),
    );
    assert_eq!(
        errors,
        [
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
          tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n\
          spec.nodeName: from null to \"n1\""
        ]
    );
    let errors = update(
        &Pod,
        with(
            old.clone(),
            "/spec/containers/1",
            json!({"name": "d", "image": "x"}),
        ),
        old.clone(),
    );
    assert_eq!(
        errors,
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let errors = update(
        &Pod,
        with(old.clone(), "/spec/activeDeadlineSeconds", json!(11)),
        old,
    );
    assert_eq!(
        errors,
        [
            "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"
        ]
    );
}

#[test]
fn gates_go_and_tolerations_stay() {
    let mut old = with(pod(), "/spec/schedulingGates", json!([{"name": "g"}]));
    old["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    let none: Vec<String> = vec![];
    assert_eq!(
        update(
            &Pod,
            with(old.clone(), "/spec/schedulingGates", json!([])),
            old.clone()
        ),
        none
    );
    assert_eq!(
        update(
            &Pod,
            with(old.clone(), "/spec/nodeSelector", json!({"a": "b"})),
            old.clone()
        ),
        none
    );
    let errors = update(
        &Pod,
        with(old.clone(), "/spec/schedulingGates", json!([{"name": "h"}])),
        old.clone(),
    );
    assert_eq!(
        errors,
        [
            "spec.schedulingGates[0]: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"
        ]
    );
    let errors = update(&Pod, with(old.clone(), "/spec/tolerations", json!([])), old);
    assert_eq!(
        errors,
        [
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ]
    );
}

#[test]
fn status_updates_leave_the_rest_alone() {
    let mut old = pod();
    Pod.default(&mut old);
    Pod.prepare_for_create(&mut old);
    let mut new = with(old.clone(), "/spec/nodeName", json!("n2"));
    new["status"] = json!({"phase": "Running"});
    new["metadata"]["ownerReferences"] = json!([{"name": "x"}]);
    Pod.prepare_for_status_update(&mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["metadata"].get("ownerReferences"), None);
    assert_eq!(
        new["status"],
        json!({"phase": "Running", "qosClass": "Burstable"})
    );
    assert!(Pod.validate_status_update(&new, &old).is_empty());
}

#[test]
fn ephemeral_containers_are_only_added() {
    let mut old = pod();
    Pod.default(&mut old);
    let mut new = with(
        old.clone(),
        "/spec/ephemeralContainers",
        json!([{"name": "e", "image": "x"}]),
    );
    new["spec"]["nodeName"] = json!("elsewhere");
    Pod.prepare_for_subresource_update("ephemeralcontainers", &mut new, &old);
    assert_eq!(new["spec"].get("nodeName"), None);
    assert!(
        Pod.validate_subresource_update("ephemeralcontainers", &new, &old)
            .is_empty()
    );
    let errors = Pod.validate_subresource_update("ephemeralcontainers", &old, &new);
    assert_eq!(
        errors[0].to_string(),
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed\n"
    );
}

#[test]
fn deletion_waits_only_for_pods_that_run() {
    let mut object = pod();
    Pod.default(&mut object);
    let after = |object: &Value, requested| Pod.graceful_delete(object, requested);
    assert_eq!(after(&object, None), GracefulDelete::After { seconds: 0 });
    object["spec"]["nodeName"] = json!("n1");
    assert_eq!(after(&object, None), GracefulDelete::After { seconds: 30 });
    assert_eq!(
        after(&object, Some(5)),
        GracefulDelete::After { seconds: 5 }
    );
    object["status"] = json!({"phase": "Failed"});
    assert_eq!(
        after(&object, Some(5)),
        GracefulDelete::After { seconds: 0 }
    );
}

#[test]
fn fields_can_be_selected() {
    let mut object = pod();
    Pod.default(&mut object);
    object["status"] =
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
    let fields = Pod.selectable_fields(&object);
    for (name, expected) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "b"),
        ("spec.nodeName", ""),
        ("spec.restartPolicy", "Always"),
        ("spec.hostNetwork", "false"),
        ("status.phase", "Running"),
        ("status.podIP", "10.0.0.1"),
        ("status.podIPs", "10.0.0.1,fd00::1"),
    ] {
        assert_eq!(fields.get(name), Some(expected), "{name}");
    }
    assert_eq!(fields.get("spec.containers"), None);
}
