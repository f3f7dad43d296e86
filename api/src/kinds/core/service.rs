//! Service: a stable address for a set of pods.
//!
//! Addresses, IP families and node ports are given by the API server's allocators, which know the cluster's
//! ranges; here is what does not depend on them.

mod validate;

pub(crate) use validate::{validate_load_balancer_ingress, validate_port_reference};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::descriptor::{ALL_VERBS, PROXY};
use crate::kinds::strategy::NameRule;
use crate::kinds::value::{Get, default_to, items_at, object_at, remove, set};
use crate::kinds::{
    Column, Errors, Fields, ResourceDescriptor, Rules, Strategy, Subresource, duration, table,
};

/// `services` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "Service",
    list_kind: "ServiceList",
    resource: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    namespaced: true,
    storage_prefix: "services/specs",
    subresources: &[
        Subresource::own("proxy", "ServiceProxyOptions", PROXY),
        Subresource::status("Service"),
    ],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Type", "How the service is exposed."),
        Column::text("Cluster-IP", "Address within the cluster."),
        Column::text("External-IP", "Addresses for the outside."),
        Column::text("Port(s)", "Ports, with node ports after a colon."),
        Column::AGE,
        Column::text("Selector", "Labels of the pods behind it.").wide(),
    ],
    strategy: &Service,
};

/// How long a client sticks to a pod when nothing else is said: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

struct Service;

static RULES: Rules = Rules {
    name: NameRule::Label1035,
    status: true,
    create_on_update: true,
    ..Rules::NAMESPACED
};

/// Whether the service gets a cluster address: all but those of type ExternalName do, if only `None`.
pub fn needs_cluster_ip(service: &Value) -> bool {
    matches!(
        service.at("spec").text("type"),
        "" | "ClusterIP" | "NodePort" | "LoadBalancer"
    )
}

/// Whether the service gets node ports.
pub fn needs_node_ports(service: &Value) -> bool {
    match service.at("spec").text("type") {
        "NodePort" => true,
        "LoadBalancer" => {
            service
                .at("spec")
                .at("allocateLoadBalancerNodePorts")
                .as_bool()
                != Some(false)
        }
        _ => false,
    }
}

impl Strategy for Service {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(spec) = object_at(object, "spec") else {
            return;
        };
        default_to(spec, "sessionAffinity", "None");
        match spec.text("sessionAffinity") {
            "None" => {
                remove(spec, "sessionAffinityConfig");
            }
            "ClientIP" => {
                let config = object_at(spec, "sessionAffinityConfig");
                if let Some(client_ip) = config.and_then(|config| object_at(config, "clientIP")) {
                    default_to(client_ip, "timeoutSeconds", AFFINITY_SECONDS);
                }
            }
            _ => {}
        }
        default_to(spec, "type", "ClusterIP");
        for port in items_at(spec, "ports") {
            default_to(port, "protocol", "TCP");
            let target = port.at("targetPort");
            if target.is_null() || target == &json!(0) || target.as_str() == Some("") {
                let number = port.at("port").clone();
                set(port, "targetPort", number);
            }
        }
        let kind = spec.text("type").to_owned();
        let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
            || (kind == "ClusterIP" && !spec.is_empty_at("externalIPs"));
        if external {
            default_to(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind != "ExternalName" {
            default_to(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default_to(spec, "allocateLoadBalancerNodePorts", true);
        }
    }

    fn init(&self, object: &mut Value) {
        set(object, "status", json!({"loadBalancer": {}}));
        drop_type_dependent(object);
    }

    fn carry_over(&self, new: &mut Value, old: &Value) {
        validate::patch_allocated(new, old);
        drop_type_dependent(new);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        validate::spec(object.at("spec"), errors);
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate::change(new.at("spec"), old.at("spec"), errors);
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        validate::status(new, errors);
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        fields.add("spec.clusterIP", object.at("spec").text("clusterIP"));
        fields.add("spec.type", object.at("spec").text("type"));
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let spec = object.at("spec");
        vec![
            meta.text("name").into(),
            spec.text("type").into(),
            cluster_ip(spec).into(),
            external_ip(object).into(),
            ports(spec).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            table::label_map(spec.at("selector")).into(),
        ]
    }
}

/// Removes what only other types of service have. Upstream drops these fields on every write.
fn drop_type_dependent(object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else {
        return;
    };
    if spec.text("type") != "LoadBalancer" && spec.at("allocateLoadBalancerNodePorts").is_boolean()
    {
        remove(spec, "allocateLoadBalancerNodePorts");
    }
}

fn cluster_ip(spec: &Value) -> String {
    let first = spec.list("clusterIPs").first().and_then(Value::as_str);
    match first.unwrap_or_else(|| spec.text("clusterIP")) {
        "" => "<none>".to_owned(),
        ip => ip.to_owned(),
    }
}

fn external_ip(object: &Value) -> String {
    let spec = object.at("spec");
    let external: Vec<&str> = spec
        .list("externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match spec.text("type") {
        "ExternalName" => spec.text("externalName").to_owned(),
        "LoadBalancer" => {
            let mut all: Vec<&str> = Vec::new();
            for ingress in object.at("status").at("loadBalancer").list("ingress") {
                let address = match ingress.text("ip") {
                    "" => ingress.text("hostname"),
                    ip => ip,
                };
                if !address.is_empty() && !all.contains(&address) {
                    all.push(address);
                }
            }
            all.sort_unstable();
            all.extend(external);
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        _ => duration::UNKNOWN.to_owned(),
    }
}

fn ports(spec: &Value) -> String {
    let texts: Vec<String> = spec
        .list("ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (port.int("port").unwrap_or(0), port.text("protocol"));
            match port.int("nodePort").unwrap_or(0) {
                0 => format!("{number}/{protocol}"),
                node_port => format!("{number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    if texts.is_empty() {
        "<none>".to_owned()
    } else {
        texts.join(",")
    }
}

#[cfg(test)]
mod tests;
