//! The pod's own /etc files: hosts, hostname, resolv.conf.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::dns::{DnsSettings, resolv_conf};
use crate::supervisor::record::write_atomic;

/// Longest hostname that Linux takes.
const HOSTNAME_MAX: usize = 63;

/// The short hostname of a pod, and its fully qualified one when it has a subdomain.
fn names(pod: &Pod, domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    let name = spec
        .and_then(|s| s.hostname.clone())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    let short: String = name.chars().take(HOSTNAME_MAX).collect();
    let short = short.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec
        .and_then(|s| s.subdomain.as_deref())
        .filter(|text| !text.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let full = subdomain.map(|sub| format!("{short}.{sub}.{namespace}.svc.{domain}"));
    (short, full)
}

/// What `hostname` prints in the pod.
pub fn hostname(pod: &Pod, domain: &str, node_name: &str) -> String {
    let spec = pod.spec.as_ref();
    if spec.and_then(|s| s.host_network) == Some(true) {
        return node_name.to_owned();
    }
    if let Some(name) = spec.and_then(|s| s.hostname_override.clone()) {
        return name;
    }
    let (short, full) = names(pod, domain);
    let qualified = spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true);
    full.filter(|_| qualified).unwrap_or(short)
}

/// The text of /etc/hosts.
fn hosts(pod: &Pod, ips: &[IpAddr], domain: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut out = String::new();
    if spec.host_network == Some(true) {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(&std::fs::read_to_string("/etc/hosts").unwrap_or_default());
    } else {
        out.push_str("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
        out.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
        out.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n");
        out.push_str("fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let (short, full) = names(pod, domain);
        let own = full.map_or_else(|| short.clone(), |full| format!("{full}\t{short}"));
        for ip in ips {
            out.push_str(&format!("{ip}\t{own}\n"));
        }
    }
    let aliases = spec.host_aliases.unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            out.push_str(&format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.unwrap_or_default().join("\t")
            ));
        }
    }
    out
}

/// Writes all three.
pub fn write_files(
    etc: &Path,
    pod: &Pod,
    ips: &[IpAddr],
    dns: &DnsSettings,
    node_name: &str,
) -> io::Result<()> {
    std::fs::create_dir_all(etc)?;
    let host_resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolver = resolv_conf(pod, dns, &host_resolver);
    let name = format!("{}\n", hostname(pod, &dns.domain, node_name));
    for (file, text) in [
        ("hosts", hosts(pod, ips, &dns.domain)),
        ("hostname", name),
        ("resolv.conf", resolver),
    ] {
        write_atomic(&etc.join(file), text.as_bytes())?;
    }
    Ok(())
}
