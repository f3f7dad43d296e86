//! Level restricted: what is considered good practice for a hardened pod, beyond baseline.

use serde_json::Value;

use super::containers::{all, distinct, items, named, plural, quoted, setters, texts, words};
use super::{PodView, Violation};

/// Volumes that bring nothing of the host along.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Violations in the order of the checks' names.
pub(super) fn all_of(pod: PodView<'_>) -> Vec<Violation> {
    // What means nothing on Windows is not asked for there.
    let linux = pod.spec["os"]["name"] != "windows";
    let mut found = Vec::new();
    if linux {
        found.extend(privilege_escalation(pod));
        found.extend(capabilities(pod));
    }
    found.extend(volumes(pod));
    found.extend(non_root(pod));
    found.extend(user(pod));
    if linux {
        found.extend(seccomp(pod));
    }
    found
}

fn privilege_escalation(pod: PodView<'_>) -> Option<Violation> {
    let names = named(pod, |container| {
        container["securityContext"]["allowPrivilegeEscalation"] != false
    });
    (!names.is_empty()).then(|| {
        let who = words(&names);
        let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
        Violation::new("allowPrivilegeEscalation != false", detail)
    })
}

fn capabilities(pod: PodView<'_>) -> Option<Violation> {
    let of = |container: &Value, list: &str| {
        texts(&container["securityContext"]["capabilities"][list])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let foreign = |container: &Value| {
        let mut added = of(container, "add");
        added.retain(|name| name != "NET_BIND_SERVICE");
        added
    };
    let keeping = named(pod, |container| {
        !of(container, "drop").iter().any(|name| name == "ALL")
    });
    let adding = named(pod, |container| !foreign(container).is_empty());
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = words(&keeping);
        details.push(format!(
            "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    if !adding.is_empty() {
        let added: Vec<String> = all(pod)
            .flat_map(|(_, container)| foreign(container))
            .collect();
        let added = quoted(&distinct(added.iter().map(String::as_str)));
        let who = words(&adding);
        details.push(format!(
            "{who} must not include {added} in securityContext.capabilities.add"
        ));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

fn volumes(pod: PodView<'_>) -> Option<Violation> {
    let source = |volume: &Value| {
        let fields = volume.as_object().into_iter().flatten();
        let mut sources = fields.filter(|(key, value)| *key != "name" && !value.is_null());
        // A volume without a source is made an emptyDir.
        sources
            .next()
            .map_or("emptyDir", |(key, _)| key.as_str())
            .to_owned()
    };
    let bad: Vec<(&str, String)> = items(&pod.spec["volumes"])
        .iter()
        .map(|volume| (volume["name"].as_str().unwrap_or(""), source(volume)))
        .filter(|(_, source)| !VOLUMES.contains(&source.as_str()))
        .collect();
    (!bad.is_empty()).then(|| {
        let names: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
        let kinds = distinct(bad.iter().map(|(_, kind)| kind.as_str()));
        let verb = if names.len() == 1 { "uses" } else { "use" };
        let detail = format!(
            "{} {} {verb} {} {}",
            plural("volume", names.len()),
            quoted(&names),
            plural("restricted volume type", kinds.len()),
            quoted(&kinds)
        );
        Violation::new("restricted volume types", detail)
    })
}

fn non_root(pod: PodView<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let set = |holder: &Value| holder["securityContext"]["runAsNonRoot"].as_bool();
    let refuses = |holder: &Value| set(holder) == Some(false);
    if let Some(by) = setters(refuses(pod.spec), &named(pod, refuses)) {
        let detail = format!("{by} must not set securityContext.runAsNonRoot=false");
        return Some(Violation::new(REASON, detail));
    }
    let silent = named(pod, |container| set(container).is_none());
    (set(pod.spec) != Some(true) && !silent.is_empty()).then(|| {
        let who = words(&silent);
        let detail = format!("pod or {who} must set securityContext.runAsNonRoot=true");
        Violation::new(REASON, detail)
    })
}

fn user(pod: PodView<'_>) -> Option<Violation> {
    let root = |holder: &Value| holder["securityContext"]["runAsUser"] == 0;
    let by = setters(root(pod.spec), &named(pod, root))?;
    let detail = format!("{by} must not set runAsUser=0");
    Some(Violation::new("runAsUser=0", detail))
}

fn seccomp(pod: PodView<'_>) -> Option<Violation> {
    const REASON: &str = "seccompProfile";
    let kind = |holder: &Value| {
        holder["securityContext"]["seccompProfile"]["type"]
            .as_str()
            .map(str::to_owned)
    };
    let good = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let bad = |holder: &Value| kind(holder).is_some_and(|kind| !good(&kind));
    if let Some(by) = setters(bad(pod.spec), &named(pod, bad)) {
        let kinds: Vec<String> = std::iter::once(pod.spec)
            .chain(all(pod).map(|(_, container)| container))
            .filter_map(kind)
            .filter(|kind| !good(kind))
            .collect();
        let kinds = quoted(&distinct(kinds.iter().map(String::as_str)));
        let detail = format!("{by} must not set securityContext.seccompProfile.type to {kinds}");
        return Some(Violation::new(REASON, detail));
    }
    let silent = named(pod, |container| kind(container).is_none());
    (kind(pod.spec).is_none() && !silent.is_empty()).then(|| {
        let who = words(&silent);
        let detail = format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        );
        Violation::new(REASON, detail)
    })
}
