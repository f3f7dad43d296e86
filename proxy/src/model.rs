//! What the rules are made from: each port of each Service with the endpoints that this node may use, in plain types.
//! Reading Kubernetes objects happens here and nowhere else in the data path. IPv4 only, for now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort};
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};

/// Label by which a slice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A transport protocol, as nft and Kubernetes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }

    /// nft's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the port, "" when it has none.
    pub port: String,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

/// Where a connection can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Pod address.
    pub ip: Ipv4Addr,
    /// Pod port.
    pub port: u16,
    /// Whether the pod runs on this node.
    pub local: bool,
    /// Ready; else it is going away and still serves.
    pub ready: bool,
}

/// A Service port with what this node knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Transport.
    pub protocol: Protocol,
    /// The cluster address.
    pub cluster_ip: Ipv4Addr,
    /// The port at the cluster address.
    pub port: u16,
    /// External and load-balancer addresses that carry the same port.
    pub external_ips: Vec<Ipv4Addr>,
    /// The port on every node, if any.
    pub node_port: Option<u16>,
    /// Client affinity, in seconds.
    pub affinity_seconds: Option<u32>,
    /// `externalTrafficPolicy: Local`: traffic from outside stays on this node and keeps its source address.
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// Who may use the load-balancer addresses; empty is everyone.
    pub source_ranges: Vec<Ipv4Net>,
    /// Endpoints that are ready, or still serve while they terminate. Sorted. Which of them count is said below.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// Endpoints for connections from within the cluster.
    pub fn internal(&self) -> Vec<Endpoint> {
        self.select(self.internal_local)
    }

    /// Endpoints for connections from outside.
    pub fn external(&self) -> Vec<Endpoint> {
        self.select(self.external_local)
    }

    /// Endpoints of the whole cluster, whatever the policies say.
    pub fn cluster(&self) -> Vec<Endpoint> {
        self.select(false)
    }

    /// Addresses that any rule of this port may lead to.
    pub fn targets(&self) -> BTreeSet<Ipv4Addr> {
        let mut found = self.cluster();
        if self.internal_local || self.external_local {
            found.extend(self.select(true));
        }
        found.into_iter().map(|endpoint| endpoint.ip).collect()
    }

    /// KEP-1669: among the endpoints that may be used at all, those that still serve while terminating are used while no
    /// other is ready. Among the node's own where the policy is Local, else a node whose last pod is going would drop
    /// traffic because another node has a ready one.
    fn select(&self, local_only: bool) -> Vec<Endpoint> {
        let usable = |e: &&Endpoint| e.local || !local_only;
        let any_ready = self.endpoints.iter().filter(usable).any(|e| e.ready);
        self.endpoints
            .iter()
            .filter(usable)
            .filter(|e| e.ready || !any_ready)
            .copied()
            .collect()
    }
}

/// Everything that the rules depend on.
pub type Model = BTreeMap<PortName, ServicePort>;

/// The ports of one Service. Nothing for headless, ExternalName and not yet allocated ones.
pub fn service_ports(
    service: &Service,
    slices: &[&EndpointSlice],
    node: &str,
) -> Vec<(PortName, ServicePort)> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let Some(cluster_ip) = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()) else {
        return Vec::new();
    };
    let external_ips = external_ips(service);
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec
            .session_affinity_config
            .as_ref()
            .and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        configured
            .and_then(|s| u32::try_from(s).ok())
            .unwrap_or(AFFINITY_DEFAULT_SECONDS)
    });
    let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
    let make = |port: &ApiPort| {
        let name = PortName {
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            service: service.metadata.name.clone().unwrap_or_default(),
            port: port.name.clone().unwrap_or_default(),
        };
        let made = ServicePort {
            protocol: Protocol::parse(port.protocol.as_deref()),
            cluster_ip,
            port: u16::try_from(port.port).ok()?,
            external_ips: external_ips.clone(),
            node_port: port
                .node_port
                .and_then(|p| u16::try_from(p).ok())
                .filter(|p| *p != 0),
            affinity_seconds: affinity,
            external_local: local(&spec.external_traffic_policy),
            internal_local: local(&spec.internal_traffic_policy),
            source_ranges: spec
                .load_balancer_source_ranges
                .iter()
                .flatten()
                .filter_map(|r| r.parse().ok())
                .collect(),
            endpoints: endpoints(slices, &name.port, node),
        };
        Some((name, made))
    };
    spec.ports.iter().flatten().filter_map(make).collect()
}

/// Upstream's default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_DEFAULT_SECONDS: u32 = 10_800;

fn external_ips(service: &Service) -> Vec<Ipv4Addr> {
    let listed = service
        .spec
        .iter()
        .flat_map(|s| s.external_ips.iter().flatten());
    let balanced = service
        .status
        .iter()
        .filter_map(|s| s.load_balancer.as_ref()?.ingress.as_ref())
        .flatten()
        .filter_map(|ingress| ingress.ip.as_ref());
    let mut ips: Vec<Ipv4Addr> = listed
        .chain(balanced)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

fn endpoints(slices: &[&EndpointSlice], port_name: &str, node: &str) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
        let named = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = named.and_then(|p| u16::try_from(p.port?).ok()) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let Some(ip) = endpoint.addresses.first().and_then(|a| a.parse().ok()) else {
                continue;
            };
            if let Some(ready) = readiness(endpoint) {
                found.push(Endpoint {
                    ip,
                    port,
                    local: endpoint.node_name.as_deref() == Some(node),
                    ready,
                });
            }
        }
    }
    // One address may be in two slices for a moment: the ready one comes first and stays.
    found.sort_unstable_by_key(|e| (e.ip, e.port, !e.local, !e.ready));
    found.dedup_by_key(|e| (e.ip, e.port));
    found
}

/// Whether an endpoint is ready; `None` when it serves nobody (KEP-1672).
fn readiness(endpoint: &ApiEndpoint) -> Option<bool> {
    let Some(conditions) = &endpoint.conditions else {
        return Some(true);
    };
    if conditions.ready.unwrap_or(true) {
        return Some(true);
    }
    let leaving = conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false);
    leaving.then_some(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        }))
        .expect("slice")
    }

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "web", "port": 80, "nodePort": 30080}]},
        }))
        .expect("service")
    }

    #[test]
    fn ready_endpoints_win_over_terminating_ones() {
        let terminating = json!({"addresses": ["10.244.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let ready =
            json!({"addresses": ["10.244.1.2"], "nodeName": "n1", "conditions": {"ready": true}});
        let broken = json!({"addresses": ["10.244.1.9"], "conditions": {"ready": false}});
        let both = slice(json!([terminating, ready, broken]));
        let ports = service_ports(&service(), &[&both], "n1");
        assert_eq!(ports.len(), 1);
        let ips: Vec<_> = ports[0]
            .1
            .cluster()
            .iter()
            .map(|e| (e.ip.to_string(), e.local))
            .collect();
        assert_eq!(ips, [("10.244.1.2".to_owned(), true)]);
        let only = slice(json!([terminating, broken]));
        let ports = service_ports(&service(), &[&only], "n1");
        assert_eq!(ports[0].1.cluster()[0].ip.to_string(), "10.244.0.3");
    }

    #[test]
    fn a_terminating_endpoint_here_serves_although_another_node_has_a_ready_one() {
        let here = json!({"addresses": ["10.244.0.3"], "nodeName": "n1",
            "conditions": {"ready": false, "serving": true, "terminating": true}});
        let there =
            json!({"addresses": ["10.244.1.2"], "nodeName": "n2", "conditions": {"ready": true}});
        let slice = slice(json!([here, there]));
        let mut service = service();
        service.spec.as_mut().expect("spec").external_traffic_policy = Some("Local".to_owned());
        let on = |node| service_ports(&service, &[&slice], node)[0].1.clone();
        let text = |found: Vec<Endpoint>| -> Vec<String> {
            found.iter().map(|e| e.ip.to_string()).collect()
        };
        assert_eq!(text(on("n1").external()), ["10.244.0.3"]);
        assert_eq!(text(on("n1").internal()), ["10.244.1.2"]);
        assert_eq!(text(on("n2").external()), ["10.244.1.2"]);
        assert_eq!(text(on("n3").external()), Vec::<String>::new());
        assert_eq!(on("n1").targets().len(), 2, "connections to both are live");
    }

    #[test]
    fn headless_services_have_no_rules() {
        let mut headless = service();
        headless.spec.as_mut().expect("spec").cluster_ip = Some("None".to_owned());
        assert!(service_ports(&headless, &[], "n1").is_empty());
    }
}
