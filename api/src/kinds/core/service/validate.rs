//! What a Service must look like, and what an update may change.

use serde_json::{Value, json};

use crate::kinds::core::endpoints::validate_endpoint_ip;
use crate::kinds::object_meta::validate_labels;
use crate::kinds::value::{Get, items_at, keep, remove, same, set};
use crate::kinds::{Errors, Path, names};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// Longest time a client may stick to a pod: one day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;
/// Port of the node agent, which a load balancer could not reach any more.
const NODE_AGENT_PORT: i64 = 10_250;

/// Checks the `spec` of a new or updated service.
pub(super) fn spec(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let kind = spec.text("type");
    if spec.is_empty_at("ports") && spec.text("clusterIP") != "None" && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    by_type(spec, kind, &path, errors);
    let ports = spec.list("ports");
    let at = path.child("ports");
    for (i, port) in ports.iter().enumerate() {
        validate_port(port, ports.len() > 1, &at.index(i), errors);
    }
    unique_ports(ports, &at, errors);
    validate_labels(spec.at("selector"), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    } else if kind.is_empty() {
        errors.required(&path.child("type"), "");
    }
    cluster_ips(spec, kind, &path, errors);
    let at = path.child("externalIPs");
    for (i, ip) in spec.list("externalIPs").iter().enumerate() {
        validate_endpoint_ip(ip.as_str().unwrap_or(""), &at.index(i), errors);
    }
    traffic_policies(spec, kind, &path, errors);
    load_balancer(spec, kind, &path, errors);
}

fn by_type(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    match kind {
        "LoadBalancer" => {
            for (i, port) in spec.list("ports").iter().enumerate() {
                if port.int("port") == Some(NODE_AGENT_PORT) {
                    let at = path.child("ports");
                    let detail = "may not expose port 10250 externally since it is used by kubelet";
                    errors.invalid(&at.index(i), NODE_AGENT_PORT, detail);
                }
            }
            if spec.text("clusterIP") == "None" {
                let detail = "may not be set to 'None' for LoadBalancer services";
                errors.invalid(&path.child("clusterIPs").index(0), "None", detail);
            }
        }
        "NodePort" if spec.text("clusterIP") == "None" => {
            let detail = "may not be set to 'None' for NodePort services";
            errors.invalid(&path.child("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            for key in ["clusterIPs", "clusterIP"] {
                if !spec.is_empty_at(key) {
                    errors.forbidden(&path.child(key), "may not be set for ExternalName services");
                }
            }
            let name = spec.text("externalName");
            let at = path.child("externalName");
            if name.is_empty() {
                errors.required(&at, "");
            } else {
                // A trailing dot is how DNS spells a full name.
                let bare = name.strip_suffix('.').unwrap_or(name);
                errors.invalid_each(&at, name, names::subdomain(bare, false));
            }
        }
        _ => {}
    }
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
    validate_port_reference(port.at("targetPort"), &path.child("targetPort"), errors);
    if let Some(protocol) = port.opt_text("appProtocol") {
        errors.invalid_each(
            &path.child("appProtocol"),
            protocol,
            names::qualified_name(protocol),
        );
    }
}

/// Checks a port given by number or by name.
pub(crate) fn validate_port_reference(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.invalid_each(path, name, names::port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or(0);
            errors.invalid_each_of(path, number, names::port(number));
        }
    }
}

fn unique_ports(ports: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, port) in ports.iter().enumerate() {
        let before = &ports[..i];
        let at = path.index(i);
        let name = port.text("name");
        if !name.is_empty() && before.iter().any(|p| p.text("name") == name) {
            errors.duplicate(&at.child("name"), name);
        }
        let same_protocol = |p: &&Value| p.text("protocol") == port.text("protocol");
        if before
            .iter()
            .filter(same_protocol)
            .any(|p| p.int("port") == port.int("port"))
        {
            let value = json!({"protocol": port.text("protocol"), "port": port.at("port")});
            errors.duplicate(&at, &value);
        }
        let node_port = port.int("nodePort").unwrap_or(0);
        if node_port != 0
            && before
                .iter()
                .filter(same_protocol)
                .any(|p| p.int("nodePort") == Some(node_port))
        {
            errors.duplicate(&at.child("nodePort"), node_port);
        }
    }
}

fn affinity(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let affinity = spec.text("sessionAffinity");
    errors.one_of(
        &path.child("sessionAffinity"),
        affinity,
        &["ClientIP", "None"],
    );
    let config = spec.opt("sessionAffinityConfig");
    let at = path.child("sessionAffinityConfig");
    match (affinity, config) {
        ("ClientIP", config) => {
            let seconds = config.and_then(|c| c.at("clientIP").int("timeoutSeconds"));
            let at = at.child("clientIP");
            match seconds {
                None => errors.required(&at, "when session affinity type is ClientIP"),
                Some(seconds) if seconds <= 0 || seconds > AFFINITY_SECONDS_MAX => errors.invalid(
                    &at.child("timeoutSeconds"),
                    seconds,
                    format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"),
                ),
                Some(_) => {}
            }
        }
        ("None", Some(_)) => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn cluster_ips(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    if kind == "ExternalName" {
        return;
    }
    let ips = spec.list("clusterIPs");
    let at = path.child("clusterIPs");
    let single = spec.text("clusterIP");
    if !single.is_empty()
        && ips
            .first()
            .is_some_and(|first| first.as_str() != Some(single))
    {
        errors.invalid(
            &at,
            spec.at("clusterIPs"),
            "first value must match `clusterIP`",
        );
    }
    if ips.len() > 2 {
        errors.invalid(&at, spec.at("clusterIPs"), "may only hold up to 2 values");
    }
    let lone = [Value::from(single)];
    let shown = if ips.is_empty() && !single.is_empty() {
        &lone
    } else {
        ips
    };
    for (i, ip) in shown.iter().enumerate() {
        let ip = ip.as_str().unwrap_or("");
        if ip == "None" {
            if i > 0 || shown.len() > 1 {
                errors.invalid(
                    &at,
                    spec.at("clusterIPs"),
                    "'None' must be the first and only value",
                );
            }
        } else if ip.parse::<std::net::IpAddr>().is_err() {
            errors.invalid(&at.index(i), ip, names::NOT_AN_IP);
        }
    }
    let families = spec.list("ipFamilies");
    let at = path.child("ipFamilies");
    for (i, family) in families.iter().enumerate() {
        let family = family.as_str().unwrap_or("");
        if !matches!(family, "IPv4" | "IPv6") {
            errors.not_supported(&at.index(i), family, &["IPv4", "IPv6"]);
        } else if families[..i].iter().any(|f| f.as_str() == Some(family)) {
            errors.duplicate(&at.index(i), family);
        }
    }
    if let Some(policy) = spec.opt_text("ipFamilyPolicy") {
        errors.one_of(
            &path.child("ipFamilyPolicy"),
            policy,
            &["SingleStack", "PreferDualStack", "RequireDualStack"],
        );
    }
}

fn traffic_policies(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let external = spec.text("externalTrafficPolicy");
    let at = path.child("externalTrafficPolicy");
    let reachable = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !spec.is_empty_at("externalIPs"));
    if reachable {
        errors.one_of(&at, external, &["Cluster", "Local"]);
    } else if !external.is_empty() {
        errors.invalid(
            &at,
            external,
            "may only be set for externally-accessible services",
        );
    }
    let needs_check_port = kind == "LoadBalancer" && external == "Local";
    let check_port = spec.int("healthCheckNodePort").unwrap_or(0);
    if !needs_check_port && check_port != 0 {
        let detail =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&path.child("healthCheckNodePort"), check_port, detail);
    }
    if kind != "ExternalName"
        && let Some(internal) = spec.opt_text("internalTrafficPolicy")
        && !matches!(internal, "Cluster" | "Local")
    {
        errors.not_supported(
            &path.child("internalTrafficPolicy"),
            internal,
            &["Cluster", "Local"],
        );
    }
    if !matches!(kind, "NodePort" | "LoadBalancer") {
        let at = path.child("ports");
        for (i, port) in spec.list("ports").iter().enumerate() {
            if port.int("nodePort").unwrap_or(0) != 0 {
                let at = at.index(i);
                let detail = format!("may not be used when `type` is '{kind}'");
                errors.forbidden(&at.child("nodePort"), detail);
            }
        }
    }
    if let Some(distribution) = spec.opt_text("trafficDistribution") {
        let supported = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        errors.one_of(&path.child("trafficDistribution"), distribution, &supported);
    }
}

fn load_balancer(spec: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    let ranges = spec.list("loadBalancerSourceRanges");
    let at = path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && kind != "LoadBalancer" {
        errors.forbidden(&at, "may only be used when `type` is 'LoadBalancer'");
    }
    for (i, range) in ranges.iter().enumerate() {
        let range = range.as_str().unwrap_or("");
        if range.trim().parse::<ipnet::IpNet>().is_err() {
            errors.invalid(&at.index(i), range, names::NOT_A_CIDR);
        }
    }
    let class = spec.text("loadBalancerClass");
    if !class.is_empty() {
        let at = path.child("loadBalancerClass");
        if kind != "LoadBalancer" {
            errors.forbidden(&at, "may only be used when `type` is 'LoadBalancer'");
        }
        errors.invalid_each(&at, class, names::qualified_name(class));
    }
}

/// Checks what an update may not change.
pub(super) fn change(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (was, is) = (old.text("type"), new.text("type"));
    // The address may change only when the type goes to or from ExternalName, which has none.
    if was != "ExternalName" && is != "ExternalName" {
        let before = primary(old);
        let after = primary(new);
        if !before.is_empty() && before != after {
            let at = path.child("clusterIPs");
            errors.invalid(&at.index(0), after, "may not change once set");
        }
        if let (Some(before), Some(after)) = (
            old.list("ipFamilies").first(),
            new.list("ipFamilies").first(),
        ) && before != after
        {
            let at = path.child("ipFamilies");
            errors.invalid(&at.index(0), after, "may not change once set");
        }
    }
    if was == "LoadBalancer"
        && is == "LoadBalancer"
        && new.text("loadBalancerClass") != old.text("loadBalancerClass")
    {
        errors.invalid(
            &path.child("loadBalancerClass"),
            new.at("loadBalancerClass"),
            "may not change once set",
        );
    }
}

fn primary(spec: &Value) -> &str {
    match spec.list("clusterIPs").first().and_then(Value::as_str) {
        Some(ip) => ip,
        None => spec.text("clusterIP"),
    }
}

/// Carries over addresses and node ports that an update left out, as clients that apply a manifest do.
pub(super) fn patch_allocated(new: &mut Value, old: &Value) {
    let old = old.at("spec");
    let Some(spec) = new.get_mut("spec") else {
        return;
    };
    let had_address = old.text("type") != "ExternalName";
    let has_address = spec.text("type") != "ExternalName";
    if had_address && has_address {
        if spec.is_empty_at("clusterIP") && spec.is_empty_at("clusterIPs") {
            for key in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old.opt(key) {
                    set(spec, key, value.clone());
                }
            }
        } else if spec.is_empty_at("clusterIPs")
            && spec.text("clusterIP") == old.text("clusterIP")
            && let Some(value) = old.opt("clusterIPs")
        {
            set(spec, "clusterIPs", value.clone());
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if spec.is_empty_at(key)
                && let Some(value) = old.opt(key)
            {
                set(spec, key, value.clone());
            }
        }
    } else if had_address && same(spec.at("clusterIPs"), old.at("clusterIPs")) {
        // Turning into an ExternalName gives the address back, unless the client insists on another one.
        for key in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            remove(spec, key);
        }
    }
    patch_node_ports(spec, old);
}

fn patch_node_ports(spec: &mut Value, old: &Value) {
    let exposed = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if !exposed(old.text("type")) {
        return;
    }
    if !exposed(spec.text("type")) {
        // Node ports left from the old type are dropped, ones that the client changed are refused later.
        for port in items_at(spec, "ports") {
            let number = port.int("nodePort").unwrap_or(0);
            if old
                .list("ports")
                .iter()
                .any(|p| number != 0 && p.int("nodePort") == Some(number))
            {
                remove(port, "nodePort");
            }
        }
        if spec.text("externalTrafficPolicy") == old.text("externalTrafficPolicy")
            && spec.is_empty_at("externalIPs")
        {
            remove(spec, "externalTrafficPolicy");
        }
        if spec.int("healthCheckNodePort") == old.int("healthCheckNodePort") {
            remove(spec, "healthCheckNodePort");
        }
        return;
    }
    for port in items_at(spec, "ports") {
        if port.int("nodePort").unwrap_or(0) == 0 {
            let matches = |p: &&Value| {
                p.int("port") == port.int("port")
                    && p.text("protocol") == port.text("protocol")
                    && p.int("nodePort").unwrap_or(0) != 0
            };
            if let Some(number) = old
                .list("ports")
                .iter()
                .find(matches)
                .map(|p| p.at("nodePort").clone())
            {
                set(port, "nodePort", number);
            }
        }
    }
    let local =
        |s: &Value| s.text("type") == "LoadBalancer" && s.text("externalTrafficPolicy") == "Local";
    if local(spec) && local(old) && spec.int("healthCheckNodePort").unwrap_or(0) == 0 {
        keep(spec, old, "healthCheckNodePort");
    }
}

/// Checks the `status` of a service.
pub(super) fn status(service: &Value, errors: &mut Errors) {
    let path = Path::new("status.loadBalancer.ingress");
    let ingresses = service.at("status").at("loadBalancer").list("ingress");
    if !ingresses.is_empty() && service.at("spec").text("type") != "LoadBalancer" {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    validate_load_balancer_ingress(ingresses, &path, errors);
}

/// Checks where a load balancer is reached, in the status of Services and Ingresses.
pub(crate) fn validate_load_balancer_ingress(
    ingresses: &[Value],
    path: &Path<'_>,
    errors: &mut Errors,
) {
    for (i, ingress) in ingresses.iter().enumerate() {
        let at = path.index(i);
        let ip = ingress.text("ip");
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            errors.invalid(&at.child("ip"), ip, names::NOT_AN_IP);
        }
        let hostname = ingress.text("hostname");
        if !hostname.is_empty() {
            errors.invalid_each(
                &at.child("hostname"),
                hostname,
                names::subdomain(hostname, false),
            );
            if hostname.parse::<std::net::IpAddr>().is_ok() {
                errors.invalid(
                    &at.child("hostname"),
                    hostname,
                    "must be a DNS name, not an IP address",
                );
            }
        }
    }
}
