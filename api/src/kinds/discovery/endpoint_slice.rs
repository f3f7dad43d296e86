//! EndpointSlice: part of the addresses behind a Service.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::core::endpoints::validate_endpoint_ip;
use crate::kinds::descriptor::ALL_VERBS;
use crate::kinds::object_meta::validate_labels;
use crate::kinds::strategy::{Generation, immutable};
use crate::kinds::value::{Get, default_to, items_at, object_at};
use crate::kinds::{
    Column, Errors, Fields, Path, ResourceDescriptor, Rules, Strategy, duration, names,
};

/// `endpointslices` of discovery.k8s.io/v1.
pub static DESCRIPTOR: ResourceDescriptor = ResourceDescriptor {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    list_kind: "EndpointSliceList",
    resource: "endpointslices",
    singular: "endpointslice",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage_prefix: "endpointslices",
    subresources: &[],
    verbs: ALL_VERBS,
    columns: &[
        Column::NAME,
        Column::text("AddressType", "IPv4, IPv6 or FQDN."),
        Column::text("Ports", "Ports of every endpoint."),
        Column::text("Endpoints", "Addresses."),
        Column::AGE,
    ],
    strategy: &EndpointSlice,
};

/// Entries that a table cell shows before it only counts.
const SHOWN_MAX: usize = 3;
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;
const HINTS_MAX: usize = 8;

struct EndpointSlice;

static RULES: Rules = Rules {
    generation: Generation::Content,
    ..Rules::NAMESPACED
};

impl Strategy for EndpointSlice {
    fn rules(&self) -> &Rules {
        &RULES
    }

    fn default(&self, object: &mut Value) {
        for port in items_at(object, "ports") {
            default_to_empty(port, "name");
            default_to(port, "protocol", "TCP");
        }
        for endpoint in items_at(object, "endpoints") {
            object_at(endpoint, "conditions");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let kind = object.text("addressType");
        errors.one_of(&Path::new("addressType"), kind, &["FQDN", "IPv4", "IPv6"]);
        validate_ports(object.list("ports"), errors);
        let endpoints = object.list("endpoints");
        let path = Path::new("endpoints");
        if endpoints.len() > ENDPOINTS_MAX {
            errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
        } else {
            for (i, endpoint) in endpoints.iter().enumerate() {
                validate_endpoint(endpoint, kind, &path.index(i), errors);
            }
        }
    }

    fn validate_change(&self, new: &Value, old: &Value, errors: &mut Errors) {
        immutable(
            new.at("addressType"),
            old.at("addressType"),
            &Path::new("addressType"),
            errors,
        );
    }

    fn add_fields<'a>(&self, _object: &'a Value, _fields: &mut Fields<'a>) {}

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let meta = object.at("metadata");
        let port = |port: &Value| match port.int("port") {
            Some(number) => number.to_string(),
            None if port.has("name") => port.text("name").to_owned(),
            None => "*".to_owned(),
        };
        let addresses = object
            .list("endpoints")
            .iter()
            .flat_map(|e| e.list("addresses"));
        vec![
            meta.text("name").into(),
            object.text("addressType").into(),
            shortened(object.list("ports").iter().map(port)).into(),
            shortened(addresses.filter_map(Value::as_str).map(str::to_owned)).into(),
            duration::age(meta.at("creationTimestamp"), now).into(),
        ]
    }
}

fn default_to_empty(port: &mut Value, key: &str) {
    if !port.has(key) {
        crate::kinds::value::set(port, key, "");
    }
}

fn shortened(texts: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = texts.collect();
    match all.len() {
        0 => "<unset>".to_owned(),
        1..=SHOWN_MAX => all.join(","),
        more => format!(
            "{} + {} more...",
            all[..SHOWN_MAX].join(","),
            more - SHOWN_MAX
        ),
    }
}

fn validate_endpoint(endpoint: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let addresses = endpoint.list("addresses");
    let at = path.child("addresses");
    if addresses.is_empty() {
        errors.required(&at, "must contain at least 1 address");
    } else if addresses.len() > ADDRESSES_MAX {
        errors.too_many(&at, addresses.len(), ADDRESSES_MAX);
    }
    for (i, address) in addresses.iter().enumerate() {
        let at = at.index(i);
        let text = address.as_str().unwrap_or("");
        match kind {
            "IPv4" | "IPv6" => match text.parse::<IpAddr>() {
                Ok(ip) if ip.is_ipv4() == (kind == "IPv4") => {
                    validate_endpoint_ip(text, &at, errors)
                }
                Ok(_) => errors.invalid(&at, text, format!("must be an {kind} address")),
                Err(_) => errors.invalid(&at, text, names::NOT_AN_IP),
            },
            "FQDN" => errors.invalid_each(&at, text, names::subdomain(text, false)),
            _ => {}
        }
    }
    let node = endpoint.text("nodeName");
    if endpoint.has("nodeName") {
        errors.invalid_each(&path.child("nodeName"), node, names::subdomain(node, false));
    }
    let hostname = endpoint.text("hostname");
    if endpoint.has("hostname") {
        errors.invalid_each(
            &path.child("hostname"),
            hostname,
            names::label(hostname, false),
        );
    }
    let topology = path.child("deprecatedTopology");
    validate_labels(endpoint.at("deprecatedTopology"), &topology, errors);
    if endpoint
        .at("deprecatedTopology")
        .has("kubernetes.io/hostname")
    {
        errors.invalid(
            &topology.key("kubernetes.io/hostname"),
            endpoint
                .at("deprecatedTopology")
                .at("kubernetes.io/hostname"),
            "may not be set unless nodeName is set to the same value",
        );
    }
    let zones = endpoint.at("hints").list("forZones");
    let at = path.child("hints");
    let at = at.child("forZones");
    if zones.len() > HINTS_MAX {
        errors.too_many(&at, zones.len(), HINTS_MAX);
    }
}

fn validate_ports(ports: &[Value], errors: &mut Errors) {
    let path = Path::new("ports");
    if ports.len() > PORTS_MAX {
        errors.too_many(&path, ports.len(), PORTS_MAX);
        return;
    }
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = port.text("name");
        if !name.is_empty() {
            errors.invalid_each(&at.child("name"), name, names::label(name, false));
        }
        if ports[..i].iter().any(|p| p.text("name") == name) {
            errors.duplicate(&at.child("name"), name);
        }
        errors.one_of(
            &at.child("protocol"),
            port.text("protocol"),
            names::PROTOCOLS,
        );
        if let Some(protocol) = port.opt_text("appProtocol") {
            errors.invalid_each(
                &at.child("appProtocol"),
                protocol,
                names::qualified_name(protocol),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::errors::testing::{create, update, with};

    fn slice() -> Value {
        json!({"metadata": {"name": "a", "namespace": "b"}, "addressType": "IPv4",
               "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]})
    }

    #[test]
    fn defaults_and_rows() {
        let mut object = slice();
        EndpointSlice.default(&mut object);
        assert_eq!(
            object["ports"][0],
            json!({"port": 80, "name": "", "protocol": "TCP"})
        );
        let row = EndpointSlice.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            row,
            ["a", "IPv4", "80", "10.0.0.1", "<unknown>"].map(Value::from)
        );
        let row = EndpointSlice.row(&json!({}), Timestamp::UNIX_EPOCH);
        assert_eq!((&row[2], &row[3]), (&json!("<unset>"), &json!("<unset>")));
        assert_eq!(
            shortened((0..5).map(|i: i32| i.to_string())),
            "0,1,2 + 2 more..."
        );
    }

    #[test]
    fn addresses_fit_the_type() {
        let none: Vec<String> = vec![];
        assert_eq!(create(&EndpointSlice, slice()), none);
        assert_eq!(
            create(
                &EndpointSlice,
                with(slice(), "/endpoints/0/addresses/0", json!("::5"))
            ),
            ["endpoints[0].addresses[0]: Invalid value: \"::5\": must be an IPv4 address"]
        );
        assert_eq!(
            create(
                &EndpointSlice,
                with(slice(), "/endpoints/0/addresses", json!([]))
            ),
            ["endpoints[0].addresses: Required value: must contain at least 1 address"]
        );
        assert_eq!(
            update(
                &EndpointSlice,
                with(slice(), "/addressType", json!("FQDN")),
                slice()
            )[0],
            "addressType: Invalid value: \"FQDN\": field is immutable"
        );
    }
}
