//! The dependency policy: licences that we may ship, crates that we never link, how many packages and duplicates are borne.
//! Reads what cargo resolved for our target; asks no network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Licences that ask for no more than a notice (MPL-2.0: changes to its own files stay open, which we make none of).
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "MPL-2.0",
    "MPL-2.0+",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
];
/// Never linked: one TLS stack and one crypto provider is enough, and these are not it.
const BANNED: &[&str] = &["openssl-sys", "openssl", "native-tls", "ring", "serde_yaml"];
/// Packages that are built for Linux into what ships; the aim is fewer.
const PACKAGES_MAX: usize = 415;
/// Packages beside them that only tests have: kube-rs is one of the clients that must find all as it expects.
const TEST_PACKAGES_MAX: usize = 55;
/// Names that come in more than one version; each is a debt.
const DUPLICATES_MAX: usize = 25;

pub(crate) fn run(_args: &Args) -> Result<()> {
    let faults = check()?;
    if faults.is_empty() {
        return Ok(());
    }
    bail!("the dependency policy is broken:\n{}", faults.join("\n"))
}

fn check() -> Result<Vec<String>> {
    let text = tree("normal,build,dev")?;
    let lines = packages(&text);
    let shipped = packages(&tree("normal,build")?).len();
    let mut faults = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in &lines {
        let (package, licence) = line.split_once('|').unwrap_or((line, "none"));
        let mut words = package.split(' ');
        let (name, version) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        versions.entry(name).or_default().insert(version);
        if BANNED.contains(&name) {
            faults.push(format!("{name} is banned"));
        }
        if !is_allowed(licence.trim()) {
            faults.push(format!("{name}: licence {licence:?} is not on the list"));
        }
    }
    let duplicates = versions.values().filter(|found| found.len() > 1).count();
    for (what, count, max) in [
        ("packages", shipped, PACKAGES_MAX),
        (
            "packages for tests",
            lines.len() - shipped,
            TEST_PACKAGES_MAX,
        ),
    ] {
        if count > max {
            faults.push(format!("{count} {what}, at most {max} are borne"));
        }
    }
    if duplicates > DUPLICATES_MAX {
        faults.push(format!(
            "{duplicates} names come in several versions, at most {DUPLICATES_MAX} are borne"
        ));
    }
    Ok(faults)
}

/// What cargo resolved along these edges, a line for each package.
fn tree(edges: &str) -> Result<String> {
    // `cargo tree` and not `cargo metadata`: the latter lists optional packages that no feature turns on.
    let out = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["tree", "--workspace", "--locked", "--prefix=none"])
        .args(["--format={p}|{l}", "--target=x86_64-unknown-linux-gnu"])
        .arg(format!("--edges={edges}"))
        .current_dir(crate::root())
        .output()
        .context("cargo tree")?;
    if !out.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Each package once: one that was shown before is marked with (*).
fn packages(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.contains("(*)"))
        .collect()
}

/// One allowed alternative is enough; every part of a conjunction must be allowed.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|licence| LICENCES.contains(&licence.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_combine() {
        assert!(is_allowed("MIT OR Apache-2.0") && is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(
            !is_allowed("GPL-3.0-only") && !is_allowed("MIT AND GPL-3.0") && !is_allowed("none")
        );
    }
}
