//! `hostPort`: a table of its own with one map from (protocol, port) to pod address. The whole table is small and is
//! replaced in one transaction at each change.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

/// One port of the host that leads into a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostPort {
    pub(super) protocol: String,
    /// The address it is limited to, "" for all of the host's.
    pub(super) host_ip: String,
    pub(super) host_port: u16,
    pub(super) pod_ip: Ipv4Addr,
    pub(super) pod_port: u16,
}

/// The host ports that a pod asks for, sidecars' included.
pub(super) fn host_ports(pod: &Pod, ip: Ipv4Addr) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    let made = ports.filter_map(|port| {
        let host_port = u16::try_from(port.host_port?).ok().filter(|p| *p != 0)?;
        Some(HostPort {
            protocol: port
                .protocol
                .as_deref()
                .unwrap_or("TCP")
                .to_ascii_lowercase(),
            host_ip: port
                .host_ip
                .clone()
                .filter(|ip| ip != "0.0.0.0")
                .unwrap_or_default(),
            host_port,
            pod_ip: ip,
            pod_port: u16::try_from(port.container_port).ok()?,
        })
    });
    made.collect()
}

/// The script that makes the table hold just these ports.
pub(super) fn table<'a>(name: &str, ports: impl Iterator<Item = &'a HostPort>) -> String {
    let (mut any, mut limited) = (Vec::new(), Vec::new());
    for port in ports {
        let target = format!("{} . {}", port.pod_ip, port.pod_port);
        let key = format!("{} . {}", port.protocol, port.host_port);
        match port.host_ip.parse::<Ipv4Addr>() {
            _ if port.host_ip.is_empty() => any.push(format!("{key} : {target}")),
            Ok(ip) => limited.push(format!("{ip} . {key} : {target}")),
            // The table is IPv4's. One such element would make nft refuse it whole, every other pod's ports with it.
            Err(_) => {}
        }
    }
    let elements = |list: Vec<String>| {
        if list.is_empty() {
            String::new()
        } else {
            format!("elements = {{ {} }};", list.join(", "))
        }
    };
    format!(
        "add table ip {name}\ndelete table ip {name}\ntable ip {name} {{
  map any {{ type inet_proto . inet_service : ipv4_addr . inet_service; {any} }}
  map limited {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; {limited} }}
  chain host-ports {{
    dnat ip to ip daddr . meta l4proto . th dport map @limited
    dnat ip to meta l4proto . th dport map @any
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority -101; policy accept;
    fib daddr type local jump host-ports
  }}
  chain nat-output {{
    type nat hook output priority -101; policy accept;
    fib daddr type local ip daddr != 127.0.0.0/8 jump host-ports
    ip daddr 127.0.0.0/8 ip saddr != 127.0.0.0/8 dnat ip to ip daddr . meta l4proto . th dport map @limited
  }}
}}
",
        any = elements(any),
        limited = elements(limited),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ports_of_containers_and_sidecars() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "containers": [{"name": "a", "ports": [
                {"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "ports": [
                    {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.2"}]},
                {"name": "i", "ports": [{"containerPort": 1, "hostPort": 1}]}],
        }}))
        .expect("pod");
        let ports = host_ports(&pod, Ipv4Addr::new(10, 244, 0, 5));
        let script = table("hp", ports.iter());
        assert!(
            script.contains("elements = { tcp . 8080 : 10.244.0.5 . 80 };"),
            "{script}"
        );
        assert!(
            script.contains("elements = { 127.0.0.2 . udp . 53 : 10.244.0.5 . 53 };"),
            "{script}"
        );
    }

    #[test]
    fn a_host_ip_that_is_not_ipv4_does_not_spoil_the_table() {
        let of = |host_ip: &str, host_port| HostPort {
            protocol: "tcp".to_owned(),
            host_ip: host_ip.to_owned(),
            host_port,
            pod_ip: Ipv4Addr::new(10, 244, 0, 5),
            pod_port: 80,
        };
        let good = [of("", 1), of("192.0.2.1", 2)];
        let all = [
            of("::1", 3),
            good[0].clone(),
            of("::", 4),
            good[1].clone(),
            of("x; delete", 5),
        ];
        assert_eq!(table("hp", all.iter()), table("hp", good.iter()));
    }
}
