//! What a NetworkPolicy must look like.

use serde_json::Value;

use crate::kinds::addresses::sloppy_range;
use crate::kinds::apps::workload::validate_label_selector;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

/// The directions of traffic, and how each calls the other side.
pub(super) const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const POLICY_TYPES: &[&str] = &["Ingress", "Egress"];

/// Checks the `spec`.
pub(super) fn validate_spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let at = path.child("podSelector");
    validate_label_selector(spec.at("podSelector"), &at, errors);
    for (direction, peers) in DIRECTIONS {
        let at = path.child(direction);
        for (i, rule) in spec.list(direction).iter().enumerate() {
            validate_rule(rule, peers, &at.index(i), errors);
        }
    }
    let types = spec.list("policyTypes");
    let at = path.child("policyTypes");
    if types.len() > POLICY_TYPES.len() {
        let detail = "may not specify more than two policyTypes";
        errors.invalid(&at, spec.at("policyTypes"), detail);
        return;
    }
    for (i, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or("");
        if !POLICY_TYPES.contains(&kind) {
            errors.not_supported(&at.index(i), kind, POLICY_TYPES);
        }
    }
}

fn validate_rule(rule: &Value, peers: &str, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("ports");
    for (i, port) in rule.list("ports").iter().enumerate() {
        validate_port(port, &at.index(i), errors);
    }
    let at = path.child(peers);
    for (i, peer) in rule.list(peers).iter().enumerate() {
        validate_peer(peer, &at.index(i), errors);
    }
}

fn validate_port(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(protocol) = port.opt_text("protocol")
        && !PROTOCOLS.contains(&protocol)
    {
        errors.not_supported(&path.child("protocol"), protocol, PROTOCOLS);
    }
    let end = port.int("endPort");
    let at_end = path.child("endPort");
    match (port.opt("port"), end) {
        (None, None) => {}
        (None, Some(end)) => {
            let detail = "may not be specified when `port` is not specified";
            errors.invalid(&at_end, end, detail);
        }
        (Some(Value::String(name)), end) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.invalid(&at_end, end, detail);
            }
            errors.invalid_each(&path.child("port"), name, names::port_name(name));
        }
        (Some(number), end) => {
            let number = number.as_i64().unwrap_or(0);
            errors.invalid_each_of(&path.child("port"), number, names::port(number));
            let Some(end) = end else {
                return;
            };
            if end < number {
                // The value shown is the first port, as upstream shows it.
                errors.invalid(&at_end, number, "must be greater than or equal to `port`");
            }
            errors.invalid_each_of(&at_end, end, names::port(end));
        }
    }
}

fn validate_peer(peer: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut selectors = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.opt(key) {
            selectors += 1;
            validate_label_selector(selector, &path.child(key), errors);
        }
    }
    match (peer.opt("ipBlock"), selectors) {
        (None, 0) => errors.required(path, "must specify a peer"),
        (None, _) => {}
        (Some(block), _) => {
            validate_block(block, &path.child("ipBlock"), errors);
            if selectors > 0 {
                errors.forbidden(path, "may not specify both ipBlock and another peer");
            }
        }
    }
}

fn validate_block(block: &Value, path: &Path<'_>, errors: &mut Errors) {
    let text = block.text("cidr");
    let at = path.child("cidr");
    if text.is_empty() {
        errors.required(&at, "");
        return;
    }
    let Some(range) = sloppy_range(text) else {
        errors.invalid(&at, text, names::NOT_A_CIDR);
        return;
    };
    let at = path.child("except");
    for (i, except) in block.list("except").iter().enumerate() {
        let text = except.as_str().unwrap_or("");
        let Some(except) = sloppy_range(text) else {
            errors.invalid(&at.index(i), text, names::NOT_A_CIDR);
            continue;
        };
        let inside = range.contains(&except.trunc().addr());
        if !inside || range.prefix_len() >= except.prefix_len() {
            errors.invalid(&at.index(i), text, "must be a strict subset of `cidr`");
        }
    }
}
