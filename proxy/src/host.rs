//! What the host must have for the rules to work: the cluster DNS address on `lo`, forwarding, and some route towards
//! Service addresses so that local packets reach the output hook. Idempotent; run at start and when things change.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use corten_base::command::{CommandError, run};
use ipnet::Ipv4Net;
use serde_json::Value;

/// Why the host could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// `ip` failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// `ip` printed what we cannot read.
    #[error("cannot read the output of ip: {0}")]
    Output(#[from] serde_json::Error),
}

/// Sets what forwarding needs. A read-only /proc (set by whoever runs the host) is reported, not fatal.
pub async fn sysctls() {
    // Built in on some hosts, and modprobe absent: the keys below tell.
    let _ = run("modprobe", &["br_netfilter"], "").await;
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        // Without it replies between pods of one bridge bypass address translation.
        ("net/bridge/bridge-nf-call-iptables", "1"),
    ] {
        let path = Path::new("/proc/sys").join(key);
        let current = std::fs::read_to_string(&path).unwrap_or_default();
        if current.trim() == value {
            continue;
        }
        if let Err(error) = std::fs::write(&path, value) {
            tracing::warn!(key, %error, "cannot set; Services may not work on this node");
        }
    }
}

/// Puts the cluster DNS address on `lo`.
pub async fn dns_address(ip: Ipv4Addr) -> Result<(), HostError> {
    run(
        "ip",
        &["address", "replace", &format!("{ip}/32"), "dev", "lo"],
        "",
    )
    .await?;
    Ok(())
}

/// Takes the cluster DNS address away again.
pub async fn remove_dns_address(ip: Ipv4Addr) -> Result<(), HostError> {
    run(
        "ip",
        &["address", "delete", &format!("{ip}/32"), "dev", "lo"],
        "",
    )
    .await?;
    Ok(())
}

/// A host without a default route cannot even try to reach a Service address: gives it a route through the interface that
/// carries the node's address. The packet never takes it, since its destination is rewritten first.
pub async fn service_route(services: Ipv4Net, node_ip: Option<IpAddr>) -> Result<(), HostError> {
    let defaults = run("ip", &["-4", "-json", "route", "show", "default"], "").await?;
    if json(&defaults)?
        .as_array()
        .is_some_and(|routes| !routes.is_empty())
    {
        return Ok(());
    }
    let Some(IpAddr::V4(node_ip)) = node_ip else {
        return Ok(());
    };
    let addresses = json(&run("ip", &["-4", "-json", "address", "show"], "").await?)?;
    let Some(device) = device_of(&addresses, node_ip) else {
        return Ok(());
    };
    let (net, source) = (services.to_string(), node_ip.to_string());
    run(
        "ip",
        &["route", "replace", &net, "dev", &device, "src", &source],
        "",
    )
    .await?;
    Ok(())
}

/// iproute2 prints nothing at all instead of an empty list.
fn json(text: &str) -> Result<Value, serde_json::Error> {
    if text.trim().is_empty() {
        Ok(Value::Array(Vec::new()))
    } else {
        serde_json::from_str(text)
    }
}

fn device_of(addresses: &Value, ip: Ipv4Addr) -> Option<String> {
    let wanted = ip.to_string();
    let carries = |link: &&Value| {
        link["addr_info"]
            .as_array()
            .is_some_and(|infos| infos.iter().any(|info| info["local"] == wanted.as_str()))
    };
    addresses.as_array()?.iter().find(carries)?["ifname"]
        .as_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_interface_of_an_address() {
        let links = serde_json::json!([
            {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]},
            {"ifname": "u0", "addr_info": [{"local": "192.168.77.1"}]},
        ]);
        assert_eq!(
            device_of(&links, Ipv4Addr::new(192, 168, 77, 1)).as_deref(),
            Some("u0")
        );
        assert_eq!(device_of(&links, Ipv4Addr::new(192, 168, 77, 2)), None);
    }
}
