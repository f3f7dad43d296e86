//! The dependency policy: licences that we may ship, crates that we never link, how many packages and duplicates are borne.
//! Reads what cargo resolved for our target; asks no network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub struct Args {}

/// Licences that ask for no more than a notice (MPL-2.0: changes to its own files stay open, which we make none of).
const LICENCES: &[&str] = &[
    "MIT", "MIT-0", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "0BSD",
    "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "MPL-2.0", "OpenSSL", "Unicode-3.0", "Unlicense",
];
/// Never linked: one TLS stack and one crypto provider is enough, and these are not it.
const BANNED: &[&str] = &["openssl-sys", "openssl", "native-tls", "ring", "serde_yaml"];
/// Packages that are built for Linux; the aim is fewer.
const PACKAGES_MAX: usize = 520;
/// Names that come in more than one version; each is a debt.
const DUPLICATES_MAX: usize = 60;

pub fn run(_args: &Args) -> Result<()> {
    let faults = check()?;
    if faults.is_empty() {
        return Ok(());
    }
    bail!("the dependency policy is broken:\n{}", faults.join("\n"))
}

fn check() -> Result<Vec<String>> {
    let out = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(crate::tidy::root())
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&out.stdout).context("cargo metadata printed no JSON")?;
    let used: BTreeSet<&str> = metadata["resolve"]["nodes"].as_array().into_iter().flatten().filter_map(|n| n["id"].as_str()).collect();
    let packages: Vec<&Value> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| package["id"].as_str().is_some_and(|id| used.contains(id)))
        .collect();
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        *versions.entry(name).or_default() += 1;
        if BANNED.contains(&name) {
            faults.push(format!("{name} is banned"));
        }
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence) {
            faults.push(format!("{name}: licence {licence:?} is not on the list"));
        }
    }
    let duplicates = versions.values().filter(|count| **count > 1).count();
    if packages.len() > PACKAGES_MAX {
        faults.push(format!("{} packages, at most {PACKAGES_MAX} are borne", packages.len()));
    }
    if duplicates > DUPLICATES_MAX {
        faults.push(format!("{duplicates} names come in several versions, at most {DUPLICATES_MAX} are borne"));
    }
    Ok(faults)
}

/// One allowed alternative is enough; every part of a conjunction must be allowed.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_combine() {
        assert!(is_allowed("MIT OR Apache-2.0") && is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(!is_allowed("GPL-3.0-only") && !is_allowed("MIT AND GPL-3.0") && !is_allowed("none"));
    }
}
