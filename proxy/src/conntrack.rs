//! UDP has no end of connection: when an endpoint goes, or a Service gets its first one, the kernel's entries for it must
//! go too, or clients keep talking to nobody. Pure choice here, `conntrack` does the deleting.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use corten_base::command::{CommandError, run};

use crate::model::{Model, Protocol, ServicePort};
use crate::ruleset::Scope;

/// Entries to delete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stale {
    /// Translated from this Service address to this endpoint.
    Endpoint {
        /// Service address.
        service: Ipv4Addr,
        /// Endpoint that is gone.
        endpoint: Ipv4Addr,
    },
    /// Made while the address had no endpoint, so not translated at all.
    Untranslated {
        /// Service address.
        service: Ipv4Addr,
        /// Service port.
        port: u16,
    },
    /// Through a node port, to an endpoint that is gone.
    NodePort {
        /// Node port.
        port: u16,
        /// Endpoint that is gone.
        endpoint: Ipv4Addr,
    },
}

/// What a change from `old` to `new` makes stale.
pub fn stale(old: &Model, new: &Model) -> BTreeSet<Stale> {
    let mut found = BTreeSet::new();
    for (name, before) in old
        .iter()
        .filter(|(_, port)| port.protocol == Protocol::Udp)
    {
        let still = new.get(name).map(ServicePort::targets).unwrap_or_default();
        let addresses =
            || std::iter::once(before.cluster_ip).chain(before.external_ips.iter().copied());
        let targets = before.targets();
        for endpoint in targets.difference(&still).copied() {
            found.extend(addresses().map(|service| Stale::Endpoint { service, endpoint }));
            found.extend(
                before
                    .node_port
                    .map(|port| Stale::NodePort { port, endpoint }),
            );
        }
        if targets.is_empty() && !still.is_empty() {
            found.extend(addresses().map(|service| Stale::Untranslated {
                service,
                port: before.port,
            }));
        }
    }
    found
}

/// What an earlier process left behind: entries in `conntrack -L` that lead from a Service address to where the Service no
/// longer is. Whatever happened while no proxy ran is not in any model.
pub fn leftover(listing: &str, model: &Model, scope: &Scope) -> BTreeSet<Stale> {
    let mut found = BTreeSet::new();
    for flow in listing.lines().filter_map(Flow::parse) {
        let udp = |p: &&ServicePort| p.protocol == Protocol::Udp;
        let at_address = |p: &&ServicePort| {
            p.port == flow.port
                && (p.cluster_ip == flow.service || p.external_ips.contains(&flow.service))
        };
        let translated = flow.endpoint != flow.service;
        if let Some(port) = model.values().filter(udp).find(at_address) {
            if scope.node_local.contains(&flow.service) {
                continue;
            }
            let targets = port.targets();
            if !translated && !targets.is_empty() {
                let (service, port) = (flow.service, flow.port);
                found.insert(Stale::Untranslated { service, port });
            } else if translated && !targets.contains(&flow.endpoint) {
                let (service, endpoint) = (flow.service, flow.endpoint);
                found.insert(Stale::Endpoint { service, endpoint });
            }
        } else if translated && scope.service_cidr.contains(&flow.service) {
            // The Service, or its port, is gone.
            let (service, endpoint) = (flow.service, flow.endpoint);
            found.insert(Stale::Endpoint { service, endpoint });
        } else if translated {
            let at_node = |p: &&ServicePort| p.node_port == Some(flow.port);
            let lost = model
                .values()
                .filter(udp)
                .find(at_node)
                .is_some_and(|port| !port.targets().contains(&flow.endpoint));
            if lost && scope.pod_cidr.contains(&flow.endpoint) {
                let (port, endpoint) = (flow.port, flow.endpoint);
                found.insert(Stale::NodePort { port, endpoint });
            }
        }
    }
    found
}

/// One UDP entry: where the client sends, and where answers come from.
#[derive(Debug, PartialEq, Eq)]
struct Flow {
    service: Ipv4Addr,
    port: u16,
    endpoint: Ipv4Addr,
}

impl Flow {
    /// `udp 17 29 src=.. dst=.. sport=.. dport=.. [UNREPLIED] src=.. dst=.. sport=.. dport=.. mark=0 use=1`
    fn parse(line: &str) -> Option<Self> {
        let values = |key: &'static str| {
            let prefix = move |word: &str| word.strip_prefix(key).map(str::to_owned);
            line.split_whitespace().filter_map(prefix)
        };
        Some(Self {
            service: values("dst=").next()?.parse().ok()?,
            port: values("dport=").next()?.parse().ok()?,
            endpoint: values("src=").nth(1)?.parse().ok()?,
        })
    }
}

/// All UDP entries of the kernel, as `conntrack` prints them.
pub async fn list() -> Result<String, CommandError> {
    run("conntrack", &["-L", "-p", "udp"], "").await
}

/// Deletes the entries. `conntrack` exits with 1 when there was none, which is no fault.
pub async fn delete(stale: &BTreeSet<Stale>) {
    for entry in stale {
        let args: Vec<String> = match entry {
            Stale::Endpoint { service, endpoint } => {
                vec![
                    "--orig-dst".into(),
                    service.to_string(),
                    "--dst-nat".into(),
                    endpoint.to_string(),
                ]
            }
            Stale::Untranslated { service, port } => {
                vec![
                    "--orig-dst".into(),
                    service.to_string(),
                    "--orig-port-dst".into(),
                    port.to_string(),
                ]
            }
            Stale::NodePort { port, endpoint } => {
                vec![
                    "--orig-port-dst".into(),
                    port.to_string(),
                    "--dst-nat".into(),
                    endpoint.to_string(),
                ]
            }
        };
        let mut all = vec!["-D", "-p", "udp"];
        all.extend(args.iter().map(String::as_str));
        match run("conntrack", &all, "").await {
            Ok(_) | Err(CommandError::Failed { .. }) => {}
            Err(error) => tracing::warn!(%error, "stale UDP connections may linger"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, PortName};

    fn model(protocol: Protocol, endpoints: &[u8]) -> Model {
        let name = PortName {
            namespace: "d".into(),
            service: "s".into(),
            port: String::new(),
        };
        let port = ServicePort {
            protocol,
            cluster_ip: Ipv4Addr::new(10, 96, 0, 3),
            port: 53,
            external_ips: Vec::new(),
            node_port: None,
            affinity_seconds: None,
            external_local: false,
            internal_local: false,
            source_ranges: Vec::new(),
            endpoints: endpoints
                .iter()
                .map(|e| Endpoint {
                    ip: Ipv4Addr::new(10, 244, 0, *e),
                    port: 53,
                    local: true,
                    ready: true,
                })
                .collect(),
        };
        Model::from([(name, port)])
    }

    #[test]
    fn a_lost_udp_endpoint_is_stale_a_tcp_one_is_not() {
        let service = Ipv4Addr::new(10, 96, 0, 3);
        let gone = Stale::Endpoint {
            service,
            endpoint: Ipv4Addr::new(10, 244, 0, 2),
        };
        assert_eq!(
            stale(&model(Protocol::Udp, &[1, 2]), &model(Protocol::Udp, &[1])),
            BTreeSet::from([gone])
        );
        assert!(stale(&model(Protocol::Tcp, &[1, 2]), &model(Protocol::Tcp, &[1])).is_empty());
    }

    #[test]
    fn the_first_udp_endpoint_frees_waiting_clients() {
        let service = Ipv4Addr::new(10, 96, 0, 3);
        let expected = BTreeSet::from([Stale::Untranslated { service, port: 53 }]);
        assert_eq!(
            stale(&model(Protocol::Udp, &[]), &model(Protocol::Udp, &[1])),
            expected
        );
    }

    #[test]
    fn stale_udp_flows_do_not_survive_a_restart_of_the_proxy() {
        let scope = Scope {
            pod_cidr: "10.244.0.0/16".parse().expect("cidr"),
            service_cidr: "10.96.0.0/16".parse().expect("cidr"),
            node_local: BTreeSet::from([Ipv4Addr::new(10, 96, 0, 10)]),
        };
        let line = |service: &str, port: u16, endpoint: &str| {
            format!(
                "udp      17 29 src=10.244.0.5 dst={service} sport=40000 dport={port} [UNREPLIED] \
                 src={endpoint} dst=10.244.0.5 sport=53 dport=40000 mark=0 use=1\n"
            )
        };
        let mut model = model(Protocol::Udp, &[1]);
        for port in model.values_mut() {
            port.node_port = Some(30053);
        }
        let service = Ipv4Addr::new(10, 96, 0, 3);
        let gone = Ipv4Addr::new(10, 244, 0, 2);
        for (what, listing, expected) in [
            ("live", line("10.96.0.3", 53, "10.244.0.1"), None),
            (
                "a lost endpoint",
                line("10.96.0.3", 53, "10.244.0.2"),
                Some(Stale::Endpoint {
                    service,
                    endpoint: gone,
                }),
            ),
            (
                "sent to nobody",
                line("10.96.0.3", 53, "10.96.0.3"),
                Some(Stale::Untranslated { service, port: 53 }),
            ),
            (
                "a lost Service",
                line("10.96.0.9", 53, "10.244.0.2"),
                Some(Stale::Endpoint {
                    service: Ipv4Addr::new(10, 96, 0, 9),
                    endpoint: gone,
                }),
            ),
            (
                "a node port",
                line("192.0.2.1", 30053, "10.244.0.2"),
                Some(Stale::NodePort {
                    port: 30053,
                    endpoint: gone,
                }),
            ),
            (
                "a live node port",
                line("192.0.2.1", 30053, "10.244.0.1"),
                None,
            ),
            ("cluster DNS", line("10.96.0.10", 53, "10.96.0.10"), None),
            (
                "someone else's",
                line("192.0.2.7", 53, "198.51.100.2"),
                None,
            ),
            ("not a flow", "conntrack v1.4.8\n".to_owned(), None),
        ] {
            let found: Vec<Stale> = leftover(&listing, &model, &scope).into_iter().collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{what}");
        }
    }
}
