//! Which client holds to which endpoint lives in the kernel's sets. Building the table anew would forget it, so what the old
//! table knows is read first and put into the new one: clients stay where they are over a restart of this process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

use corten_base::command::run;
use serde_json::Value;

use crate::ruleset::Ruleset;

/// Set to its clients, each with the seconds that it is still held.
pub type Held = BTreeMap<String, Vec<(Ipv4Addr, u64)>>;

/// What the kernel holds now; nothing when there is no table yet.
pub async fn read(table: &str) -> Held {
    match run("nft", &["-j", "list", "sets", "table", "ip", table], "").await {
        Ok(text) => parse(&text),
        Err(error) => {
            tracing::debug!(%error, "no earlier table");
            Held::new()
        }
    }
}

/// Reads nft's JSON. Clients without an end are ones that this proxy did not make; they are left out.
fn parse(text: &str) -> Held {
    let all: Value = serde_json::from_str(text).unwrap_or_default();
    let sets = all["nftables"].as_array().into_iter().flatten();
    let named = sets.filter_map(|entry| Some((entry["set"]["name"].as_str()?, &entry["set"])));
    named
        .map(|(name, set)| {
            let clients = set["elem"].as_array().into_iter().flatten();
            let clients = clients.filter_map(|client| {
                let ip = client["elem"]["val"].as_str()?.parse().ok()?;
                Some((ip, client["elem"]["expires"].as_u64()?))
            });
            (name.to_owned(), clients.collect())
        })
        .collect()
}

/// The script that gives the clients back to those sets that the new table still has.
pub fn restore(table: &str, held: &Held, rules: &Ruleset) -> String {
    let mut script = String::new();
    for (set, clients) in held {
        let Some(seconds) = rules.affinity.get(set) else {
            continue;
        };
        let elements: Vec<String> = clients
            .iter()
            .filter(|(_, left)| *left > 0)
            .map(|(ip, left)| format!("{ip} expires {}s", left.min(&u64::from(*seconds))))
            .collect();
        if !elements.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                script,
                "add element ip {table} {set} {{ {} }}",
                elements.join(", ")
            );
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_given_back_to_sets_that_still_exist() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
            {"set": {"family": "ip", "name": "aff-1", "table": "corten", "timeout": 10800,
                "elem": [{"elem": {"val": "10.0.0.1", "expires": 499}}, {"elem": {"val": "10.0.0.2", "expires": 0}}]}},
            {"set": {"family": "ip", "name": "aff-2", "table": "corten", "timeout": 60,
                "elem": [{"elem": {"val": "10.0.0.3", "expires": 90}}]}},
            {"set": {"family": "ip", "name": "aff-gone", "table": "corten",
                "elem": [{"elem": {"val": "10.0.0.4", "expires": 9}}]}}]}"#;
        let rules = Ruleset {
            affinity: [("aff-1".to_owned(), 10_800), ("aff-2".to_owned(), 60)].into(),
            ..Ruleset::default()
        };
        assert_eq!(
            restore("t", &parse(text), &rules),
            "add element ip t aff-1 { 10.0.0.1 expires 499s }\nadd element ip t aff-2 { 10.0.0.3 expires 60s }\n"
        );
        assert_eq!(restore("t", &parse("nonsense"), &rules), "");
    }
}
