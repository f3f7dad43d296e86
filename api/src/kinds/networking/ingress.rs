//! Ingress: which Service answers which host and path from outside.

mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::validate::{relaxed_names, validate_class_annotation, validate_spec};
use super::GROUP;
use crate::kinds::core::service::validate_load_balancer_ingress;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::strategy::Generation;
use crate::kinds::value::{Get, set};
use crate::kinds::{
    Column, Errors, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration,
};

/// `ingresses` of networking.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: GROUP,
    version: "v1",
    kind: "Ingress",
    list_kind: "IngressList",
    resource: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    categories: &[],
    namespaced: true,
    storage_prefix: "ingress",
    subresources: &[Subresource::status("Ingress")],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Class", "IngressClass that serves it."),
        Column::text("Hosts", "Hosts that its rules name."),
        Column::text("Address", "Where the load balancer is reached."),
        Column::text("Ports", "Ports that it opens."),
        Column::AGE,
    ],
    strategy: &Ingress,
};

/// How classes were named before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Hosts that a table cell shows before it only counts.
const HOSTS_SHOWN_MAX: usize = 3;

struct Ingress;

static RULES: Rules = Rules {
    status: true,
    generation: Generation::Spec,
    ..Rules::NAMESPACED
};

impl Strategy for Ingress {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({"loadBalancer": {}}));
    }

    fn validate_new(&self, object: &Value, errors: &mut Errors) {
        validate_spec(object.at("spec"), false, errors);
        validate_class_annotation(object, errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate_spec(new.at("spec"), relaxed_names(old.at("spec")), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let ingresses = new.at("status").at("loadBalancer").list("ingress");
        let path = Path::new("status.loadBalancer.ingress");
        validate_load_balancer_ingress(ingresses, &path, errors);
    }

    fn warnings_of_new(&self, object: &Value) -> Vec<String> {
        let annotated = object
            .at("metadata")
            .at("annotations")
            .has(CLASS_ANNOTATION);
        if annotated && !object.at("spec").has("ingressClassName") {
            return vec![format!(
                "annotation \"{CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        let ports = if spec.list("tls").is_empty() {
            "80"
        } else {
            "80, 443"
        };
        vec![
            meta.text("name").into(),
            spec.opt_text("ingressClassName").unwrap_or("<none>").into(),
            hosts(spec.list("rules")).into(),
            addresses(object).into(),
            ports.into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn hosts(rules: &[Value]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == HOSTS_SHOWN_MAX;
        let host = rule.text("host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, false) => shown.join(","),
        (false, true) => format!(
            "{} + {} more...",
            shown.join(","),
            rules.len() - HOSTS_SHOWN_MAX
        ),
    }
}

fn addresses(object: &Value) -> String {
    let ingresses = object.at("status").at("loadBalancer").list("ingress");
    let address = |ingress: &'_ Value| match ingress.text("ip") {
        "" => ingress.text("hostname").to_owned(),
        ip => ip.to_owned(),
    };
    let mut all: Vec<String> = ingresses.iter().map(address).collect();
    all.retain(|address| !address.is_empty());
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

#[cfg(test)]
mod tests;
