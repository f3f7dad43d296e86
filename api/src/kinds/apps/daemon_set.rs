//! DaemonSet: one pod on each node that its template may run on.
//!
//! Invariant: the generation of the template, which an annotation keeps for old clients, grows with each change of the
//! template and with nothing else.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::workload::{
    is_zero, validate_collisions, validate_int_or_percent, validate_label_selector,
    validate_non_negative, validate_not_empty, validate_selector_matches, validate_selector_stays,
    validate_template_life, validate_template_spec,
};
use crate::field::FieldError;
use crate::kinds::core::pod;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, object_at, same, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, table,
};

/// `daemonsets` of apps/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "apps",
    version: "v1",
    kind: "DaemonSet",
    list_kind: "DaemonSetList",
    resource: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "daemonsets",
    subresources: &[Subresource::status("DaemonSet")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::integer("Desired", "Nodes that are to run its pod."),
        Column::integer("Current", "Nodes that run its pod and are to."),
        Column::integer("Ready", "Nodes whose pod of it is ready."),
        Column::integer("Up-to-date", "Nodes with a pod of the newest template."),
        Column::integer(
            "Available",
            "Nodes whose pod has been ready for long enough.",
        ),
        Column::text("Node Selector", "Labels of the nodes it is meant for."),
        Column::AGE,
        Column::text("Containers", "Names of the template's containers.").wide(),
        Column::text("Images", "Images of the template's containers.").wide(),
        Column::text("Selector", "Labels of its pods.").wide(),
    ],
    strategy: &DaemonSet,
};

/// The annotation that counts the changes of the template.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// The counts in the status, beside that of collisions.
const COUNTS: &[&str] = &[
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

struct DaemonSet;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for DaemonSet {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        if let Some(template) = object_at(spec, "template") {
            pod::default_template(template);
        }
        if let Some(strategy) = object_at(spec, "updateStrategy") {
            default_to(strategy, "type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = object_at(strategy, "rollingUpdate")
            {
                default_to(rolling, "maxUnavailable", 1);
                default_to(rolling, "maxSurge", 0);
            }
        }
        default_to(spec, "revisionHistoryLimit", 10);
    }

    fn init(&self, object: &mut Value) {
        let status = json!({
            "currentNumberScheduled": 0,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 0,
            "numberReady": 0,
        });
        set(object, "status", status);
        let given = template_generation(object);
        set_template_generation(object, given.max(1));
    }

    fn carry_over(&self, new: &mut Value, old: &Value) {
        let template = |object: &Value| object.at("spec").at("template").clone();
        let changed = !same(&template(new), &template(old));
        let before = template_generation(old);
        set_template_generation(new, before.saturating_add(i64::from(changed)));
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        set_template_generation(new, template_generation(old));
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        let (selector, template) = (spec.at("selector"), spec.at("template"));
        validate_label_selector(selector, &path.child("selector"), errors);
        validate_selector_matches(spec, errors);
        validate_not_empty(selector, "daemonset", errors);
        validate_template_spec(template, &path.child("template"), errors);
        validate_template_life(template.at("spec"), "DaemonSet", errors);
        let counts = ["minReadySeconds", "revisionHistoryLimit"];
        validate_non_negative(spec, &path, &counts, errors);
        let at = path.child("updateStrategy");
        validate_strategy(spec.at("updateStrategy"), &at, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_selector_stays(new, old, errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_non_negative(new.at("status"), &Path::new("status"), COUNTS, errors);
        validate_collisions(new, old, errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        pod::warnings(
            object.at("spec").at("template").at("spec"),
            &Path::new("spec.template.spec"),
        )
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let (spec, status) = (object.at("spec"), object.at("status"));
        let pod_spec = spec.at("template").at("spec");
        let count = |key: &str| Value::from(status.int(key).unwrap_or(0));
        let (containers, images) = table::containers_and_images(pod_spec);
        vec![
            meta.text("name").into(),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            table::label_map(pod_spec.at("nodeSelector")).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            containers.into(),
            images.into(),
            table::label_selector(spec.at("selector")).into(),
        ]
    }
}

fn template_generation(object: &Value) -> i64 {
    let annotations = object.at("metadata").at("annotations");
    annotations.text(TEMPLATE_GENERATION).parse().unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    if let Some(meta) = object_at(object, "metadata")
        && let Some(annotations) = object_at(meta, "annotations")
    {
        set(annotations, TEMPLATE_GENERATION, generation.to_string());
    }
}

fn validate_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.opt("rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&at, ""),
        ("RollingUpdate", Some(rolling)) => validate_rolling(rolling, &at, errors),
        _ => errors.push(FieldError::not_supported(
            &path.to_field_path(),
            strategy.clone(),
            ["RollingUpdate", "OnDelete"],
        )),
    }
}

fn validate_rolling(rolling: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    let (at_unavailable, at_surge) = (path.child("maxUnavailable"), path.child("maxSurge"));
    validate_int_or_percent(unavailable, true, &at_unavailable, errors);
    validate_int_or_percent(surge, true, &at_surge, errors);
    match (is_zero(unavailable), is_zero(surge)) {
        (false, false) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.invalid(&at_surge, surge, detail);
        }
        (true, true) => errors.required(&at_unavailable, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn daemon_set() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "b"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
                },
            },
        })
    }

    fn made() -> Value {
        let mut object = daemon_set();
        DaemonSet.default(&mut object);
        DaemonSet.prepare_for_create(&mut object);
        object
    }

    #[test]
    fn defaults() {
        let mut object = daemon_set();
        DaemonSet.default(&mut object);
        let spec = &object["spec"];
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
        );
        assert_eq!(spec["revisionHistoryLimit"], 10);
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        let mut object = with(
            daemon_set(),
            "/spec/updateStrategy",
            json!({"type": "OnDelete"}),
        );
        DaemonSet.default(&mut object);
        assert_eq!(
            object["spec"]["updateStrategy"],
            json!({"type": "OnDelete"})
        );
    }

    #[test]
    fn generations_follow_the_template_and_the_spec() {
        let old = made();
        let generations = |object: &Value| {
            let annotation = &object["metadata"]["annotations"][TEMPLATE_GENERATION];
            (
                object["metadata"]["generation"].as_i64().unwrap(),
                annotation.as_str().unwrap().to_owned(),
            )
        };
        assert_eq!(generations(&old), (1, "1".to_owned()));
        let mut new = with(old.clone(), "/spec/minReadySeconds", json!(5));
        new["metadata"]["annotations"] = json!({TEMPLATE_GENERATION: "7"});
        DaemonSet.prepare_for_update(&mut new, &old);
        assert_eq!(generations(&new), (2, "1".to_owned()));
        let image = "/spec/template/spec/containers/0/image";
        let mut new = with(old.clone(), image, json!("nginx:2"));
        DaemonSet.prepare_for_update(&mut new, &old);
        assert_eq!(generations(&new), (2, "2".to_owned()));
        let mut status = old.clone();
        status["metadata"]["annotations"] = Value::Null;
        status["status"]["numberReady"] = json!(4);
        DaemonSet.prepare_for_status_update(&mut status, &old);
        assert_eq!(generations(&status), (1, "1".to_owned()));
        assert_eq!(status["status"]["numberReady"], 4);
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&DaemonSet, daemon_set()), none);
        let no_match = "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match \
                        template `labels`";
        let cases = [
            ("/spec/selector", Value::Null, no_match),
            (
                "/spec/selector",
                json!({}),
                "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
            ),
            ("/spec/selector/matchLabels/app", json!("other"), no_match),
            (
                "/spec/updateStrategy",
                json!({"type": "Recreate"}),
                "spec.updateStrategy: Unsupported value: {\"type\":\"Recreate\"}: supported values: \"RollingUpdate\", \
                 \"OnDelete\"",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": "0%"}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxSurge": "20%"}}),
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"20%\": may not be set when \
                 maxUnavailable is non-zero",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": "120%"}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"120%\": must not be greater than \
                 100%",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("OnFailure"),
                "spec.template.spec.restartPolicy: Unsupported value: \"OnFailure\": supported values: \"Always\"",
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(5),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not \
                 Supported",
            ),
            (
                "/spec/template/metadata/annotations",
                json!({"": "x"}),
                "spec.template.annotations: Invalid value: \"\": name part must be non-empty",
            ),
        ];
        for (pointer, value, expected) in cases {
            let errors = create(&DaemonSet, with(daemon_set(), pointer, value));
            assert_eq!(errors.first().map(String::as_str), Some(expected));
        }
        let mut new = with(
            daemon_set(),
            "/spec/selector",
            json!({"matchLabels": {"app": "x"}}),
        );
        new["spec"]["template"]["metadata"]["labels"]["app"] = json!("x");
        assert_eq!(
            update(&DaemonSet, new, daemon_set()),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"]
        );
    }

    #[test]
    fn status_counts_are_not_negative_and_collisions_never_shrink() {
        let old = with(made(), "/status", json!({"collisionCount": 3}));
        let new = with(
            made(),
            "/status",
            json!({"collisionCount": 2, "numberReady": -1}),
        );
        let errors = DaemonSet.validate_status_update(&new, &old);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "status.numberReady: Invalid value: -1: must be greater than or equal to 0",
                "status.collisionCount: Invalid value: 2: cannot be decremented",
            ]
        );
    }

    #[test]
    fn row() {
        let mut object = made();
        object["status"] = json!({
            "desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 2,
            "numberAvailable": 1});
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        let row = DaemonSet.row(&object, Timestamp::UNIX_EPOCH);
        let expected = json!([
            "web",
            5,
            4,
            3,
            2,
            1,
            "disk=ssd",
            "<unknown>",
            "c",
            "nginx:1",
            "app=web"
        ]);
        assert_eq!(Value::Array(row), expected);
    }
}
