//! Whom a proxied request goes to. Pure.
//!
//! Facts: names are `[scheme:]name[:port]`; a Service's port may be named; which endpoint serves is chance.

use corten_api::status::Status;
use serde_json::Value;

/// `[scheme:]name[:port]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) scheme: &'a str,
    pub(super) name: &'a str,
    pub(super) port: &'a str,
}

impl<'a> Name<'a> {
    /// None when it has another form.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let known = |scheme: &str| matches!(scheme, "" | "http" | "https");
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] if known(scheme) => (scheme, name, port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.scheme == "https"
    }
}

/// An address, a port, and how it is spoken to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// A port by its number; none for none.
pub(super) fn number(port: &str) -> Result<Option<u16>, Status> {
    if port.is_empty() {
        return Ok(None);
    }
    let number = port.parse::<u16>().ok().filter(|port| *port > 0);
    number
        .map(Some)
        .ok_or_else(|| Status::bad_request(format!("invalid port {port:?}")))
}

/// A pod's own address; without a port, the first that its containers declare.
pub(super) fn of_pod(pod: &Value, name: &Name<'_>) -> Result<Destination, Status> {
    let declared = || {
        let containers = pod["spec"]["containers"].as_array()?;
        let mut ports = containers
            .iter()
            .filter_map(|container| container["ports"].as_array());
        let first = ports.find_map(|ports| ports.first())?;
        u16::try_from(first["containerPort"].as_u64()?).ok()
    };
    let port = number(name.port)?.or_else(declared).unwrap_or(80);
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    if address.is_empty() {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(Destination {
        address: address.to_owned(),
        port,
        tls: name.is_tls(),
    })
}

/// One of a Service's endpoints.
pub(super) fn of_service(
    service: &Value,
    endpoints: &Value,
    name: &Name<'_>,
    chance: u32,
) -> Result<Destination, Status> {
    let wanted = port_name(service, name)?;
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let mut found = Vec::new();
    for subset in subsets {
        let ports = subset["ports"].as_array().into_iter().flatten();
        let named = |port: &&Value| port["name"].as_str().unwrap_or_default() == wanted;
        let port = ports
            .into_iter()
            .find(named)
            .and_then(|port| port["port"].as_u64());
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        found.extend(addresses.filter_map(|address| Some((address["ip"].as_str()?, port))));
    }
    if found.is_empty() {
        return Err(Status::service_unavailable(format!(
            "no endpoints available for service {:?}",
            name.name
        )));
    }
    let (address, port) = found[usize::try_from(chance).unwrap_or(0) % found.len()];
    Ok(Destination {
        address: address.to_owned(),
        port,
        tls: name.is_tls(),
    })
}

/// Endpoints know ports by their names; numbers are those of the Service.
fn port_name(service: &Value, name: &Name<'_>) -> Result<String, Status> {
    let Ok(number) = name.port.parse::<u64>() else {
        return Ok(name.port.to_owned());
    };
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = ports.find(|port| port["port"] == number).ok_or_else(|| {
        Status::service_unavailable(format!(
            "no service port {number} found for service {:?}",
            name.name
        ))
    })?;
    Ok(port["name"].as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(text: &str) -> Name<'_> {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn names_have_up_to_three_parts() {
        let parts = |text| Name::parse(text).map(|name| (name.scheme, name.name, name.port));
        assert_eq!(parts("a"), Some(("", "a", "")));
        assert_eq!(parts("a:80"), Some(("", "a", "80")));
        assert_eq!(parts("http:a:web"), Some(("http", "a", "web")));
        assert_eq!(parts("https:a:"), Some(("https", "a", "")));
        for bad in ["", ":80", "ftp:a:1", "a:b:c:d"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn pods_are_reached_at_the_first_port_they_declare() {
        let pod = json!({
            "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
            "status": {"podIP": "10.0.0.1"},
        });
        let port = |text| {
            of_pod(&pod, &name(text))
                .map(|to| to.port)
                .map_err(|status| status.code())
        };
        assert_eq!(port("p"), Ok(8080));
        assert_eq!(port("p:81"), Ok(81));
        assert_eq!(port("p:web"), Err(400));
        let secure = of_pod(&pod, &name("https:p:443")).expect("a destination");
        assert!(secure.tls && secure.port == 443);
        assert_eq!(
            of_pod(&json!({}), &name("p")).map_err(|status| status.code()),
            Err(400)
        );
    }

    #[test]
    fn services_are_reached_by_the_name_or_number_of_a_port() {
        let service =
            json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "alt", "port": 81}]}});
        let endpoints = json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "web", "port": 8080}]},
            {"notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "alt", "port": 8081}]},
        ]});
        let to = |text, chance| {
            of_service(&service, &endpoints, &name(text), chance)
                .map(|to| format!("{}:{}", to.address, to.port))
                .map_err(|status| status.code())
        };
        assert_eq!(to("s:web", 0), Ok("10.0.0.1:8080".to_owned()));
        assert_eq!(to("s:80", 3), Ok("10.0.0.2:8080".to_owned()));
        assert_eq!(to("s:alt", 0), Err(503), "nobody is ready");
        assert_eq!(to("s:82", 0), Err(503));
        assert_eq!(to("s", 0), Err(503), "both ports have names");
    }
}
