//! HorizontalPodAutoscaler of autoscaling/v1: the CPU target as a field, and all else in annotations. Nothing here is
//! stored, see the parent.
//!
//! Invariant: every rule is the newer version's, applied to the converted object, so that an annotation is held to the
//! same rules as the field it stands for.

use jiff::Timestamp;
use serde_json::Value;

use super::convert::{to_v1, to_v2};
use super::{COLUMNS, DESCRIPTOR as V2, RULES};
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{default_to, object_at};
use crate::kinds::{Errors, ResourceDescriptor, Rules, Strategy, Subresource};

/// `horizontalpodautoscalers` of autoscaling/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "autoscaling",
    version: "v1",
    kind: "HorizontalPodAutoscaler",
    list_kind: "HorizontalPodAutoscalerList",
    resource: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "horizontalpodautoscalers",
    subresources: &[Subresource::status("HorizontalPodAutoscaler")],
    verbs: ALL_VERBS,
    columns: COLUMNS,
    strategy: &HorizontalPodAutoscaler,
};

struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        // The default metric depends on the annotations, so the conversion sets it.
        if let Some(spec) = object_at(object, "spec") {
            default_to(spec, "minReplicas", 1);
        }
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        V2.strategy.validate_new(&converted(object), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        V2.strategy
            .validate_change(&converted(new), &converted(old), errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        V2.strategy
            .validate_status(&converted(new), &converted(old), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        V2.strategy.row(&converted(object), now)
    }

    fn encode_for_storage(&self, object: &mut Value) {
        to_v2(object);
    }

    fn decode_from_storage(&self, object: &mut Value) {
        to_v1(object);
    }

    fn prepare_for_create(&self, object: &mut Value) {
        to_v2(object);
        V2.strategy.prepare_for_create(object);
        to_v1(object);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        to_v2(new);
        V2.strategy.prepare_for_update(new, &converted(old));
        to_v1(new);
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        to_v2(new);
        V2.strategy.prepare_for_status_update(new, &converted(old));
        to_v1(new);
    }
}

fn converted(object: &Value) -> Value {
    let mut object = object.clone();
    to_v2(&mut object);
    object
}
