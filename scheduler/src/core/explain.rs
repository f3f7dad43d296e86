//! Why a pod fits nowhere, in the words that people and tools know, and then node by node. Texts only.

use std::borrow::Cow;
use std::fmt::Write;

use super::cluster::Cluster;

/// Events and conditions are cut at this size, in bytes.
pub const MESSAGE_LIMIT: usize = 1_024;

/// Why a pod cannot go to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not enough of a resource; what is wanted and what is free, for the details.
    Insufficient {
        resource: Cow<'static, str>,
        wanted: i64,
        free: i64,
        total: i64,
    },
    TooManyPods,
    Ports,
    NodeAffinity,
    Unschedulable,
    Taint {
        key: String,
        value: String,
    },
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
    Spread,
    SpreadLabel,
}

/// Kinds of reasons as bits: what a waiting pod waits for.
pub mod waits {
    /// Room on a node.
    pub const ROOM: u8 = 1;
    /// A node's labels or taints.
    pub const NODE: u8 = 2;
    /// Pods that come, go or change their labels.
    pub const PODS: u8 = 4;
}

impl Reason {
    /// The summary's words.
    pub fn text(&self) -> String {
        match self {
            Self::Insufficient { resource, .. } => format!("Insufficient {resource}"),
            Self::TooManyPods => "Too many pods".to_owned(),
            Self::Ports => "node(s) didn't have free ports for the requested pod ports".to_owned(),
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector".to_owned(),
            Self::Unschedulable => "node(s) were unschedulable".to_owned(),
            Self::Taint { key, value } => {
                format!("node(s) had untolerated taint {{{key}: {value}}}")
            }
            Self::Affinity => "node(s) didn't match pod affinity rules".to_owned(),
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules".to_owned(),
            Self::ExistingAntiAffinity => {
                "node(s) didn't satisfy existing pods anti-affinity rules".to_owned()
            }
            Self::Spread => "node(s) didn't match pod topology spread constraints".to_owned(),
            Self::SpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
                    .to_owned()
            }
        }
    }

    /// Whether both have the same words in the summary.
    fn reads_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Insufficient { resource: a, .. }, Self::Insufficient { resource: b, .. }) => {
                a == b
            }
            _ => self == other,
        }
    }

    /// The words for one node.
    fn detail(&self) -> String {
        match self {
            Self::Insufficient {
                resource,
                wanted,
                free,
                total,
            } => format!(
                "{resource} wants {}, free {} of {}",
                amount(resource, *wanted),
                amount(resource, *free),
                amount(resource, *total)
            ),
            Self::TooManyPods => "too many pods".to_owned(),
            Self::Ports => "host port taken".to_owned(),
            Self::NodeAffinity => "node affinity/selector".to_owned(),
            Self::Unschedulable => "cordoned".to_owned(),
            Self::Taint { key, value } if value.is_empty() => format!("taint {key}"),
            Self::Taint { key, value } => format!("taint {key}={value}"),
            Self::Affinity => "pod affinity".to_owned(),
            Self::AntiAffinity => "pod anti-affinity".to_owned(),
            Self::ExistingAntiAffinity => "anti-affinity of pods there".to_owned(),
            Self::Spread => "spread constraint".to_owned(),
            Self::SpreadLabel => "lacks the spread constraint's label".to_owned(),
        }
    }

    /// Whether evicting pods could help.
    pub fn is_resolvable(&self) -> bool {
        match self {
            Self::Insufficient { wanted, total, .. } => wanted <= total,
            Self::TooManyPods
            | Self::Ports
            | Self::AntiAffinity
            | Self::ExistingAntiAffinity
            | Self::Spread => true,
            Self::NodeAffinity
            | Self::Unschedulable
            | Self::Taint { .. }
            | Self::Affinity
            | Self::SpreadLabel => false,
        }
    }

    /// What could cure it, as bits of [`waits`].
    pub fn waits_for(&self) -> u8 {
        match self {
            Self::Insufficient { .. } | Self::TooManyPods | Self::Ports => waits::ROOM,
            Self::NodeAffinity | Self::Unschedulable | Self::Taint { .. } => waits::NODE,
            Self::Affinity
            | Self::AntiAffinity
            | Self::ExistingAntiAffinity
            | Self::Spread
            | Self::SpreadLabel => waits::PODS | waits::NODE,
        }
    }
}

/// An amount as people write it: thousandths of cpu with `m`, bytes with binary units where they come out even.
fn amount(resource: &str, value: i64) -> String {
    match resource {
        "cpu" if value % 1_000 == 0 => (value / 1_000).to_string(),
        "cpu" => format!("{value}m"),
        "memory" | "ephemeral-storage" => {
            let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
            let even = units
                .iter()
                .find(|(bits, _)| value != 0 && value % (1 << bits) == 0);
            even.map_or_else(
                || value.to_string(),
                |(bits, unit)| format!("{}{unit}", value >> bits),
            )
        }
        _ => value.to_string(),
    }
}

/// Why one node is out: one reason, rarely more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReasons {
    pub slot: usize,
    pub first: Reason,
    pub more: Vec<Reason>,
}

impl NodeReasons {
    /// All reasons.
    pub fn all(&self) -> impl Iterator<Item = &Reason> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

/// Why a pod fits nowhere, node by node. Thousands of nodes have a handful of different reasons, so texts are made of
/// the different ones only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoFit {
    pub nodes: Vec<NodeReasons>,
}

impl NoFit {
    /// What could cure it, as bits of [`waits`]. Without nodes, a node.
    pub fn waits_for(&self) -> u8 {
        let all = self.nodes.iter().flat_map(NodeReasons::all);
        all.fold(waits::NODE, |bits, reason| bits | reason.waits_for())
    }

    /// The slots of nodes on which evicting pods could help.
    pub fn resolvable(&self) -> impl Iterator<Item = usize> {
        self.nodes
            .iter()
            .filter(|node| node.all().all(Reason::is_resolvable))
            .map(|node| node.slot)
    }

    /// The whole message: summary, what preemption found, then node by node as far as there is room.
    pub fn message(&self, cluster: &Cluster, preemption: Option<&str>) -> String {
        let total = self.nodes.len();
        if total == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut different: Vec<(&Reason, usize)> = Vec::new();
        for reason in self.nodes.iter().flat_map(NodeReasons::all) {
            match different
                .iter_mut()
                .find(|(other, _)| other.reads_like(reason))
            {
                Some((_, count)) => *count += 1,
                None => different.push((reason, 1)),
            }
        }
        let mut parts: Vec<String> = different
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.text()))
            .collect();
        parts.sort_unstable();
        let mut message = format!("0/{total} nodes are available: {}.", parts.join(", "));
        if let Some(preemption) = preemption {
            let _ = write!(message, " preemption: {preemption}");
        }
        self.add_details(cluster, &mut message);
        message
    }

    fn add_details(&self, cluster: &Cluster, message: &mut String) {
        cut(message, MESSAGE_LIMIT);
        for (done, node) in self.nodes.iter().enumerate() {
            let details: Vec<String> = node.all().map(Reason::detail).collect();
            let lead = if done == 0 { " Node by node:" } else { "" };
            let entry = format!(
                "{lead} {} ({});",
                cluster.node(node.slot).name,
                details.join(", ")
            );
            let rest = format!(" {} more.", self.nodes.len() - done);
            if message.len() + entry.len() + rest.len() > MESSAGE_LIMIT {
                if done > 0 {
                    message.push_str(&rest);
                }
                return;
            }
            message.push_str(&entry);
        }
        if message.ends_with(';') {
            message.pop();
            message.push('.');
        }
    }
}

fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let mut at = limit;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
    }
}
