//! The resolver configuration of a pod, by its DNS policy. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

/// What the cluster offers.
#[derive(Clone, Debug, Default)]
pub struct DnsSettings {
    pub servers: Vec<IpAddr>,
    /// `cluster.local`
    pub domain: String,
}

#[derive(Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn of_host(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    fn text(&self) -> String {
        let mut out = String::new();
        if !self.searches.is_empty() {
            out.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            out.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            out.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        out
    }
}

/// The text of the pod's /etc/resolv.conf.
pub(super) fn resolv_conf(pod: &Pod, settings: &DnsSettings, host: &str) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    } && !settings.servers.is_empty();
    let mut resolver = if policy == "None" {
        Resolver::default()
    } else {
        Resolver::of_host(host)
    };
    if cluster {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let domain = &settings.domain;
        resolver.servers = settings.servers.iter().map(IpAddr::to_string).collect();
        let mut searches = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        searches.append(&mut resolver.searches);
        resolver.searches = searches;
        resolver.options = vec!["ndots:5".to_owned()];
    }
    if let Some(extra) = spec.dns_config {
        resolver
            .servers
            .extend(extra.nameservers.into_iter().flatten());
        resolver
            .searches
            .extend(extra.searches.into_iter().flatten());
        for option in extra.options.into_iter().flatten() {
            let Some(name) = option.name else { continue };
            resolver
                .options
                .retain(|known| known.split(':').next() != Some(name.as_str()));
            resolver.options.push(match option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    for list in [&mut resolver.servers, &mut resolver.searches] {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|item| seen.insert(item.clone()));
    }
    resolver.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies() {
        let settings = DnsSettings {
            servers: vec!["10.96.0.10".parse().expect("ip")],
            domain: "cluster.local".to_owned(),
        };
        let host = "nameserver 192.0.2.1\nsearch lan\n";
        let of = |spec: serde_json::Value| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": spec}))
                    .expect("pod");
            resolv_conf(&pod, &settings, host)
        };
        let cluster = "search n.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(of(json!({})), cluster);
        assert_eq!(
            of(json!({"dnsPolicy": "Default"})),
            "search lan\nnameserver 192.0.2.1\n"
        );
        assert_eq!(
            of(json!({"hostNetwork": true})),
            "search lan\nnameserver 192.0.2.1\n"
        );
        assert_eq!(
            of(
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["x"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}})
            ),
            "search x\nnameserver 1.1.1.1\noptions ndots:2 rotate\n"
        );
    }
}
