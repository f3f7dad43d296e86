//! The node authorizer: an agent reaches what its own pods refer to, and nothing else.
//!
//! A graph node -> pods -> secrets, config maps, claims, service accounts is kept up from the pods' watch; the rest of
//! an agent's rights is a fixed list of rules. What an agent writes into objects is checked by `restriction` at
//! admission. Invariant: an edge exists exactly as long as a pod bound to the node has it, so a stolen node
//! certificate opens only what was scheduled to that node.

use std::collections::{HashMap, HashSet};

use corten_api::selector::FieldSelector;
use serde_json::Value;

use crate::authz::policy::Rule;
use crate::authz::{Attributes, Decision, rbac};

/// What a pod may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Referent {
    /// A Secret, by volume, env, envFrom or imagePullSecrets.
    Secret,
    /// A ConfigMap, by volume, env or envFrom.
    ConfigMap,
    /// A PersistentVolumeClaim.
    Claim,
    /// The pod's ServiceAccount.
    ServiceAccount,
}

type PodKey = (String, String);
/// What kind, in which namespace, which name.
type Reference = (Referent, String, String);

/// Which node may see what, by way of which pods.
#[derive(Debug, Default)]
pub struct Graph {
    pods: HashMap<PodKey, (String, HashSet<Reference>)>,
    nodes: HashMap<String, HashMap<Reference, usize>>,
}

/// Mirror pods are written by the agent itself: their references would let it widen its own rights.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

impl Graph {
    /// Takes over the present state of a pod.
    pub fn set_pod(&mut self, pod: &Value) {
        let namespace = text(&pod["metadata"]["namespace"]);
        let name = text(&pod["metadata"]["name"]);
        self.remove_pod(namespace, name);
        let node = text(&pod["spec"]["nodeName"]);
        if node.is_empty() {
            return;
        }
        let mirror = pod["metadata"]["annotations"]
            .get(MIRROR_ANNOTATION)
            .is_some();
        let references = if mirror {
            HashSet::new()
        } else {
            references_of(&pod["spec"], namespace)
        };
        let edges = self.nodes.entry(node.to_owned()).or_default();
        for reference in &references {
            *edges.entry(reference.clone()).or_default() += 1;
        }
        self.pods.insert(
            (namespace.to_owned(), name.to_owned()),
            (node.to_owned(), references),
        );
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some((node, references)) = self.pods.remove(&(namespace.to_owned(), name.to_owned()))
        else {
            return;
        };
        let Some(edges) = self.nodes.get_mut(&node) else {
            return;
        };
        for reference in references {
            if let Some(count) = edges.get_mut(&reference) {
                *count -= 1;
                if *count == 0 {
                    edges.remove(&reference);
                }
            }
        }
        if edges.is_empty() {
            self.nodes.remove(&node);
        }
    }

    /// Whether a pod on the node refers to the object.
    pub fn reaches(&self, node: &str, referent: Referent, namespace: &str, name: &str) -> bool {
        let reference = (referent, namespace.to_owned(), name.to_owned());
        self.nodes
            .get(node)
            .is_some_and(|edges| edges.contains_key(&reference))
    }

    /// Whether the pod is bound to the node.
    pub fn runs(&self, node: &str, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.pods.get(&key).is_some_and(|(bound, _)| bound == node)
    }
}

/// What a pod with this spec refers to.
pub(super) fn references_of(spec: &Value, namespace: &str) -> HashSet<Reference> {
    let mut found = HashSet::new();
    let mut add = |referent, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found.insert((referent, namespace.to_owned(), name.to_owned()));
        }
    };
    add(Referent::ServiceAccount, &spec["serviceAccountName"]);
    for secret in items(&spec["imagePullSecrets"]) {
        add(Referent::Secret, &secret["name"]);
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(&spec[list]) {
            for env in items(&container["env"]) {
                add(Referent::Secret, &env["valueFrom"]["secretKeyRef"]["name"]);
                add(
                    Referent::ConfigMap,
                    &env["valueFrom"]["configMapKeyRef"]["name"],
                );
            }
            for source in items(&container["envFrom"]) {
                add(Referent::Secret, &source["secretRef"]["name"]);
                add(Referent::ConfigMap, &source["configMapRef"]["name"]);
            }
        }
    }
    for volume in items(&spec["volumes"]) {
        add(Referent::Secret, &volume["secret"]["secretName"]);
        add(Referent::ConfigMap, &volume["configMap"]["name"]);
        add(
            Referent::Claim,
            &volume["persistentVolumeClaim"]["claimName"],
        );
        for source in items(&volume["projected"]["sources"]) {
            add(Referent::Secret, &source["secret"]["name"]);
            add(Referent::ConfigMap, &source["configMap"]["name"]);
        }
        for (field, secret) in VOLUME_SECRETS {
            add(Referent::Secret, &volume[field][secret]["name"]);
        }
        add(Referent::Secret, &volume["azureFile"]["secretName"]);
    }
    found
}

/// Volume sources that name a secret in a nested reference.
const VOLUME_SECRETS: [(&str, &str); 7] = [
    ("cephfs", "secretRef"),
    ("csi", "nodePublishSecretRef"),
    ("flexVolume", "secretRef"),
    ("iscsi", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("storageos", "secretRef"),
];

/// Decides for members of `system:nodes`; has no opinion on anybody else.
pub fn authorize(graph: &Graph, attributes: &Attributes<'_>) -> Decision {
    let Some(node) = attributes.user.node_name() else {
        return Decision::NoOpinion(String::new());
    };
    if attributes.is_resource_request {
        let question = Question {
            graph,
            node,
            attributes,
        };
        let decision = match (attributes.group, attributes.resource) {
            ("", "secrets") => Some(question.read_referent(Referent::Secret)),
            ("", "configmaps") => Some(question.read_referent(Referent::ConfigMap)),
            ("", "persistentvolumeclaims") => Some(question.get_referent(Referent::Claim)),
            ("", "serviceaccounts") => Some(question.service_account()),
            ("", "nodes") => Some(question.node_object()),
            ("", "pods") => Some(question.pod()),
            ("coordination.k8s.io", "leases") => Some(question.lease()),
            ("storage.k8s.io", "csinodes") => Some(question.named_like_the_node()),
            _ => None,
        };
        if let Some(decision) = decision {
            return decision;
        }
    }
    if node_rules()
        .iter()
        .any(|rule| rbac::allows(rule, attributes))
    {
        return allow();
    }
    Decision::NoOpinion(String::new())
}

struct Question<'a> {
    graph: &'a Graph,
    node: &'a str,
    attributes: &'a Attributes<'a>,
}

impl Question<'_> {
    /// Secrets and config maps: single objects may be read and watched.
    fn read_referent(&self, referent: Referent) -> Decision {
        let asked = self.attributes;
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(referent)
    }

    fn get_referent(&self, referent: Referent) -> Decision {
        if self.attributes.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !self.attributes.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(referent)
    }

    /// Tokens for the accounts of own pods; admission checks the pod that a token is bound to.
    fn service_account(&self) -> Decision {
        match (self.attributes.verb, self.attributes.subresource) {
            ("create", "token") => self.related(Referent::ServiceAccount),
            ("get", "") => self.related(Referent::ServiceAccount),
            (_, "token") => no("can only create tokens for individual service accounts"),
            _ => no("can only get a service account or create a token for it"),
        }
    }

    fn related(&self, referent: Referent) -> Decision {
        let asked = self.attributes;
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        if self
            .graph
            .reaches(self.node, referent, asked.namespace, asked.name)
        {
            return allow();
        }
        no(&format!(
            "no relationship found between node '{}' and this object",
            self.node
        ))
    }

    fn node_object(&self) -> Decision {
        let asked = self.attributes;
        match (asked.verb, asked.subresource) {
            // Whether it is the own node is decided at admission, which sees the name of a new object too.
            ("create" | "update" | "patch", "") | ("update" | "patch", "status") => allow(),
            // All of them: the agent routes to the pods of every other node. Node objects hold nothing secret.
            ("get" | "list" | "watch", "") => allow(),
            _ => no(""),
        }
    }

    fn pod(&self) -> Decision {
        let asked = self.attributes;
        match (asked.verb, asked.subresource) {
            ("create" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => {
                allow()
            }
            ("get", "") if self.graph.runs(self.node, asked.namespace, asked.name) => allow(),
            ("get", "") => no(&format!(
                "no relationship found between node '{}' and this object",
                self.node
            )),
            ("list" | "watch", "") if self.selects_own_pods() => allow(),
            ("list" | "watch", "") => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            _ => no(""),
        }
    }

    fn selects_own_pods(&self) -> bool {
        let text = self.attributes.field_selector.unwrap_or_default();
        // Read as the registry reads it: a comma may be escaped and then belongs to a value.
        FieldSelector::parse(text)
            .is_ok_and(|selector| selector.required_value("spec.nodeName") == Some(self.node))
    }

    fn lease(&self) -> Decision {
        const NAMESPACE: &str = "kube-node-lease";
        let asked = self.attributes;
        if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a node lease");
        }
        if asked.namespace != NAMESPACE {
            return no(&format!(
                "can only access leases in the {NAMESPACE:?} system namespace"
            ));
        }
        // The name of a lease to be created is not in the path: admission checks it.
        if asked.verb != "create" && asked.name != self.node {
            return no("can only access node lease with the same name as the requesting node");
        }
        allow()
    }

    fn named_like_the_node(&self) -> Decision {
        let asked = self.attributes;
        if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
            return no("can only get, create, update, patch, or delete a CSINode");
        }
        if asked.verb != "create" && asked.name != self.node {
            return no("can only access CSINode with the same name as the requesting node");
        }
        allow()
    }
}

fn allow() -> Decision {
    Decision::Allow("node authorizer".to_owned())
}

fn no(reason: &str) -> Decision {
    Decision::NoOpinion(reason.to_owned())
}

/// Verbs, group, resources that every agent has.
const RULES: &[(&[&str], &str, &[&str])] = &[
    (&["create"], "authentication.k8s.io", &["tokenreviews"]),
    (
        &["create"],
        "authorization.k8s.io",
        &["subjectaccessreviews", "localsubjectaccessreviews"],
    ),
    (&["get", "list", "watch"], "", &["services", "endpoints"]),
    (&["create", "patch", "update"], "", &["events"]),
    (&["create", "patch", "update"], "events.k8s.io", &["events"]),
    (
        &["create", "get", "list", "watch"],
        "certificates.k8s.io",
        &["certificatesigningrequests"],
    ),
    (
        &["get", "list", "watch"],
        "node.k8s.io",
        &["runtimeclasses"],
    ),
    (&["get", "list", "watch"], "storage.k8s.io", &["csidrivers"]),
    (&["get"], "storage.k8s.io", &["volumeattachments"]),
    (&["get"], "", &["persistentvolumes"]),
    (
        &["get", "list", "watch"],
        "discovery.k8s.io",
        &["endpointslices"],
    ),
    (
        &["get", "list", "watch"],
        "networking.k8s.io",
        &["servicecidrs"],
    ),
];

fn node_rules() -> &'static [Rule] {
    static PARSED: std::sync::LazyLock<Vec<Rule>> = std::sync::LazyLock::new(|| {
        let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        RULES
            .iter()
            .map(|(verbs, group, resources)| Rule {
                verbs: owned(verbs),
                api_groups: owned(&[group]),
                resources: owned(resources),
                ..Rule::default()
            })
            .collect()
    });
    &PARSED
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
