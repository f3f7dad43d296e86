//! Level baseline: nothing that is known to lead out of a container.

use std::collections::BTreeMap;

use serde_json::Value;

use super::containers::{all, distinct, items, named, plural, quoted, setters, texts, words};
use super::{PodView, Violation};

/// What containers have by default, and may therefore also ask for.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls that act in the pod's own namespaces.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const SELINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

type Check = fn(PodView<'_>) -> Option<Violation>;

/// Violations that restricted has no stricter rule for, by the check's name.
pub(super) fn shared(pod: PodView<'_>) -> BTreeMap<&'static str, Violation> {
    let checks: [(&'static str, Check); 9] = [
        ("appArmorProfile", app_armor),
        ("hostNamespaces", host_namespaces),
        ("hostPorts", host_ports),
        ("hostProbesAndHostLifecycle", host_probes),
        ("privileged", privileged),
        ("procMount", proc_mount),
        ("seLinuxOptions", selinux),
        ("sysctls", sysctls),
        ("windowsHostProcess", windows),
    ];
    found(&checks, pod)
}

/// Violations of what restricted says more strictly.
pub(super) fn replaced_by_restricted(pod: PodView<'_>) -> BTreeMap<&'static str, Violation> {
    let checks: [(&'static str, Check); 3] = [
        ("capabilities_baseline", capabilities),
        ("hostPathVolumes", host_paths),
        ("seccompProfile_baseline", seccomp),
    ];
    found(&checks, pod)
}

fn found(checks: &[(&'static str, Check)], pod: PodView<'_>) -> BTreeMap<&'static str, Violation> {
    checks
        .iter()
        .filter_map(|(name, check)| Some((*name, check(pod)?)))
        .collect()
}

fn app_armor(pod: PodView<'_>) -> Option<Violation> {
    let unconfined =
        |holder: &Value| holder["securityContext"]["appArmorProfile"]["type"] == "Unconfined";
    let mut details = Vec::new();
    let by = setters(unconfined(pod.spec), &named(pod, unconfined));
    details
        .extend(by.map(|by| format!("{by} must not set AppArmor profile type to \"Unconfined\"")));
    let annotations = pod.metadata["annotations"].as_object();
    for (key, value) in annotations.into_iter().flatten() {
        let value = value.as_str().unwrap_or("");
        let allowed = matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
        if key.starts_with(APPARMOR_ANNOTATION) && !allowed {
            details.push(format!("annotation \"{key}={value}\""));
        }
    }
    let reason = plural("forbidden AppArmor profile", details.len());
    (!details.is_empty()).then(|| Violation::new(reason, details.join(", ")))
}

fn capabilities(pod: PodView<'_>) -> Option<Violation> {
    let foreign = |container: &Value| {
        texts(&container["securityContext"]["capabilities"]["add"])
            .filter(|name| !CAPABILITIES.contains(name))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let names = named(pod, |container| !foreign(container).is_empty());
    let added: Vec<String> = all(pod)
        .flat_map(|(_, container)| foreign(container))
        .collect();
    (!names.is_empty()).then(|| {
        let added = quoted(&distinct(added.iter().map(String::as_str)));
        let who = words(&names);
        let detail = format!("{who} must not include {added} in securityContext.capabilities.add");
        Violation::new("non-default capabilities", detail)
    })
}

fn host_namespaces(pod: PodView<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}

fn host_paths(pod: PodView<'_>) -> Option<Violation> {
    let names: Vec<&str> = items(&pod.spec["volumes"])
        .iter()
        .filter(|volume| !volume["hostPath"].is_null())
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    (!names.is_empty()).then(|| {
        let detail = format!("{} {}", plural("volume", names.len()), quoted(&names));
        Violation::new("hostPath volumes", detail)
    })
}

fn host_ports(pod: PodView<'_>) -> Option<Violation> {
    let ports = |container: &Value| {
        items(&container["ports"])
            .iter()
            .filter_map(|port| port["hostPort"].as_i64())
            .filter(|port| *port != 0)
            .collect::<Vec<i64>>()
    };
    let names = named(pod, |container| !ports(container).is_empty());
    let used: std::collections::BTreeSet<i64> = all(pod)
        .flat_map(|(_, container)| ports(container))
        .collect();
    (!names.is_empty()).then(|| {
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let list: Vec<String> = used.iter().map(ToString::to_string).collect();
        let (who, what) = (words(&names), plural("hostPort", used.len()));
        let detail = format!("{who} {verb} {what} {}", list.join(", "));
        Violation::new("hostPort", detail)
    })
}

/// A probe with a host lets the node's agent reach what the pod cannot.
fn host_probes(pod: PodView<'_>) -> Option<Violation> {
    let hosts = |container: &Value| {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"];
        let hooks = ["postStart", "preStop"];
        let handlers = probes
            .iter()
            .map(|probe| &container[*probe])
            .chain(hooks.iter().map(|hook| &container["lifecycle"][*hook]));
        handlers
            .flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]])
            .filter_map(Value::as_str)
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let names = named(pod, |container| !hosts(container).is_empty());
    let used: Vec<String> = all(pod)
        .flat_map(|(_, container)| hosts(container))
        .collect();
    (!names.is_empty()).then(|| {
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let used = distinct(used.iter().map(String::as_str));
        let what = plural("probe or lifecycle host", used.len());
        let detail = format!("{} {verb} {what} {}", words(&names), quoted(&used));
        Violation::new("probe or lifecycle host", detail)
    })
}

fn privileged(pod: PodView<'_>) -> Option<Violation> {
    let names = named(pod, |container| {
        container["securityContext"]["privileged"] == true
    });
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.privileged=true",
            words(&names)
        );
        Violation::new("privileged", detail)
    })
}

fn proc_mount(pod: PodView<'_>) -> Option<Violation> {
    let kind = |container: &Value| {
        container["securityContext"]["procMount"]
            .as_str()
            .filter(|kind| *kind != "Default")
            .map(str::to_owned)
    };
    let names = named(pod, |container| kind(container).is_some());
    let kinds: Vec<String> = all(pod)
        .filter_map(|(_, container)| kind(container))
        .collect();
    (!names.is_empty()).then(|| {
        let kinds = quoted(&distinct(kinds.iter().map(String::as_str)));
        let detail = format!(
            "{} must not set securityContext.procMount to {kinds}",
            words(&names)
        );
        Violation::new("procMount", detail)
    })
}

fn selinux(pod: PodView<'_>) -> Option<Violation> {
    let options = |holder: &Value| holder["securityContext"]["seLinuxOptions"].clone();
    let foreign = |options: &Value| {
        let kind = options["type"].as_str().unwrap_or("");
        (!SELINUX_TYPES.contains(&kind)).then(|| kind.to_owned())
    };
    let given =
        |options: &Value, field: &str| options[field].as_str().is_some_and(|text| !text.is_empty());
    let bad = |holder: &Value| {
        let options = options(holder);
        foreign(&options).is_some() || given(&options, "user") || given(&options, "role")
    };
    let by = setters(bad(pod.spec), &named(pod, bad))?;
    let every: Vec<Value> = std::iter::once(options(pod.spec))
        .chain(all(pod).map(|(_, container)| options(container)))
        .collect();
    let kinds: Vec<String> = every.iter().filter_map(foreign).collect();
    let kinds = distinct(kinds.iter().map(String::as_str));
    let mut data = Vec::new();
    if !kinds.is_empty() {
        data.push(format!(
            "{} {}",
            plural("type", kinds.len()),
            quoted(&kinds)
        ));
    }
    for field in ["user", "role"] {
        if every.iter().any(|options| given(options, field)) {
            data.push(format!("{field} may not be set"));
        }
    }
    let detail = format!(
        "{by} set forbidden securityContext.seLinuxOptions: {}",
        data.join("; ")
    );
    Some(Violation::new("seLinuxOptions", detail))
}

fn seccomp(pod: PodView<'_>) -> Option<Violation> {
    let unconfined =
        |holder: &Value| holder["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    let by = setters(unconfined(pod.spec), &named(pod, unconfined))?;
    let detail = format!("{by} must not set securityContext.seccompProfile.type to \"Unconfined\"");
    Some(Violation::new("seccompProfile", detail))
}

fn sysctls(pod: PodView<'_>) -> Option<Violation> {
    let names: Vec<&str> = items(&pod.spec["securityContext"]["sysctls"])
        .iter()
        .filter_map(|sysctl| sysctl["name"].as_str())
        .filter(|name| !SYSCTLS.contains(name))
        .collect();
    (!names.is_empty()).then(|| Violation::new("forbidden sysctls", names.join(", ")))
}

fn windows(pod: PodView<'_>) -> Option<Violation> {
    let host = |holder: &Value| holder["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let by = setters(host(pod.spec), &named(pod, host))?;
    let detail = format!("{by} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}
