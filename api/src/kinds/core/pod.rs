//! Pod: containers that share a host, a network and volumes.
//!
//! Invariant: once made, the spec of a pod stays but for what `update.rs` lists.

pub mod binding;
pub mod qos;

mod defaults;
mod resize;
mod row;
mod update;
mod validate;
mod warnings;

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) use defaults::canonical_amounts;
pub use defaults::{default_spec, default_template};
pub use validate::validate_spec;
pub(crate) use validate::{
    no_back_steps, validate_host_path, validate_node_selector, validate_resource_name,
    validate_resources, validate_taint_effect, validate_tolerations,
};
pub use warnings::warnings;

use crate::field::FieldError;
use crate::kinds::descriptor::{ALL_VERBS, CONNECT, CREATE, GET_PATCH_UPDATE, PROXY};
use crate::kinds::object_meta;
use crate::kinds::strategy::{Generation, keep_but_metadata};
use crate::kinds::value::{Get, keep, object_at, same, set};
use crate::kinds::{
    Column, Errors, Fields, GracefulDelete, Path, ResourceDescriptor, Rules, Strategy, Subresource,
};

/// `pods` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "Pod",
    list_kind: "PodList",
    resource: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "pods",
    subresources: &[
        Subresource::own("attach", "PodAttachOptions", CONNECT),
        Subresource::own("binding", "Binding", CREATE),
        Subresource::own("ephemeralcontainers", "Pod", GET_PATCH_UPDATE),
        Subresource {
            name: "eviction",
            group: "policy",
            version: "v1",
            kind: "Eviction",
            verbs: CREATE,
        },
        Subresource::own("exec", "PodExecOptions", CONNECT),
        Subresource::own("log", "Pod", &["get"]),
        Subresource::own("portforward", "PodPortForwardOptions", CONNECT),
        Subresource::own("proxy", "PodProxyOptions", PROXY),
        Subresource::own(resize::RESIZE, "Pod", GET_PATCH_UPDATE),
        Subresource::status("Pod"),
    ],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Ready", "Ready containers out of all."),
        Column::text("Status", "Phase, or the reason why it is not running."),
        Column::text(
            "Restarts",
            "Restarts of its containers, and how long ago the last one was.",
        ),
        Column::AGE,
        Column::text("IP", "Address in the pod network.").wide(),
        Column::text("Node", "Node it runs on.").wide(),
        Column::text("Nominated Node", "Node on which room is being made for it.").wide(),
        Column::text(
            "Readiness Gates",
            "Conditions that hold out of those that must.",
        )
        .wide(),
    ],
    strategy: &Pod,
};

struct Pod;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

/// Sets the account of a pod under both its names, the current and the old one.
pub fn set_service_account(spec: &mut Value, name: &str) {
    set(spec, "serviceAccountName", name);
    set(spec, "serviceAccount", name);
}

impl Strategy for Pod {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = object_at(object, "spec") {
            default_spec(spec);
            defaults::pod_only(spec);
        }
    }

    fn init(&self, object: &mut Value) {
        // Admission may have added containers, volumes or an account.
        self.default(object);
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(object.at("spec"))});
        if !object.at("spec").is_empty_at("schedulingGates") {
            let condition = json!({
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": null,
                "lastTransitionTime": null,
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            });
            set(&mut status, "conditions", vec![condition]);
        }
        set(object, "status", status);
    }

    fn carry_over_status(&self, new: &mut Value, old: &Value) {
        if let Some(meta) = object_at(new, "metadata") {
            for key in ["ownerReferences", "deletionTimestamp"] {
                keep(meta, old.at("metadata"), key);
            }
        }
        if let Some(status) = object_at(new, "status")
            && status.is_empty_at("qosClass")
        {
            keep(status, old.at("status"), "qosClass");
        }
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        if !spec.is_empty_at("ephemeralContainers") {
            errors.forbidden(
                &path.child("ephemeralContainers"),
                "cannot be set on create",
            );
        }
        if !spec.is_empty_at("schedulingGates") && !spec.is_empty_at("nodeName") {
            errors.forbidden(
                &path.child("nodeName"),
                "cannot be set until all schedulingGates have been cleared",
            );
        }
        validate_spec(spec, &path, errors);
        validate::mirror_pod(object, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update::validate(new, old, errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        update::validate_status(new, old, errors);
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if subresource == resize::RESIZE {
            resize::prepare(new, old);
            grow_generation(new, old);
            return;
        }
        let containers = new.at("spec").opt("ephemeralContainers").cloned();
        keep_but_metadata(new, old, &[]);
        if let Some(meta) = object_at(new, "metadata") {
            for key in [
                "uid",
                "creationTimestamp",
                "generation",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
            ] {
                keep(meta, old.at("metadata"), key);
            }
        }
        if subresource != "ephemeralcontainers" {
            return;
        }
        if let (Some(spec), Some(containers)) = (object_at(new, "spec"), containers) {
            set(spec, "ephemeralContainers", containers);
            defaults::containers(spec, "ephemeralContainers");
        }
        grow_generation(new, old);
    }

    fn validate_subresource_update(
        &self,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = Errors::new();
        object_meta::validate_update(new, old, &mut errors);
        match subresource {
            "ephemeralcontainers" => update::validate_ephemeral(new, old, &mut errors),
            resize::RESIZE => resize::validate(new, old, &mut errors),
            _ => {}
        }
        errors.finish()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        warnings(object.at("spec"), &Path::new("spec"))
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        let (spec, status) = (object.at("spec"), object.at("status"));
        fields.add("spec.nodeName", spec.text("nodeName"));
        fields.add("spec.restartPolicy", spec.text("restartPolicy"));
        fields.add("spec.schedulerName", spec.text("schedulerName"));
        fields.add("spec.serviceAccountName", spec.text("serviceAccountName"));
        fields.add(
            "spec.hostNetwork",
            if spec.flag("hostNetwork") {
                "true"
            } else {
                "false"
            },
        );
        fields.add("status.phase", status.text("phase"));
        let ips: Vec<&str> = status
            .list("podIPs")
            .iter()
            .map(|ip| ip.text("ip"))
            .collect();
        fields.add(
            "status.podIP",
            ips.first().copied().unwrap_or(status.text("podIP")),
        );
        fields.add("status.podIPs", Cow::from(ips.join(",")));
        fields.add("status.nominatedNodeName", status.text("nominatedNodeName"));
    }

    fn graceful_delete(&self, object: &Value, requested: Option<i64>) -> GracefulDelete {
        let spec = object.at("spec");
        let mut seconds = requested
            .or_else(|| spec.int("terminationGracePeriodSeconds"))
            .unwrap_or(0);
        // Nobody runs it yet, or any more: there is nothing to wait for.
        let finished = matches!(object.at("status").text("phase"), "Succeeded" | "Failed");
        if spec.is_empty_at("nodeName") || finished {
            seconds = 0;
        }
        if seconds < 0 {
            seconds = 1;
        }
        GracefulDelete::After { seconds }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        row::row(object, now)
    }
}

/// Counts a change of the spec that came through a subresource.
fn grow_generation(new: &mut Value, old: &Value) {
    if !same(new.at("spec"), old.at("spec"))
        && let Some(meta) = object_at(new, "metadata")
    {
        let generation = old.at("metadata").int("generation").unwrap_or(0);
        set(meta, "generation", generation + 1);
    }
}

#[cfg(test)]
mod tests;
