//! What a person wants to see of a cluster at a glance: readiness checks of the API server, nodes, pods that are not well.

use std::fmt::Write;

use anyhow::Result;
use corten_client::client::ListOptions;
use corten_client::{Client, ClientConfig};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::up::is_ready;

/// A short report over the API.
pub async fn report(config: &ClientConfig) -> Result<String> {
    let client = Client::connect(config)?;
    let mut out = String::new();
    let nodes = client.list::<Node>(&ListOptions::default()).await?;
    out.push_str(
        "NODE                     STATUS     ADDRESS          VERSION
",
    );
    for node in &nodes.items {
        let status = node.status.clone().unwrap_or_default();
        let address = status
            .addresses
            .iter()
            .flatten()
            .find(|a| a.type_ == "InternalIP")
            .map(|a| a.address.clone());
        let version = status
            .node_info
            .as_ref()
            .map(|info| info.kubelet_version.clone())
            .unwrap_or_default();
        let ready = if is_ready(node) { "Ready" } else { "NotReady" };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        writeln!(
            out,
            "{name:<24} {ready:<10} {:<16} {version}",
            address.unwrap_or_default()
        )?;
    }
    let pods = client.list::<Pod>(&ListOptions::default()).await?;
    let phase = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|s| s.phase.clone())
            .unwrap_or_default()
    };
    let running = pods
        .items
        .iter()
        .filter(|pod| matches!(phase(pod).as_str(), "Running" | "Succeeded"))
        .count();
    writeln!(
        out,
        "\npods: {} of {} running or finished",
        running,
        pods.items.len()
    )?;
    for pod in pods
        .items
        .iter()
        .filter(|pod| !matches!(phase(pod).as_str(), "Running" | "Succeeded"))
    {
        let meta = &pod.metadata;
        let (namespace, name) = (
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        writeln!(out, "  {namespace}/{name}: {}{}", phase(pod), reason(pod))?;
    }
    Ok(out)
}

/// Why the first waiting container of a pod waits, or why the pod is not placed.
fn reason(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|c| c.state.as_ref()?.waiting.clone())
        .next();
    if let Some(waiting) = waiting {
        return format!(
            " ({}: {})",
            waiting.reason.unwrap_or_default(),
            waiting.message.unwrap_or_default()
        );
    }
    let unplaced = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False");
    unplaced
        .map(|c| format!(" ({})", c.message.clone().unwrap_or_default()))
        .unwrap_or_default()
}
