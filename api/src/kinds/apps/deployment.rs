//! Deployment: pods kept at a number and replaced gently when their template changes.

use jiff::Timestamp;
use serde_json::Value;

use super::workload::{
    is_zero, percent, validate_collisions, validate_counts, validate_int_or_percent,
    validate_pod_template, validate_selector, validate_selector_stays,
};
use crate::kinds::core::pod;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, keep, object_at};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, table,
};

/// `deployments` of apps/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    list_kind: "DeploymentList",
    resource: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "deployments",
    subresources: &[Subresource::scale(), Subresource::status("Deployment")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Ready", "Ready pods out of those wanted."),
        Column::text("Up-to-date", "Pods of the newest template."),
        Column::text("Available", "Pods that have been ready for long enough."),
        Column::AGE,
        Column::text("Containers", "Names of the template's containers.").wide(),
        Column::text("Images", "Images of the template's containers.").wide(),
        Column::text("Selector", "Labels of its pods.").wide(),
    ],
    strategy: &Deployment,
};

struct Deployment;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for Deployment {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        default_to(spec, "replicas", 1);
        if let Some(template) = object_at(spec, "template") {
            pod::default_template(template);
        }
        if let Some(strategy) = object_at(spec, "strategy") {
            default_to(strategy, "type", "RollingUpdate");
            if strategy.text("type") == "RollingUpdate"
                && let Some(rolling) = object_at(strategy, "rollingUpdate")
            {
                default_to(rolling, "maxUnavailable", "25%");
                default_to(rolling, "maxSurge", "25%");
            }
        }
        default_to(spec, "revisionHistoryLimit", 10);
        default_to(spec, "progressDeadlineSeconds", 600);
    }

    fn init(&self, object: &mut Value) {
        object_at(object, "status");
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        // The controller writes status; labels are the users'.
        if let Some(meta) = object_at(new, "metadata") {
            keep(meta, old.at("metadata"), "labels");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        errors.non_negative(&path.child("replicas"), spec.int("replicas"));
        validate_selector(spec, "deployment", errors);
        validate_pod_template(spec, "ReplicaSet", errors);
        validate_strategy(spec.at("strategy"), &path.child("strategy"), errors);
        errors.non_negative(&path.child("minReadySeconds"), spec.int("minReadySeconds"));
        errors.non_negative(
            &path.child("revisionHistoryLimit"),
            spec.int("revisionHistoryLimit"),
        );
        let deadline = spec.int("progressDeadlineSeconds");
        let at = path.child("progressDeadlineSeconds");
        errors.non_negative(&at, deadline);
        if let Some(deadline) = deadline
            && deadline <= spec.int("minReadySeconds").unwrap_or(0)
        {
            errors.invalid(&at, deadline, "must be greater than minReadySeconds");
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_selector_stays(new, old, errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_counts(
            new.at("status"),
            &[
                "observedGeneration",
                "replicas",
                "unavailableReplicas",
                "collisionCount",
            ],
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
            "readyReplicas",
            errors,
        );
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
        let count = |key: &str| status.int(key).unwrap_or(0);
        let (containers, images) = table::containers_and_images(spec.at("template").at("spec"));
        vec![
            meta.text("name").into(),
            format!(
                "{}/{}",
                count("readyReplicas"),
                spec.int("replicas").unwrap_or(0)
            )
            .into(),
            count("updatedReplicas").into(),
            count("availableReplicas").into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            containers.into(),
            images.into(),
            table::label_selector(spec.at("selector")).into(),
        ]
    }
}

fn validate_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rolling = strategy.opt("rollingUpdate");
    let at = path.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" => {
            if rolling.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&at, detail);
            }
        }
        "RollingUpdate" => match rolling {
            None => errors.required(&at, "this should be defaulted and never be nil"),
            Some(rolling) => validate_rolling(rolling, &at, errors),
        },
        "" => errors.required(&path.child("type"), ""),
        other => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

fn validate_rolling(rolling: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    let at = path.child("maxUnavailable");
    validate_int_or_percent(unavailable, false, &at, errors);
    validate_int_or_percent(surge, false, &path.child("maxSurge"), errors);
    if is_zero(unavailable) && is_zero(surge) {
        errors.invalid(&at, unavailable, "may not be 0 when `maxSurge` is 0");
    }
    if percent(unavailable).is_some_and(|p| p > 100) {
        errors.invalid(&at, unavailable, "must not be greater than 100%");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn deployment() -> Value {
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

    #[test]
    fn defaults() {
        let mut object = deployment();
        Deployment.default(&mut object);
        let spec = &object["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(
            (
                &spec["revisionHistoryLimit"],
                &spec["progressDeadlineSeconds"]
            ),
            (&json!(10), &json!(600))
        );
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        assert_eq!(spec["template"]["metadata"]["labels"]["app"], "web");
    }

    #[test]
    fn generation_follows_spec() {
        let mut old = deployment();
        Deployment.default(&mut old);
        Deployment.prepare_for_create(&mut old);
        assert_eq!(old["metadata"]["generation"], 1);
        let mut same = old.clone();
        Deployment.prepare_for_update(&mut same, &old);
        assert_eq!(same["metadata"]["generation"], 1);
        let mut new = with(old.clone(), "/spec/replicas", json!(5));
        new["status"] = json!({"replicas": 9});
        Deployment.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 2);
        assert_eq!(new["status"], json!({}));
        let mut status = with(old.clone(), "/spec/replicas", json!(7));
        status["status"] = json!({"replicas": 1});
        Deployment.prepare_for_status_update(&mut status, &old);
        assert_eq!(
            (&status["spec"]["replicas"], &status["status"]["replicas"]),
            (&json!(1), &json!(1))
        );
    }

    #[test]
    fn mistakes_are_named() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&Deployment, deployment()), none);
        let cases = [
            (
                "/spec/template/metadata/labels",
                json!({"app": "other"}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match \
                 template `labels`",
            ),
            (
                "/spec/replicas",
                json!(-1),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ),
            (
                "/spec/strategy",
                json!({"type": "Recreate", "rollingUpdate": {}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                "/spec/template/spec/containers/0/name",
                json!("C"),
                "spec.template.spec.containers[0].name: Invalid value: \"C\": a lowercase RFC 1123 label must consist \
                 of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character \
                 (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                "/spec/progressDeadlineSeconds",
                json!(0),
                "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
            ),
        ];
        for (pointer, value, expected) in cases {
            assert_eq!(
                create(&Deployment, with(deployment(), pointer, value)),
                [expected],
                "{pointer}"
            );
        }
    }

    #[test]
    fn a_missing_selector_finds_no_pods() {
        let errors = create(
            &Deployment,
            with(deployment(), "/spec/selector", Value::Null),
        );
        let expected = [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
             `labels`",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn selectors_stay() {
        let mut new = with(deployment(), "/spec/selector/matchLabels/app", json!("x"));
        new["spec"]["template"]["metadata"]["labels"]["app"] = json!("x");
        assert_eq!(
            update(&Deployment, new, deployment()),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"]
        );
    }

    #[test]
    fn row() {
        let mut object = with(
            deployment(),
            "/status",
            json!({"readyReplicas": 2, "updatedReplicas": 3}),
        );
        Deployment.default(&mut object);
        let row = Deployment.row(&object, Timestamp::UNIX_EPOCH);
        let expected = json!(["web", "2/1", 3, 0, "<unknown>", "c", "nginx:1", "app=web"]);
        assert_eq!(Value::Array(row), expected);
    }
}
