//! nft scripts: one that builds a whole table in place of whatever stands, and one that turns an applied rule set into
//! another. Either is one transaction: all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{MASQUERADE_MARK, NodePortKey, Ruleset, Scope, ServiceKey};

/// Builds the table anew. Connections that are already translated keep going: the kernel's connection tracking holds them.
pub fn full(table: &str, rules: &Ruleset, scope: &Scope) -> String {
    let mut script = format!("add table ip {table}\ndelete table ip {table}\n");
    script.push_str(&skeleton(table, scope));
    script.push_str(&diff(table, &Ruleset::default(), rules));
    script
}

/// The fixed part: maps, hooks and the chains that they use.
fn skeleton(table: &str, scope: &Scope) -> String {
    let mark = format!("{MASQUERADE_MARK:#x}");
    let pods = scope.pod_cidr;
    format!(
        "table ip {table} {{
  map services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map nodeports {{ type inet_proto . inet_service : verdict; }}
  map closed {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map closed-nodeports {{ type inet_proto . inet_service : verdict; }}
  chain mark-masquerade {{
    meta mark set meta mark or {mark}
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmp type port-unreachable
  }}
  chain dispatch {{
    ip daddr . meta l4proto . th dport vmap @services
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @nodeports
  }}
  chain closed-ports {{
    ip daddr . meta l4proto . th dport vmap @closed
    fib daddr type local meta l4proto . th dport vmap @closed-nodeports
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority -100; policy accept;
    jump dispatch
  }}
  chain nat-output {{
    type nat hook output priority -100; policy accept;
    jump dispatch
  }}
  chain nat-postrouting {{
    type nat hook postrouting priority 100; policy accept;
    meta mark and {mark} == {mark} meta mark set meta mark xor {mark} masquerade fully-random
    ip saddr {pods} ip daddr != {pods} fib daddr type != local oifname != \"lo\" masquerade fully-random
  }}
  chain filter-forward {{
    type filter hook forward priority -5; policy accept;
    ct state new meta mark and 0x8000 == 0x8000 drop
    ct state new jump closed-ports
  }}
  chain filter-input {{
    type filter hook input priority -5; policy accept;
    ct state new jump closed-ports
  }}
  chain filter-output {{
    type filter hook output priority -5; policy accept;
    ct state new jump closed-ports
  }}
}}
"
    )
}

/// The script from `old` to `new`; empty when nothing differs.
#[expect(
    clippy::too_many_lines,
    reason = "the order of the steps is the point, and reads top to bottom"
)]
pub fn diff(table: &str, old: &Ruleset, new: &Ruleset) -> String {
    let mut script = String::new();
    // What is referred to is declared before and removed after what refers to it.
    for (set, seconds) in &new.affinity {
        if old.affinity.get(set) != Some(seconds) {
            if old.affinity.contains_key(set) {
                line(&mut script, &format!("flush set ip {table} {set}"));
                continue; // a set's timeout cannot change in place: entries keep the old one
            }
            line(
                &mut script,
                &format!(
                    "add set ip {table} {set} {{ type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; }}"
                ),
            );
        }
    }
    for chain in new
        .chains
        .keys()
        .filter(|chain| !old.chains.contains_key(*chain))
    {
        line(&mut script, &format!("add chain ip {table} {chain}"));
    }
    for (chain, rules) in &new.chains {
        if old.chains.get(chain) == Some(rules) {
            continue;
        }
        line(&mut script, &format!("flush chain ip {table} {chain}"));
        for rule in rules {
            line(&mut script, &format!("add rule ip {table} {chain} {rule}"));
        }
    }
    map(
        &mut script,
        table,
        "services",
        &old.services,
        &new.services,
        service_key,
    );
    map(
        &mut script,
        table,
        "nodeports",
        &old.nodeports,
        &new.nodeports,
        nodeport_key,
    );
    map(
        &mut script,
        table,
        "closed",
        &refused(&old.closed),
        &refused(&new.closed),
        service_key,
    );
    map(
        &mut script,
        table,
        "closed-nodeports",
        &refused(&old.closed_nodeports),
        &refused(&new.closed_nodeports),
        nodeport_key,
    );
    let gone: Vec<&String> = old
        .chains
        .keys()
        .filter(|chain| !new.chains.contains_key(*chain))
        .collect();
    for chain in &gone {
        line(&mut script, &format!("flush chain ip {table} {chain}"));
    }
    for chain in gone {
        line(&mut script, &format!("delete chain ip {table} {chain}"));
    }
    for set in old
        .affinity
        .keys()
        .filter(|set| !new.affinity.contains_key(*set))
    {
        line(&mut script, &format!("delete set ip {table} {set}"));
    }
    script
}

fn refused<K: Ord + Clone>(keys: &BTreeSet<K>) -> BTreeMap<K, String> {
    keys.iter()
        .map(|key| (key.clone(), "refuse".to_owned()))
        .collect()
}

fn map<K: Ord>(
    script: &mut String,
    table: &str,
    name: &str,
    old: &BTreeMap<K, String>,
    new: &BTreeMap<K, String>,
    text: fn(&K) -> String,
) {
    let changed =
        |other: &BTreeMap<K, String>, key: &K, chain: &String| other.get(key) != Some(chain);
    let delete: Vec<String> = old
        .iter()
        .filter(|(k, c)| changed(new, k, c))
        .map(|(k, _)| text(k))
        .collect();
    let add: Vec<String> = new
        .iter()
        .filter(|(k, c)| changed(old, k, c))
        .map(|(k, chain)| format!("{} : goto {chain}", text(k)))
        .collect();
    if !delete.is_empty() {
        line(
            script,
            &format!(
                "delete element ip {table} {name} {{ {} }}",
                delete.join(", ")
            ),
        );
    }
    if !add.is_empty() {
        line(
            script,
            &format!("add element ip {table} {name} {{ {} }}", add.join(", ")),
        );
    }
}

fn service_key(key: &ServiceKey) -> String {
    format!("{} . {} . {}", key.0, key.1, key.2)
}

fn nodeport_key(key: &NodePortKey) -> String {
    format!("{} . {}", key.0, key.1)
}

fn line(script: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(script, "{text}");
}
