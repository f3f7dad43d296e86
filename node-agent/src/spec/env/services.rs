//! The variables by which containers find Services, as Docker links once named them. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// `{NAME}_SERVICE_HOST` and its relatives.
pub(super) fn service_variables(service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec
        .cluster_ip
        .as_deref()
        .filter(|ip| !ip.is_empty() && *ip != "None")
    else {
        return;
    };
    let Some(ports) = spec.ports.as_deref().filter(|ports| !ports.is_empty()) else {
        return;
    };
    let shout = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = shout(service.metadata.name.as_deref().unwrap_or(""));
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    out.insert(format!("{prefix}_SERVICE_PORT"), ports[0].port.to_string());
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = &port.name {
            out.insert(
                format!("{prefix}_SERVICE_PORT_{}", shout(name)),
                port.port.to_string(),
            );
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        let stem = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(format!("{stem}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{stem}_PORT"), port.port.to_string());
        out.insert(format!("{stem}_ADDR"), ip.to_owned());
        out.insert(stem, url);
    }
}
