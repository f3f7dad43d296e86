//! Which kernel settings a pod may set: upstream's safe ones, and those that the operator allows by pattern. Only settings
//! that the kernel keeps per network or IPC namespace are ever let through, and only where the pod has that namespace to
//! itself: anything else would be written to the host. Pure.

use k8s_openapi::api::core::v1::Pod;

/// What upstream counts as safe: no effect on other pods or the node, and always there.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that keeps a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Network,
    Ipc,
}

/// Where a setting is kept; `None` for what all of the host shares.
fn kept(name: &str) -> Option<Kept> {
    let below = |prefix: &str| name.starts_with(prefix);
    if below("net.") {
        Some(Kept::Network)
    } else if below("kernel.shm") || below("kernel.msg") || below("fs.mqueue.") {
        Some(Kept::Ipc)
    } else {
        (name == "kernel.sem").then_some(Kept::Ipc)
    }
}

/// What pods on this node may set.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    names: Vec<String>,
    prefixes: Vec<String>,
}

impl Allowed {
    /// The safe settings and these: names, or beginnings of names with `*` at the end.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let mut allowed = Self::default();
        for pattern in patterns {
            let (text, list) = match pattern.strip_suffix('*') {
                Some(prefix) => (prefix, &mut allowed.prefixes),
                None => (pattern.as_str(), &mut allowed.names),
            };
            if text.contains('*') || kept(text).is_none() {
                return Err(format!(
                    "{pattern:?} is not a setting that pods have for themselves (kernel.shm*, kernel.msg*, kernel.sem, \
                     fs.mqueue.*, net.*), or has * elsewhere than at its end"
                ));
            }
            list.push(text.to_owned());
        }
        Ok(allowed)
    }

    fn lets(&self, name: &str) -> bool {
        SAFE.contains(&name)
            || self.names.iter().any(|known| known == name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// One setting: its path below `/proc/sys`, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub path: String,
    pub value: String,
}

/// What the pod's sandbox must set, or why the pod cannot run here.
pub fn settings(pod: &Pod, allowed: &Allowed) -> Result<Vec<Setting>, String> {
    let spec = pod.spec.as_ref();
    let wanted = spec
        .and_then(|s| s.security_context.as_ref())
        .and_then(|c| c.sysctls.as_ref());
    let shares = |kept: Kept| match kept {
        Kept::Network => ("net", spec.and_then(|s| s.host_network).unwrap_or_default()),
        Kept::Ipc => ("ipc", spec.and_then(|s| s.host_ipc).unwrap_or_default()),
    };
    let setting = |sysctl: &k8s_openapi::api::core::v1::Sysctl| {
        let name = dotted(&sysctl.name);
        let kept = kept(&name)
            .filter(|_| allowed.lets(&name))
            .ok_or_else(|| format!("forbidden sysctl: {:?} not allowlisted", sysctl.name))?;
        if let (namespace, true) = shares(kept) {
            return Err(format!(
                "forbidden sysctl: {:?} not allowed with host {namespace} enabled",
                sysctl.name
            ));
        }
        let path: String = name.chars().map(swap).collect();
        let climbs = |part: &str| part.is_empty() || part.chars().all(|c| c == '.');
        if path.split('/').any(climbs) {
            return Err(format!("forbidden sysctl: {:?} is not a name", sysctl.name));
        }
        Ok(Setting {
            path,
            value: sysctl.value.clone(),
        })
    };
    wanted.into_iter().flatten().map(setting).collect()
}

/// The form with dots between the parts. Names may be written either way; the first separator says which, and the other
/// character then stands for itself (`net/ipv4/conf/eth0.1/forwarding`).
fn dotted(name: &str) -> String {
    match name.chars().find(|c| matches!(c, '.' | '/')) {
        Some('/') => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

fn swap(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(name: &str, host: serde_json::Value, allowed: &[&str]) -> Result<String, String> {
        let mut spec = json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        for (key, value) in host.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        let patterns: Vec<String> = allowed.iter().map(|p| (*p).to_owned()).collect();
        let allowed = Allowed::new(&patterns).expect("patterns");
        settings(&pod, &allowed).map(|made| made[0].path.clone())
    }

    #[test]
    fn a_setting_of_the_host_is_never_written() {
        for name in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "vm.overcommit_memory",
            "fs.file-max",
            "kernel.semaphore",
            "net.//.//.kernel.core_pattern",
            "net/../../kernel/core_pattern",
            "net/../kernel/core_pattern",
            "net..ipv4",
            "net.",
            "net",
            "",
        ] {
            let refused = ask(name, json!({}), &["net.*", "kernel.msg*"]);
            assert!(
                refused
                    .as_ref()
                    .is_err_and(|e| e.starts_with("forbidden sysctl: ")),
                "{name}: {refused:?}"
            );
        }
        assert!(Allowed::new(&["kernel.*".to_owned()]).is_err());
        assert!(Allowed::new(&["*".to_owned()]).is_err());
        assert!(Allowed::new(&["net.*.forwarding".to_owned()]).is_err());
    }

    #[test]
    fn safe_and_allowed_settings_are_let_through() {
        let port = "net.ipv4.ip_unprivileged_port_start";
        let path = Ok("net/ipv4/ip_unprivileged_port_start".to_owned());
        assert_eq!(ask(port, json!({}), &[]), path);
        assert_eq!(
            ask("net/ipv4/ip_unprivileged_port_start", json!({}), &[]),
            path
        );
        assert_eq!(
            ask("net.core.somaxconn", json!({}), &[]),
            Err("forbidden sysctl: \"net.core.somaxconn\" not allowlisted".to_owned())
        );
        assert_eq!(
            ask("net.core.somaxconn", json!({}), &["net.core.*"]),
            Ok("net/core/somaxconn".to_owned())
        );
        assert_eq!(
            ask("net/ipv4/conf/eth0.1/forwarding", json!({}), &["net.*"]),
            Ok("net/ipv4/conf/eth0.1/forwarding".to_owned())
        );
        assert_eq!(
            ask(port, json!({"hostNetwork": true}), &[]),
            Err(format!(
                "forbidden sysctl: {port:?} not allowed with host net enabled"
            ))
        );
        assert!(ask("kernel.shm_rmid_forced", json!({"hostIPC": true}), &[]).is_err());
    }
}
