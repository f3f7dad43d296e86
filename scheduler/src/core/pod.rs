//! All that scheduling needs of a pod, read once. Parts that many pods share (`StaticSpec`, terms) compare and hash by
//! value, so that what was computed for one serves the others.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Pod, PodAffinityTerm, PodSpec, Toleration as ApiToleration, TopologySpreadConstraint,
};

use super::resources::{Resources, pod_requests, pod_score_requests};
use super::selector::{Labels, NodeTerm, Operator, Requirement, Selector};

/// What a pod asks of a node's labels and taints, independent of what runs there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StaticSpec {
    pub node_selector: Vec<Requirement>,
    /// Any of them must match; `None` asks nothing.
    pub node_affinity: Option<Vec<NodeTerm>>,
    /// Weighted wishes.
    pub preferred: Vec<(i32, NodeTerm)>,
    pub tolerations: Vec<Toleration>,
}

/// A toleration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    pub key: String,
    pub exists: bool,
    pub value: String,
    /// Empty: all effects.
    pub effect: String,
}

impl Toleration {
    fn compile(toleration: &ApiToleration) -> Self {
        Self {
            key: toleration.key.clone().unwrap_or_default(),
            exists: toleration.operator.as_deref() == Some("Exists"),
            value: toleration.value.clone().unwrap_or_default(),
            effect: toleration.effect.clone().unwrap_or_default(),
        }
    }

    /// Whether it tolerates a taint.
    pub fn tolerates(&self, key: &str, value: &str, effect: &str) -> bool {
        (self.effect.is_empty() || self.effect == effect)
            && (self.key.is_empty() || self.key == key)
            && (self.exists || (!self.key.is_empty() && self.value == value))
    }
}

/// Pods that a term speaks of: these namespaces, these labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodSelector {
    pub namespaces: Vec<String>,
    pub namespace_selector: Option<Selector>,
    pub selector: Selector,
}

/// A term of inter-pod affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub pods: PodSelector,
    pub topology_key: String,
}

impl Term {
    fn compile(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let mut selector = Selector::compile(term.label_selector.as_ref());
        pin_keys(
            &mut selector,
            term.match_label_keys.as_ref(),
            labels,
            Operator::In,
        );
        pin_keys(
            &mut selector,
            term.mismatch_label_keys.as_ref(),
            labels,
            Operator::NotIn,
        );
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        namespaces.sort_unstable();
        let namespace_selector = term
            .namespace_selector
            .as_ref()
            .map(|selector| Selector::compile(Some(selector)));
        let pods = PodSelector {
            namespaces,
            namespace_selector,
            selector,
        };
        Self {
            pods,
            topology_key: term.topology_key.clone(),
        }
    }
}

/// Adds what `matchLabelKeys` and the like ask for: the pod's own values.
fn pin_keys(
    selector: &mut Selector,
    keys: Option<&Vec<String>>,
    labels: &Labels,
    operator: Operator,
) {
    for key in keys.into_iter().flatten() {
        if let Some(value) = labels.get(key) {
            selector.require(Requirement {
                key: key.clone(),
                operator,
                values: vec![value.clone()],
            });
        }
    }
}

/// How pods are counted for a spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Siblings {
    /// Pods of the namespace with these labels.
    Selected {
        namespace: String,
        selector: Selector,
    },
    /// Pods of the same controller.
    Owned { uid: String },
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    pub topology_key: String,
    pub siblings: Siblings,
    pub max_skew: i64,
    pub min_domains: i64,
    /// Count only nodes that the pod's node affinity and selector allow.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

impl Spread {
    fn compile(constraint: &TopologySpreadConstraint, namespace: &str, labels: &Labels) -> Self {
        let mut selector = Selector::compile(constraint.label_selector.as_ref());
        pin_keys(
            &mut selector,
            constraint.match_label_keys.as_ref(),
            labels,
            Operator::In,
        );
        Self {
            topology_key: constraint.topology_key.clone(),
            siblings: Siblings::Selected {
                namespace: namespace.to_owned(),
                selector,
            },
            max_skew: i64::from(constraint.max_skew),
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

/// A port of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub protocol: String,
    pub port: i32,
    /// `0.0.0.0` stands for all addresses.
    pub ip: String,
}

impl HostPort {
    /// Whether both cannot be on one host.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || any(&self.ip) || any(&other.ip))
    }
}

/// A pod as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// The uid of the managing controller, unless it spreads its pods itself (DaemonSet, node).
    pub owner: Option<String>,
    pub priority: i32,
    /// Whether it may evict others.
    pub may_preempt: bool,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub terminating: bool,
    pub requests: Resources,
    pub score_requests: (i64, i64),
    pub ports: Vec<HostPort>,
    pub images: Vec<String>,
    pub statics: Arc<StaticSpec>,
    /// Required: pods to be near, and to be far from.
    pub affinity: Vec<Term>,
    pub anti_affinity: Vec<Term>,
    /// Weighted wishes, negative to be far.
    pub preferred: Vec<(i32, Term)>,
    pub spread_hard: Vec<Spread>,
    pub spread_soft: Vec<Spread>,
    /// Whom the default spreading counts, where a Service selects the pod; else the controller's pods.
    pub default_siblings: Option<Siblings>,
    pub gated: bool,
    /// The node it waits for while its victims go.
    pub nominated: Option<String>,
}

impl PodInfo {
    /// Reads a pod.
    pub fn read(pod: &Pod) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let meta = &pod.metadata;
        let namespace = meta.namespace.clone().unwrap_or_default();
        let labels = meta.labels.clone().unwrap_or_default();
        let status = pod.status.as_ref();
        let owner = corten_client::object::controller_of(meta)
            .filter(|owner| owner.kind != "DaemonSet" && owner.kind != "Node")
            .map(|owner| owner.uid.clone());
        let (affinity, anti_affinity, preferred) = terms(spec, &namespace, &labels);
        let spread = |action: &str| {
            let constraints = spec.topology_spread_constraints.iter().flatten();
            constraints
                .filter(|constraint| constraint.when_unsatisfiable == action)
                .map(|constraint| Spread::compile(constraint, &namespace, &labels))
                .collect::<Vec<_>>()
        };
        let (spread_hard, spread_soft) = (spread("DoNotSchedule"), spread("ScheduleAnyway"));
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            owner,
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            created: meta
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            started: status
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0),
            terminating: meta.deletion_timestamp.is_some(),
            requests: pod_requests(pod),
            score_requests: pod_score_requests(pod),
            ports: host_ports(spec),
            images: spec
                .containers
                .iter()
                .filter_map(|container| container.image.clone())
                .collect(),
            statics: Arc::new(static_spec(spec)),
            affinity,
            anti_affinity,
            preferred,
            spread_hard,
            spread_soft,
            default_siblings: None,
            gated: spec
                .scheduling_gates
                .as_ref()
                .is_some_and(|gates| !gates.is_empty()),
            nominated: status
                .and_then(|status| status.nominated_node_name.clone())
                .filter(|node| !node.is_empty()),
            namespace,
            labels,
        }
    }

    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether placing it needs more than a look at each node alone.
    pub fn has_terms(&self) -> bool {
        !self.affinity.is_empty() || !self.anti_affinity.is_empty() || !self.spread_hard.is_empty()
    }
}

fn terms(
    spec: &PodSpec,
    namespace: &str,
    labels: &Labels,
) -> (Vec<Term>, Vec<Term>, Vec<(i32, Term)>) {
    let Some(affinity) = &spec.affinity else {
        return (Vec::new(), Vec::new(), Vec::new());
    };
    let compile = |term: &PodAffinityTerm| Term::compile(term, namespace, labels);
    let near = affinity.pod_affinity.as_ref();
    let far = affinity.pod_anti_affinity.as_ref();
    let near_required = near.and_then(|near| {
        near.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let far_required = far.and_then(|far| {
        far.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let near_wished = near.and_then(|near| {
        near.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let far_wished = far.and_then(|far| {
        far.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let near_wished = near_wished
        .into_iter()
        .flatten()
        .map(|wish| (wish.weight, compile(&wish.pod_affinity_term)));
    let far_wished = far_wished
        .into_iter()
        .flatten()
        .map(|wish| (-wish.weight, compile(&wish.pod_affinity_term)));
    (
        near_required.into_iter().flatten().map(compile).collect(),
        far_required.into_iter().flatten().map(compile).collect(),
        near_wished.chain(far_wished).collect(),
    )
}

fn static_spec(spec: &PodSpec) -> StaticSpec {
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let preferred = affinity.and_then(|affinity| {
        affinity
            .preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    StaticSpec {
        node_selector: spec
            .node_selector
            .iter()
            .flatten()
            .map(|(key, value)| Requirement::equals(key, value))
            .collect(),
        node_affinity: required.map(|required| {
            required
                .node_selector_terms
                .iter()
                .map(NodeTerm::compile)
                .collect()
        }),
        preferred: preferred
            .into_iter()
            .flatten()
            .map(|wish| (wish.weight, NodeTerm::compile(&wish.preference)))
            .collect(),
        tolerations: spec
            .tolerations
            .iter()
            .flatten()
            .map(Toleration::compile)
            .collect(),
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    // Sidecars keep their ports as long as the pod runs; other init containers are gone by then.
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = Vec::new();
    for port in spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
    {
        let Some(number) = port.host_port.filter(|number| *number > 0) else {
            continue;
        };
        ports.push(HostPort {
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: number,
            ip: port
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned()),
        });
    }
    ports
}
