//! Endpoints: the older list of a Service's addresses, kept for clients that still read it.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::value::{Get, default_to, items_at};
use crate::kinds::{Column, Errors, Path, ResourceDescriptor, Rules, Strategy, duration, names};

/// `endpoints` of the core group.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "",
    version: "v1",
    kind: "Endpoints",
    list_kind: "EndpointsList",
    resource: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    categories: &[],
    namespaced: true,
    storage_prefix: "services/endpoints",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("Endpoints", "Addresses and ports of ready pods."),
        Column::AGE,
    ],
    strategy: &Endpoints,
};

/// Entries that a table cell shows before it only counts.
const SHOWN_MAX: usize = 3;

struct Endpoints;

static RULES: Rules = Rules {
    create_on_update: true,
    ..Rules::NAMESPACED
};

impl Strategy for Endpoints {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        for subset in items_at(object, "subsets") {
            for port in items_at(subset, "ports") {
                default_to(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::new("subsets");
        for (i, subset) in object.list("subsets").iter().enumerate() {
            let at = path.index(i);
            if subset.is_empty_at("addresses") && subset.is_empty_at("notReadyAddresses") {
                errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
            }
            for key in ["addresses", "notReadyAddresses"] {
                let list = at.child(key);
                for (i, address) in subset.list(key).iter().enumerate() {
                    validate_address(address, &list.index(i), errors);
                }
            }
            let ports = subset.list("ports");
            let list = at.child("ports");
            for (i, port) in ports.iter().enumerate() {
                validate_port(port, ports.len() > 1, &list.index(i), errors);
            }
        }
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        vec![
            meta.text("name").into(),
            addresses(object).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn addresses(object: &Value) -> String {
    if object.is_empty_at("subsets") {
        return "<none>".to_owned();
    }
    let mut shown = Vec::new();
    let mut count = 0;
    let mut add = |text: String| {
        count += 1;
        if shown.len() < SHOWN_MAX {
            shown.push(text);
        }
    };
    for subset in object.list("subsets") {
        let ports = subset.list("ports");
        for address in subset.list("addresses").iter().filter(|_| ports.is_empty()) {
            add(address.text("ip").to_owned());
        }
        for port in ports {
            for address in subset.list("addresses") {
                add(join_host_port(
                    address.text("ip"),
                    port.int("port").unwrap_or(0),
                ));
            }
        }
    }
    let text = shown.join(",");
    if count > SHOWN_MAX {
        format!("{text} + {} more...", count - SHOWN_MAX)
    } else {
        text
    }
}

fn join_host_port(host: &str, port: i64) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn validate_address(address: &Value, path: &Path<'_>, errors: &mut Errors) {
    let ip = address.text("ip");
    validate_endpoint_ip(ip, &path.child("ip"), errors);
    let hostname = address.text("hostname");
    if !hostname.is_empty() {
        errors.invalid_each(
            &path.child("hostname"),
            hostname,
            names::label(hostname, false),
        );
    }
    let node = address.text("nodeName");
    if !node.is_empty() {
        errors.invalid_each(&path.child("nodeName"), node, names::subdomain(node, false));
    }
}

/// Checks an address that traffic is sent to: an IP, and none that means a host to itself.
pub(crate) fn validate_endpoint_ip(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let Ok(ip) = text.parse::<IpAddr>() else {
        errors.invalid(path, text, names::NOT_AN_IP);
        return;
    };
    if ip.is_unspecified() {
        errors.invalid(
            path,
            text,
            format!("may not be unspecified ({})", unspecified(ip)),
        );
    }
    if ip.is_loopback() {
        errors.invalid(
            path,
            text,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if link_local {
        errors.invalid(
            path,
            text,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
    let multicast_link_local = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    if multicast_link_local {
        errors.invalid(
            path,
            text,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

fn unspecified(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "0.0.0.0" } else { "::" }
}

fn validate_port(port: &Value, name_required: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = port.text("name");
    if name_required && name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if !name.is_empty() {
        errors.invalid_each(&path.child("name"), name, names::label(name, false));
    }
    let number = port.int("port").unwrap_or(0);
    errors.invalid_each_of(&path.child("port"), number, names::port(number));
    errors.one_of(
        &path.child("protocol"),
        port.text("protocol"),
        names::PROTOCOLS,
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, with};

    fn endpoints() -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "x", "port": 80}]}]})
    }

    #[test]
    fn cells_show_three_and_count_the_rest() {
        assert_eq!(addresses(&endpoints()), "10.0.0.1:80,10.0.0.2:80");
        assert_eq!(addresses(&json!({})), "<none>");
        let two_ports = with(
            endpoints(),
            "/subsets/0/ports/1",
            json!({"name": "y", "port": 81}),
        );
        assert_eq!(
            addresses(&two_ports),
            "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more..."
        );
        assert_eq!(join_host_port("fd00::1", 80), "[fd00::1]:80");
    }

    #[test]
    fn addresses_must_be_reachable() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&Endpoints, endpoints()), none);
        let errors = create(
            &Endpoints,
            with(endpoints(), "/subsets/0/addresses/0/ip", json!("127.0.0.1")),
        );
        assert_eq!(
            errors,
            [
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range \
              (127.0.0.0/8, ::1/128)"
            ]
        );
        let errors = create(
            &Endpoints,
            with(endpoints(), "/subsets/0/addresses", Value::Null),
        );
        assert_eq!(
            errors,
            ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]
        );
    }
}
