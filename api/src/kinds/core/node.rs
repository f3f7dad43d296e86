//! Node: a host that runs pods.

use jiff::Timestamp;
use serde_json::Value;

use super::pod::validate_taint_effect;
use crate::kinds::descriptor::{ALL_VERBS, PROXY};
use crate::kinds::value::{Get, default_to, object_at, remove, same, set};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, Subresource, duration, names,
};

/// `nodes` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "Node",
    list_kind: "NodeList",
    resource: "nodes",
    singular: "node",
    short_names: &["no"],
    categories: &[],
    namespaced: false,
    storage_prefix: "minions",
    subresources: &[
        Subresource::own("proxy", "NodeProxyOptions", PROXY),
        Subresource::status("Node"),
    ],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether the node is ready and takes new pods."),
        Column::text("Roles", "Roles given by labels."),
        Column::AGE,
        Column::text("Version", "Version of the node agent."),
        Column::text("Internal-IP", "Address within the cluster.").wide(),
        Column::text("External-IP", "Address for the outside.").wide(),
        Column::text("OS-Image", "Operating system.").wide(),
        Column::text("Kernel-Version", "Kernel of the operating system.").wide(),
        Column::text("Container-Runtime", "What runs the containers.").wide(),
    ],
    strategy: &Node,
};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

/// What is said of every node, if only that nothing is known.
const NODE_INFO: [&str; 10] = [
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
];

struct Node;

static RULES: Rules = Rules {
    status: true,
    ..Rules::CLUSTER
};

impl Strategy for Node {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        let Some(status) = object_at(object, "status") else {
            return;
        };
        // Always there, as Go writes them: some clients refuse a node without.
        if let Some(endpoints) = object_at(status, "daemonEndpoints")
            && let Some(kubelet) = object_at(endpoints, "kubeletEndpoint")
        {
            default_to(kubelet, "Port", 0);
        }
        if let Some(info) = object_at(status, "nodeInfo") {
            for key in NODE_INFO {
                default_to(info, key, "");
            }
        }
        if status.is_empty_at("allocatable")
            && let Some(capacity) = status.opt("capacity").cloned()
        {
            set(status, "allocatable", capacity);
        }
    }

    fn prepare_for_create(&self, object: &mut Value) {
        // Agents register with their status in one write, so unlike for other kinds it is kept.
        if let Some(meta) = object_at(object, "metadata") {
            for key in [
                "generation",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "selfLink",
            ] {
                remove(meta, key);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let spec = object.at("spec");
        let path = Path::new("spec");
        let taints = Path::new("metadata.taints");
        validate_taints(spec.list("taints"), &taints, errors);
        let one = [spec.at("podCIDR").clone()];
        let cidrs = match spec.list("podCIDRs") {
            [] if !spec.is_empty_at("podCIDR") => &one,
            cidrs => cidrs,
        };
        let at = path.child("podCIDRs");
        for (i, cidr) in cidrs.iter().enumerate() {
            let cidr = cidr.as_str().unwrap_or("");
            if cidr.parse::<ipnet::IpNet>().is_err() {
                errors.invalid(
                    &at.index(i),
                    cidr,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                );
            }
        }
        if cidrs.len() > 2 {
            errors.invalid(
                &at,
                spec.at("podCIDRs"),
                "may specify no more than one CIDR for each IP family",
            );
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (new, old) = (new.at("spec"), old.at("spec"));
        let path = Path::new("spec");
        if !old.is_empty_at("podCIDRs") && !same(new.at("podCIDRs"), old.at("podCIDRs")) {
            errors.forbidden(
                &path.child("podCIDRs"),
                "node updates may not change podCIDR except from \"\" to valid",
            );
        }
        if !old.is_empty_at("providerID") && new.text("providerID") != old.text("providerID") {
            errors.forbidden(
                &path.child("providerID"),
                "node updates may not change providerID except from \"\" to valid",
            );
        }
        if new.text("externalID") != old.text("externalID") {
            errors.forbidden(
                &Path::new("[]"),
                "node updates may only change labels, taints, or capacity (or configSource, if the \
                 DynamicKubeletConfig feature gate is enabled)",
            );
        }
    }

    fn validate_status(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        let path = Path::new("status.addresses");
        let addresses = new.at("status").list("addresses");
        for (i, address) in addresses.iter().enumerate() {
            if addresses[..i].contains(address) {
                errors.duplicate(&path.index(i), address);
            }
        }
    }

    fn add_fields<'a>(&self, object: &'a Value, fields: &mut Fields<'a>) {
        fields.add(
            "spec.unschedulable",
            if object.at("spec").flag("unschedulable") {
                "true"
            } else {
                "false"
            },
        );
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let status = object.at("status");
        let info = status.at("nodeInfo");
        let known = |key: &str| match info.text(key) {
            "" => duration::UNKNOWN,
            text => text,
        };
        vec![
            meta.text("name").into(),
            readiness(object).into(),
            roles(meta).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
            info.text("kubeletVersion").into(),
            address(status, "InternalIP").into(),
            address(status, "ExternalIP").into(),
            known("osImage").into(),
            known("kernelVersion").into(),
            known("containerRuntimeVersion").into(),
        ]
    }
}

fn readiness(object: &Value) -> String {
    let conditions = object.at("status").list("conditions");
    let ready = conditions.iter().find(|c| c.text("type") == "Ready");
    let mut text = match ready.map(|c| c.text("status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object.at("spec").flag("unschedulable") {
        text.push_str(",SchedulingDisabled");
    }
    text
}

fn roles(meta: &Value) -> String {
    let mut roles: Vec<&str> = meta
        .entries("labels")
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) if !role.is_empty() => Some(role),
            _ => value
                .as_str()
                .filter(|role| key == ROLE_LABEL && !role.is_empty()),
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    }
}

fn address<'a>(status: &'a Value, kind: &str) -> &'a str {
    let found = status
        .list("addresses")
        .iter()
        .find(|a| a.text("type") == kind);
    found.map_or("<none>", |a| a.text("address"))
}

fn validate_taints(taints: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, taint) in taints.iter().enumerate() {
        let at = path.index(i);
        let key = taint.text("key");
        errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
        let value = taint.text("value");
        if !value.is_empty() {
            errors.invalid_each(&at.child("value"), value, names::label_value(value));
        }
        validate_taint_effect(taint.text("effect"), false, &at.child("effect"), errors);
        let same_pair =
            |t: &&Value| t.text("key") == key && t.text("effect") == taint.text("effect");
        if taints[..i].iter().any(|t| same_pair(&t)) {
            errors.duplicate(&at, taint);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn node() -> Value {
        json!({"metadata": {"name": "n1"}, "spec": {}})
    }

    #[test]
    fn row_shows_readiness_roles_and_addresses() {
        let object = json!({
            "metadata": {"name": "n1", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": {
                "node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "",
                "kubernetes.io/role": "extra"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.35.0", "osImage": "Debian", "kernelVersion": "6.1"},
            },
        });
        let now: Timestamp = "2024-01-01T00:01:00Z".parse().expect("a timestamp");
        let expected = [
            "n1",
            "NotReady,SchedulingDisabled",
            "control-plane,extra,worker",
            "60s",
            "v1.35.0",
            "10.0.0.1",
            "<none>",
            "Debian",
            "6.1",
            "<unknown>",
        ];
        assert_eq!(Node.row(&object, now), expected.map(Value::from));
    }

    #[test]
    fn registration_keeps_status_and_copies_capacity() {
        let mut object = with(node(), "/status", json!({"capacity": {"cpu": "2"}}));
        Node.default(&mut object);
        Node.prepare_for_create(&mut object);
        assert_eq!(object["status"]["allocatable"], json!({"cpu": "2"}));
    }

    #[test]
    fn taints_are_checked() {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        let errors = create(&Node, with(node(), "/spec/taints", json!([taint, taint])));
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].starts_with("metadata.taints[1]: Duplicate value"),
            "{errors:?}"
        );
        let errors = create(
            &Node,
            with(node(), "/spec/taints", json!([{"key": "a", "effect": "x"}])),
        );
        assert_eq!(
            errors,
            [
                "metadata.taints[0].effect: Unsupported value: \"x\": supported values: \"NoSchedule\", \
              \"PreferNoSchedule\", \"NoExecute\""
            ]
        );
    }

    #[test]
    fn pod_cidr_is_set_once() {
        let old = with(node(), "/spec/podCIDRs", json!(["10.244.0.0/24"]));
        let none: Vec<String> = vec![];
        assert_eq!(update(&Node, old.clone(), node()), none);
        let errors = update(
            &Node,
            with(node(), "/spec/podCIDRs", json!(["10.244.1.0/24"])),
            old,
        );
        assert_eq!(
            errors,
            [
                "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"
            ]
        );
    }
}
