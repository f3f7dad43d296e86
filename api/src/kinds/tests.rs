//! What must hold of every kind, whatever it is given: no strategy panics on objects that the structural decoder
//! would have refused.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{ResourceDescriptor, admissionregistration as admission, registry};

/// Keys that strategies look at, so that random objects reach deep into them.
const KEYS: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "data",
    "binaryData",
    "stringData",
    "type",
    "rules",
    "subjects",
    "roleRef",
    "containers",
    "initContainers",
    "ephemeralContainers",
    "volumes",
    "env",
    "valueFrom",
    "fieldRef",
    "ports",
    "resources",
    "limits",
    "requests",
    "cpu",
    "livenessProbe",
    "httpGet",
    "port",
    "affinity",
    "nodeAffinity",
    "tolerations",
    "template",
    "selector",
    "matchLabels",
    "matchExpressions",
    "strategy",
    "rollingUpdate",
    "maxSurge",
    "subsets",
    "addresses",
    "endpoints",
    "taints",
    "conditions",
    "containerStatuses",
    "state",
    "terminated",
    "loadBalancer",
    "ingress",
    "clusterIPs",
    "securityContext",
    "projected",
    "sources",
    "downwardAPI",
    "items",
    "schedulingGates",
    "creationTimestamp",
    "jobTemplate",
    "podFailurePolicy",
    "onExitCodes",
    "onPodConditions",
    "successPolicy",
    "completions",
    "completionMode",
    "backoffLimitPerIndex",
    "succeededIndexes",
    "schedule",
    "timeZone",
    "volumeClaimTemplates",
    "updateStrategy",
    "deprecated.daemonset.template.generation",
    "uncountedTerminatedPods",
    "metrics",
    "currentMetrics",
    "resource",
    "object",
    "external",
    "target",
    "averageValue",
    "behavior",
    "scaleUp",
    "policies",
    "autoscaling.alpha.kubernetes.io/metrics",
    "request",
    "usages",
    "certificate",
    "webhooks",
    "clientConfig",
    "service",
    "url",
    "path",
    "matchConstraints",
    "resourceRules",
    "resourceNames",
    "validations",
    "auditAnnotations",
    "host",
    "http",
    "paths",
    "pathType",
    "backend",
    "defaultBackend",
    "tls",
    "hosts",
    "ingressClassName",
    "controller",
    "parameters",
    "egress",
    "from",
    "ipBlock",
    "cidr",
    "except",
    "endPort",
    "cidrs",
    "parentRef",
    "matchingPrecedence",
    "distinguisherMethod",
    "serviceAccount",
    "nonResourceRules",
    "nonResourceURLs",
    "verbs",
    "limited",
    "exempt",
    "limitResponse",
    "queuing",
    "handSize",
    "queues",
    "capacity",
    "storage",
    "accessModes",
    "nodeAffinity",
    "required",
    "nodeSelectorTerms",
    "csi",
    "hostPath",
    "dataSource",
    "dataSourceRef",
    "source",
    "inlineVolumeSpec",
    "drivers",
    "topologyKeys",
    "tokenRequests",
    "allowedTopologies",
    "matchLabelExpressions",
    "parameters",
    "overhead",
    "podFixed",
    "scheduling",
];

/// The kinds of the registry, and those that wait for what obeys them.
fn every_kind() -> impl Iterator<Item = &'static ResourceDescriptor> {
    registry().all().chain([
        &admission::mutating_webhook_configuration::DESCRIPTOR,
        &admission::validating_admission_policy::DESCRIPTOR,
        &admission::validating_admission_policy_binding::DESCRIPTOR,
        &admission::validating_webhook_configuration::DESCRIPTOR,
    ])
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just(""),
            Just("-"),
            Just("a/b/c"),
            Just("ÄÖ-"),
            Just("ClientIP"),
            Just("50%"),
            Just("None"),
            Just("Indexed"),
            Just("3-1,x")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(KEYS), inner), 0..8).prop_map(|pairs| {
                let map: Map<String, Value> =
                    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
                Value::Object(map)
            }),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    (json(), json(), json()).prop_map(|(metadata, spec, status)| {
        json!({"metadata": metadata, "spec": spec, "status": status, "data": {"k": spec}, "rules": [spec]})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_input_panics(mut new in prop_oneof![object(), json()], mut old in prop_oneof![object(), json()]) {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for descriptor in every_kind() {
            let strategy = descriptor.strategy;
            strategy.default(&mut old);
            strategy.default(&mut new);
            let mut made = new.clone();
            strategy.prepare_for_create(&mut made);
            strategy.validate_create(&made);
            let mut updated = new.clone();
            strategy.prepare_for_update(&mut updated, &old);
            strategy.validate_update(&updated, &old);
            let mut status = new.clone();
            strategy.prepare_for_status_update(&mut status, &old);
            strategy.validate_status_update(&status, &old);
            let mut stored = new.clone();
            strategy.encode_for_storage(&mut stored);
            let mut view = old.clone();
            strategy.decode_from_storage(&mut view);
            for subresource in [
                "finalize",
                "ephemeralcontainers",
                "resize",
                "approval",
                "other",
            ] {
                let mut part = new.clone();
                strategy.prepare_for_subresource_update(subresource, &mut part, &old);
                strategy.validate_subresource_update(subresource, &part, &old);
            }
            strategy.warnings(&new);
            strategy.selectable_fields(&new);
            strategy.graceful_delete(&new, None);
            let row = strategy.row(&new, now);
            prop_assert!(descriptor.is_virtual() || row.len() == descriptor.columns.len());
        }
    }

    /// Defaults are stable: what was read once reads the same again.
    #[test]
    fn defaults_are_idempotent(object in object()) {
        for descriptor in every_kind() {
            let mut once = object.clone();
            descriptor.strategy.default(&mut once);
            let mut twice = once.clone();
            descriptor.strategy.default(&mut twice);
            prop_assert_eq!(&once, &twice);
        }
    }
}
