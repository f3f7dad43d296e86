//! NodeRestriction: what a node agent may write into the objects that the node authorizer lets it write.
//!
//! Called by admission with the old and the new object. It does not decide about anybody who is not a node agent.
//! Invariant: an agent changes only its own Node, Lease and pods, and cannot give its node labels that attract
//! workloads meant for others.

use serde_json::Value;

use crate::authn::User;
use crate::authz::node::{Referent, references_of};

/// A write as admission sees it.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Who writes.
    pub user: &'a User,
    /// create, update or delete (patches are updates).
    pub operation: Operation,
    /// API group of the resource.
    pub group: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// Empty: the resource itself.
    pub subresource: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// The stored object, for updates and deletions; for `pods/eviction` and `pods/binding` the pod.
    pub old: Option<&'a Value>,
    /// The object to be stored.
    pub new: Option<&'a Value>,
}

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a posted subresource.
    Create,
    /// A changed object.
    Update,
    /// A deletion.
    Delete,
}

/// `Err` holds the text behind `... is forbidden: `.
pub fn check(write: &Write<'_>) -> Result<(), String> {
    let Some(node) = write.user.node_name() else {
        return Ok(());
    };
    match (write.group, write.resource, write.subresource) {
        ("", "pods", sub) => pod(write, node, sub),
        ("", "nodes", _) => node_object(write, node),
        ("", "serviceaccounts", "token") => token(write),
        ("coordination.k8s.io", "leases", _) => lease(write, node),
        _ => Ok(()),
    }
}

fn pod(write: &Write<'_>, node: &str, subresource: &str) -> Result<(), String> {
    match (subresource, write.operation) {
        ("", Operation::Create) => new_pod(write.new.unwrap_or(&Value::Null), node),
        ("", Operation::Delete)
        | ("status", Operation::Update)
        | ("eviction", Operation::Create) => {
            match write.old {
                Some(old) if old["spec"]["nodeName"] == node => {}
                Some(_) => {
                    let what = match subresource {
                        "" => "delete pods",
                        "status" => "update pod status for pods",
                        _ => "evict pods",
                    };
                    return Err(format!(
                        "node {node:?} can only {what} with spec.nodeName set to itself"
                    ));
                }
                None => return Ok(()),
            }
            let changed_labels = subresource == "status"
                && write.new.is_some_and(|new| {
                    write
                        .old
                        .is_some_and(|old| new["metadata"]["labels"] != old["metadata"]["labels"])
                });
            if changed_labels {
                return Err(format!(
                    "node {node:?} cannot update labels through pod status"
                ));
            }
            Ok(())
        }
        (sub, operation) => Err(format!(
            "unexpected operation {operation:?} on pod subresource {sub:?}"
        )),
    }
}

/// Agents create only mirror pods, bound to themselves, that refer to nothing.
fn new_pod(pod: &Value, node: &str) -> Result<(), String> {
    if pod["metadata"]["annotations"]
        .get("kubernetes.io/config.mirror")
        .is_none()
    {
        return Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return Err(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    // Whatever the pod names would be within the agent's reach as soon as it runs.
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let named = references_of(&pod["spec"], namespace);
    let first = named.iter().map(|(referent, ..)| *referent).min();
    if let Some(referent) = first {
        let what = match referent {
            Referent::ServiceAccount => "a service account",
            Referent::Secret => "secrets",
            Referent::ConfigMap => "configmaps",
            Referent::Claim => "persistentvolumeclaims",
        };
        return Err(format!(
            "node {node:?} can not create pods that reference {what}"
        ));
    }
    let refers = [
        "secret",
        "configMap",
        "persistentVolumeClaim",
        "projected",
        "csi",
        "ephemeral",
    ];
    let volumes = pod["spec"]["volumes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if volumes
        .iter()
        .any(|volume| refers.iter().any(|field| volume.get(field).is_some()))
    {
        return Err(format!(
            "node {node:?} can not create pods that reference API objects"
        ));
    }
    Ok(())
}

fn node_object(write: &Write<'_>, node: &str) -> Result<(), String> {
    let name = match write.name {
        "" => write
            .new
            .and_then(|new| new["metadata"]["name"].as_str())
            .unwrap_or_default(),
        name => name,
    };
    if name != node {
        return Err(format!(
            "node {node:?} is not allowed to modify node {name:?}"
        ));
    }
    let Some(new) = write.new else { return Ok(()) };
    let nothing = Value::Null;
    let old = write.old.unwrap_or(&nothing);
    if write.operation == Operation::Update && write.subresource.is_empty() {
        if old["spec"]["taints"] != new["spec"]["taints"] {
            return Err(format!("node {node:?} is not allowed to modify taints"));
        }
        if old["spec"]["configSource"] != new["spec"]["configSource"] {
            return Err(format!(
                "node {node:?} is not allowed to update spec.configSource"
            ));
        }
    }
    if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] {
        return Err(format!(
            "node {node:?} is not allowed to modify ownerReferences"
        ));
    }
    let mut forbidden = changed_labels(old, new);
    forbidden.retain(|label| !may_set(label));
    if forbidden.is_empty() {
        return Ok(());
    }
    forbidden.sort();
    Err(format!(
        "node {node:?} is not allowed to modify labels: {}",
        forbidden.join(", ")
    ))
}

fn changed_labels(old: &Value, new: &Value) -> Vec<String> {
    let labels = |object: &Value| {
        object["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let (old, new) = (labels(old), labels(new));
    let keys = old
        .keys()
        .chain(new.keys().filter(|key| !old.contains_key(*key)));
    keys.filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}

/// Labels of Kubernetes' own domains are reserved, but for the ones that an agent is meant to set.
fn may_set(label: &str) -> bool {
    const OWN: [&str; 12] = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/windows-build",
    ];
    let Some((domain, _)) = label.split_once('/') else {
        return true;
    };
    let within = |of: &str| {
        domain == of
            || domain
                .strip_suffix(of)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    // Some prefixes are open to agents, `node-restriction.` is closed by definition.
    OWN.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// A token for a pod's account is bound to a pod; that the pod runs here is checked where the token is made.
fn token(write: &Write<'_>) -> Result<(), String> {
    let bound = write
        .new
        .map_or(&Value::Null, |new| &new["spec"]["boundObjectRef"]);
    if bound["kind"] != "Pod" {
        return Err("node requested token not bound to a pod".to_owned());
    }
    if bound["uid"].as_str().unwrap_or_default().is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    if bound["name"].as_str().unwrap_or_default().is_empty() {
        return Err("node requested token with a pod binding without a name".to_owned());
    }
    Ok(())
}

fn lease(write: &Write<'_>, node: &str) -> Result<(), String> {
    let name = match write.name {
        "" => write
            .new
            .and_then(|new| new["metadata"]["name"].as_str())
            .unwrap_or_default(),
        name => name,
    };
    if name == node {
        return Ok(());
    }
    Err("can only access node lease with the same name as the requesting node".to_owned())
}
