//! StatefulSet: pods with a name, an order and volumes of their own.

mod claim;
mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::workload::{validate_collisions, validate_counts};
use crate::kinds::core::pod;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, default_to, items_at, object_at, set};
use crate::kinds::{
    Column, Errors, NameRule, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
    table,
};

/// `statefulsets` of apps/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "apps",
    version: "v1",
    kind: "StatefulSet",
    list_kind: "StatefulSetList",
    resource: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "statefulsets",
    subresources: &[Subresource::scale(), Subresource::status("StatefulSet")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Ready", "Ready pods out of those wanted."),
        Column::AGE,
        Column::text("Containers", "Names of the template's containers.").wide(),
        Column::text("Images", "Images of the template's containers.").wide(),
    ],
    strategy: &StatefulSet,
};

struct StatefulSet;

static RULES: Rules = Rules {
    // Its pods' names are its own with a number, and their host names.
    name: NameRule::Label,
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for StatefulSet {
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
        default_to(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = object_at(spec, "updateStrategy") {
            default_strategy(strategy);
        }
        if let Some(policy) = object_at(spec, "persistentVolumeClaimRetentionPolicy") {
            default_to(policy, "whenDeleted", "Retain");
            default_to(policy, "whenScaled", "Retain");
        }
        default_to(spec, "replicas", 1);
        default_to(spec, "revisionHistoryLimit", 10);
        for template in items_at(spec, "volumeClaimTemplates") {
            claim::default(template);
        }
    }

    fn init(&self, object: &mut Value) {
        let status = json!({"replicas": 0, "availableReplicas": 0});
        set(object, "status", status);
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate::spec(object.at("spec"), validate::Depth::New, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate::change(new.at("spec"), old.at("spec"), errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_counts(
            new.at("status"),
            &["replicas", "observedGeneration", "collisionCount"],
            &[
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
            ],
            "status.readyReplicas",
            errors,
        );
        validate_collisions(new, old, errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let spec = object.at("spec");
        let pod_spec = spec.at("template").at("spec");
        let mut found = pod::warnings(pod_spec, &Path::new("spec.template.spec"));
        let path = Path::new("spec.volumeClaimTemplates");
        for (i, template) in spec.list("volumeClaimTemplates").iter().enumerate() {
            claim::warnings(template.at("spec"), &path.index(i), &mut found);
        }
        if spec.int("revisionHistoryLimit").is_some_and(|n| n < 0) {
            found.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                 recommended"
                    .to_owned(),
            );
        }
        found
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let (spec, status) = (object.at("spec"), object.at("status"));
        let (containers, images) = table::containers_and_images(spec.at("template").at("spec"));
        let ready = format!(
            "{}/{}",
            status.int("readyReplicas").unwrap_or(0),
            spec.int("replicas").unwrap_or(0)
        );
        vec![
            meta.text("name").into(),
            ready.into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            containers.into(),
            images.into(),
        ]
    }
}

/// A strategy without a type is a rolling one, and only then gets the numbers of one made for it.
fn default_strategy(strategy: &mut Value) {
    if strategy.is_empty_at("type") {
        set(strategy, "type", "RollingUpdate");
        object_at(strategy, "rollingUpdate");
    }
    if strategy.text("type") == "RollingUpdate"
        && strategy.has("rollingUpdate")
        && let Some(rolling) = object_at(strategy, "rollingUpdate")
    {
        default_to(rolling, "partition", 0);
        default_to(rolling, "maxUnavailable", 1);
    }
}

#[cfg(test)]
mod tests;
