//! UDP has no end of connection: when an endpoint goes, or a Service gets its first one, the kernel's entries for it must
//! go too, or clients keep talking to nobody. Pure choice here, `conntrack` does the deleting.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use corten_base::command::{CommandError, run};

use crate::model::{Model, Protocol};

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
        let after = new.get(name);
        let still: BTreeSet<Ipv4Addr> = after
            .iter()
            .flat_map(|p| p.endpoints.iter().map(|e| e.ip))
            .collect();
        let addresses =
            || std::iter::once(before.cluster_ip).chain(before.external_ips.iter().copied());
        for endpoint in before
            .endpoints
            .iter()
            .map(|e| e.ip)
            .filter(|ip| !still.contains(ip))
        {
            found.extend(addresses().map(|service| Stale::Endpoint { service, endpoint }));
            found.extend(
                before
                    .node_port
                    .map(|port| Stale::NodePort { port, endpoint }),
            );
        }
        if before.endpoints.is_empty() && !still.is_empty() {
            found.extend(addresses().map(|service| Stale::Untranslated {
                service,
                port: before.port,
            }));
        }
    }
    found
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
    use crate::model::{Endpoint, PortName, ServicePort};

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
}
