//! What the Node object says: labels, capacity, conditions, images. Pure but for reading the host's state.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeRuntimeHandler, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::NodeKeeper;
use crate::host;
use crate::traits::ImageRecord;

/// Images shown at most.
const IMAGES_MAX: usize = 50;

/// Taints given as `key=value:Effect` or `key:Effect`.
pub fn taints(texts: &[String]) -> Result<Vec<Taint>, String> {
    texts
        .iter()
        .map(|text| {
            let (left, effect) = text
                .rsplit_once(':')
                .ok_or_else(|| format!("taint {text:?} has no effect"))?;
            let (key, value) = left
                .split_once('=')
                .map_or((left, None), |(k, v)| (k, Some(v)));
            Ok(Taint {
                key: key.to_owned(),
                value: value.map(str::to_owned),
                effect: effect.to_owned(),
                time_added: None,
            })
        })
        .collect()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The object to register.
pub(super) fn node(keeper: &NodeKeeper) -> Node {
    let mut labels = keeper.labels.clone();
    for (name, value) in [
        ("kubernetes.io/hostname", keeper.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ] {
        labels
            .entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
    }
    let old = NodeStatus::default();
    Node {
        metadata: ObjectMeta {
            name: Some(keeper.name.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!keeper.taints.is_empty()).then(|| keeper.taints.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status(keeper, &old, &[], Timestamp::now())),
    }
}

fn quantities(capacity: &host::Capacity) -> BTreeMap<String, Quantity> {
    let text = |name: &str, value: i64| match name {
        "cpu" if value % 1000 == 0 => (value / 1000).to_string(),
        "cpu" => format!("{value}m"),
        "memory" | "ephemeral-storage" => format!("{}Ki", value / 1024),
        _ => value.to_string(),
    };
    capacity
        .iter()
        .map(|(name, value)| (name.clone(), Quantity(text(name, *value))))
        .collect()
}

/// The status as it is now; `old` gives the transition times.
pub(super) fn status(
    keeper: &NodeKeeper,
    old: &NodeStatus,
    images: &[ImageRecord],
    now: Timestamp,
) -> NodeStatus {
    let address = |type_: &str, address: String| NodeAddress {
        address,
        type_: type_.to_owned(),
    };
    let mut addresses: Vec<NodeAddress> = keeper
        .addresses
        .iter()
        .map(|ip| address("InternalIP", ip.to_string()))
        .collect();
    addresses.push(address("Hostname", keeper.name.clone()));
    let handlers = keeper.handlers.iter().map(|name| NodeRuntimeHandler {
        name: Some(name.clone()),
        features: None,
    });
    NodeStatus {
        addresses: Some(addresses),
        capacity: Some(quantities(&keeper.capacity)),
        allocatable: Some(quantities(&keeper.allocatable)),
        conditions: Some(conditions(keeper, old, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(keeper.port),
            }),
        }),
        node_info: Some(node_info(keeper)),
        images: Some(images.iter().take(IMAGES_MAX).map(image).collect()),
        runtime_handlers: Some(handlers.collect()),
        ..NodeStatus::default()
    }
}

fn image(record: &ImageRecord) -> ContainerImage {
    let mut names = record.references.clone();
    if !names.contains(&record.image_id) {
        names.insert(0, record.image_id.clone());
    }
    ContainerImage {
        names: Some(names),
        size_bytes: i64::try_from(record.size_bytes).ok(),
    }
}

fn node_info(keeper: &NodeKeeper) -> NodeSystemInfo {
    let (kernel, os) = host::kernel_and_os();
    let (machine, system, boot) = host::machine_ids();
    let version = format!("v1.35.0+corten-{}", corten_base::version::VERSION);
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: boot,
        container_runtime_version: format!("corten://{}", keeper.runtime),
        kernel_version: kernel,
        kube_proxy_version: String::new(),
        kubelet_version: version,
        machine_id: machine,
        operating_system: "linux".to_owned(),
        os_image: os,
        swap: None,
        system_uuid: system,
    }
}

fn conditions(keeper: &NodeKeeper, old: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let known = old.conditions.as_deref().unwrap_or(&[]);
    let make = |type_: &str, status: &str, reason: &str, message: String| {
        let same = known
            .iter()
            .find(|c| c.type_ == type_ && c.status == status);
        NodeCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: same
                .and_then(|c| c.last_transition_time.clone())
                .or(Some(Time(now))),
        }
    };
    let short = *keeper.pressures.borrow();
    let pressure = |type_: &str, low: bool, good: &str, bad: &str| {
        let (status, reason) = if low { ("True", bad) } else { ("False", good) };
        let verb = if low { "has" } else { "has no" };
        make(
            type_,
            status,
            reason,
            format!("node agent {verb} {}", words(type_)),
        )
    };
    let ready = match keeper.network.ready() {
        Ok(()) => make(
            "Ready",
            "True",
            "KubeletReady",
            "node agent is posting ready status".to_owned(),
        ),
        Err(cause) => make("Ready", "False", "KubeletNotReady", cause),
    };
    vec![
        pressure(
            "MemoryPressure",
            short.memory,
            "KubeletHasSufficientMemory",
            "KubeletHasInsufficientMemory",
        ),
        pressure(
            "DiskPressure",
            short.disk,
            "KubeletHasNoDiskPressure",
            "KubeletHasDiskPressure",
        ),
        pressure(
            "PIDPressure",
            short.pids,
            "KubeletHasSufficientPID",
            "KubeletHasInsufficientPID",
        ),
        ready,
    ]
}

fn words(condition: &str) -> &'static str {
    match condition {
        "MemoryPressure" => "memory pressure",
        "DiskPressure" => "disk pressure",
        _ => "PID pressure",
    }
}

/// Whether two statuses differ in more than heartbeats.
pub(super) fn differs(left: &NodeStatus, right: &NodeStatus) -> bool {
    let strip = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
            condition.last_transition_time = None;
        }
        status
    };
    strip(left) != strip(right)
}

/// Whether the API shows one of our conditions with another status than it has: while we were cut off, the controllers
/// declared it unknown. Conditions of others do not count.
pub(super) fn is_contradicted(shown: &NodeStatus, ours: &NodeStatus) -> bool {
    let shown = shown.conditions.as_deref().unwrap_or(&[]);
    let mut ours = ours.conditions.iter().flatten();
    ours.any(|our| {
        shown
            .iter()
            .any(|their| their.type_ == our.type_ && their.status != our.status)
    })
}

/// The patch that writes a status.
pub(super) fn status_patch(status: &NodeStatus) -> Value {
    json!({"status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_declared_unknown_says_at_once_that_it_is_ready() {
        let status = |conditions: &[(&str, &str)]| NodeStatus {
            conditions: Some(
                conditions
                    .iter()
                    .map(|(type_, status)| NodeCondition {
                        type_: (*type_).to_owned(),
                        status: (*status).to_owned(),
                        ..NodeCondition::default()
                    })
                    .collect(),
            ),
            ..NodeStatus::default()
        };
        let ours = status(&[("Ready", "True"), ("DiskPressure", "False")]);
        assert!(is_contradicted(&status(&[("Ready", "Unknown")]), &ours));
        assert!(!is_contradicted(&ours, &ours));
        // Not ours to judge: another component's condition, and one that is not there yet.
        assert!(!is_contradicted(
            &status(&[("KernelDeadlock", "True")]),
            &ours
        ));
        assert!(!is_contradicted(&status(&[]), &ours));
    }

    #[test]
    fn taint_texts() {
        let parsed =
            taints(&["a=b:NoSchedule".to_owned(), "c:NoExecute".to_owned()]).expect("taints");
        let shown: Vec<_> = parsed
            .iter()
            .map(|t| (t.key.as_str(), t.value.as_deref(), t.effect.as_str()))
            .collect();
        assert_eq!(
            shown,
            [("a", Some("b"), "NoSchedule"), ("c", None, "NoExecute")]
        );
        assert!(taints(&["nonsense".to_owned()]).is_err());
    }

    #[test]
    fn quantity_texts() {
        let capacity: host::Capacity = [("cpu", 1500), ("memory", 2048), ("pods", 110)]
            .map(|(n, v)| (n.to_owned(), v))
            .into();
        let texts: Vec<_> = quantities(&capacity).into_values().map(|q| q.0).collect();
        assert_eq!(texts, ["1500m", "2Ki", "110"]);
    }
}
