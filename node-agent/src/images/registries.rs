//! Where a registry's images really come from: `hosts.toml` files as containerd reads them (mirrors first, then the
//! registry itself), and how a host is reached. Knows no credentials and keeps nothing between pulls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};

/// A registry that does not answer within this is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A download that stands still this long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// One place to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// `host` or `host:port`.
    pub(super) address: String,
    pub(super) plain_http: bool,
    pub(super) skip_verify: bool,
    pub(super) ca: Option<PathBuf>,
}

pub(super) struct Registries {
    dir: Option<PathBuf>,
}

impl Registries {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// The places to ask for a registry's images, in order. The files are read at each pull, so changes need no restart.
    pub(super) fn hosts(&self, registry: &str) -> Vec<Host> {
        let configured = self.dir.as_deref().and_then(|dir| {
            [registry, "_default"]
                .iter()
                .find_map(|name| std::fs::read_to_string(dir.join(name).join("hosts.toml")).ok())
        });
        let base = self
            .dir
            .as_deref()
            .map(|dir| dir.join(registry))
            .unwrap_or_default();
        match configured
            .as_deref()
            .map(|text| parse(text, registry, &base))
        {
            Some(Ok(hosts)) => hosts,
            Some(Err(error)) => {
                tracing::warn!(registry, %error, "hosts.toml is not valid and is not used");
                vec![default_host(registry)]
            }
            None => vec![default_host(registry)],
        }
    }
}

/// A new client for a host. Clients keep tokens and credentials by registry, so one must never serve two pulls: the second
/// would be made with the first one's rights.
pub(super) fn client(host: &Host) -> Result<Client, String> {
    let mut config = ClientConfig {
        protocol: if host.plain_http {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        accept_invalid_certificates: host.skip_verify,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: "corten",
        ..ClientConfig::default()
    };
    if let Some(ca) = &host.ca {
        let data = std::fs::read(ca).map_err(|e| format!("cannot read {}: {e}", ca.display()))?;
        config.extra_root_certificates.push(Certificate {
            encoding: CertificateEncoding::Pem,
            data,
        });
    }
    Client::try_from(config).map_err(|error| error.to_string())
}

/// Registries on this very host speak plain HTTP by custom, as in Docker and containerd.
fn default_host(registry: &str) -> Host {
    let name = registry.rsplit_once(':').map_or(registry, |(name, _)| name);
    let local = name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    let address = if registry == "docker.io" {
        "index.docker.io".to_owned()
    } else {
        registry.to_owned()
    };
    Host {
        address,
        plain_http: local,
        skip_verify: false,
        ca: None,
    }
}

fn parse(text: &str, registry: &str, base: &Path) -> Result<Vec<Host>, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    let mut hosts = Vec::new();
    let mirrors = table.get("host").and_then(toml::Value::as_table);
    for (url, settings) in mirrors.into_iter().flatten() {
        let pulls = settings.get("capabilities").and_then(toml::Value::as_array);
        let can_pull = pulls.is_none_or(|list| list.iter().any(|c| c.as_str() == Some("pull")));
        if can_pull {
            hosts.push(host(url, Some(settings), base)?);
        }
    }
    match table.get("server").and_then(toml::Value::as_str) {
        Some(server) => hosts.push(host(server, None, base)?),
        None => hosts.push(default_host(registry)),
    }
    Ok(hosts)
}

fn host(url: &str, settings: Option<&toml::Value>, base: &Path) -> Result<Host, String> {
    let (plain_http, rest) = match url.split_once("://") {
        Some(("http", rest)) => (true, rest),
        Some(("https", rest)) => (false, rest),
        Some((scheme, _)) => return Err(format!("{url}: scheme {scheme} is not http or https")),
        None => (false, url),
    };
    let address = rest.trim_end_matches('/');
    if address.is_empty() || address.contains('/') {
        return Err(format!("{url}: a path behind the host is not supported"));
    }
    let ca = settings
        .and_then(|s| s.get("ca"))
        .and_then(toml::Value::as_str)
        .map(|ca| base.join(ca));
    let skip_verify = settings
        .and_then(|s| s.get("skip_verify"))
        .and_then(toml::Value::as_bool)
        .unwrap_or(false);
    Ok(Host {
        address: address.to_owned(),
        plain_http,
        skip_verify,
        ca,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_before_the_server() {
        let text = "server = \"https://registry.example\"\n\
                    [host.\"http://127.0.0.1:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
                    [host.\"https://push.example\"]\ncapabilities = [\"push\"]\n";
        let hosts = parse(text, "registry.example", Path::new("/c")).expect("valid");
        let seen: Vec<_> = hosts
            .iter()
            .map(|h| (h.address.as_str(), h.plain_http))
            .collect();
        assert_eq!(
            seen,
            [("127.0.0.1:5000", true), ("registry.example", false)]
        );
    }

    #[test]
    fn local_registries_are_plain() {
        assert!(default_host("localhost:5000").plain_http);
        assert!(default_host("127.0.0.1:15000").plain_http);
        assert!(!default_host("registry.example").plain_http);
    }
}
