//! Linux capabilities of a container. Pure; the result never exceeds what this process may hand out.

use k8s_openapi::api::core::v1::SecurityContext;

/// Every capability by number.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has when it asks for nothing: the set every CRI runtime gives.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities as the kernel's bit mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilityMask(pub u64);

impl CapabilityMask {
    /// The bounding set in the text of /proc/self/status.
    pub fn bounding_of(status: &str) -> Self {
        let hex = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        Self(
            hex.and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
                .unwrap_or(0),
        )
    }

    /// Whether the set holds a capability given without its `CAP_` prefix.
    pub fn has(self, name: &str) -> bool {
        ALL.iter()
            .position(|known| *known == name)
            .is_some_and(|bit| self.0 >> bit & 1 == 1)
    }
}

/// The mask of a list of `CAP_` names.
pub fn mask_of(names: &[String]) -> CapabilityMask {
    let bits = names.iter().filter_map(|name| {
        let short = name.trim_start_matches("CAP_");
        ALL.iter().position(|known| *known == short)
    });
    CapabilityMask(bits.fold(0, |mask, bit| mask | 1 << bit))
}

/// The capabilities of a container with their `CAP_` prefix, clamped to `bounding`.
pub fn of(context: Option<&SecurityContext>, bounding: CapabilityMask) -> Vec<String> {
    let privileged = context.and_then(|c| c.privileged) == Some(true);
    let changes = context
        .and_then(|c| c.capabilities.clone())
        .unwrap_or_default();
    let normal = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
    let add: Vec<String> = changes.add.iter().flatten().map(normal).collect();
    let drop: Vec<String> = changes.drop.iter().flatten().map(normal).collect();
    let all_added = privileged || add.iter().any(|name| name == "ALL");
    let all_dropped = !privileged && drop.iter().any(|name| name == "ALL");
    ALL.iter()
        .filter(|name| {
            let added = add.iter().any(|other| other == *name);
            let dropped = !privileged && drop.iter().any(|other| other == *name);
            let granted = if all_added {
                !dropped
            } else if all_dropped {
                added
            } else {
                DEFAULT.contains(name) && !dropped || added
            };
            granted && bounding.has(name)
        })
        .map(|name| format!("CAP_{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(context: serde_json::Value, bounding: u64) -> Vec<String> {
        let context: SecurityContext = serde_json::from_value(context).expect("a context");
        of(Some(&context), CapabilityMask(bounding))
    }

    #[test]
    fn table() {
        let full = (1 << 41) - 1;
        assert_eq!(count(json!({}), full).len(), 14);
        assert_eq!(count(json!({"privileged": true}), full).len(), 41);
        assert_eq!(
            count(json!({"privileged": true}), full & !(1 << 24)).len(),
            40
        );
        assert_eq!(
            count(
                json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
                full
            ),
            ["CAP_NET_BIND_SERVICE"]
        );
        assert_eq!(
            count(
                json!({"capabilities": {"add": ["CAP_SYS_TIME"], "drop": ["KILL"]}}),
                full
            )
            .len(),
            14
        );
        assert_eq!(
            count(
                json!({"capabilities": {"add": ["ALL"], "drop": ["KILL"]}}),
                full
            )
            .len(),
            40
        );
        assert!(!CapabilityMask::bounding_of("CapBnd:\t000001fffeffffff\n").has("SYS_RESOURCE"));
    }
}
