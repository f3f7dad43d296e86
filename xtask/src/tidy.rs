//! Checks that clippy and rustfmt do not make: file sizes, headers, crate edges, shared versions and lints, links in docs.
//! Runs as `cargo run -p xtask -- tidy` and as an ordinary test. It reads the tree, and writes nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::edges::TABLE;

/// Files longer than this fail; the aim is under 300 (style 9).
const LINES_MAX: usize = 800;
/// Inline tests longer than this move to a file of their own (style 9).
const INLINE_TEST_LINES_MAX: usize = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    let root = crate::root();
    let faults = check(&root)?;
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "tidy found {} fault(s):\n{}",
        faults.len(),
        faults.join("\n")
    )
}

fn check(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in tracked(root)? {
        let path = root.join(&file);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        }; // removed, or not text
        if file.ends_with(".rs") && !file.contains("/generated/") {
            rust_file(&file, &text, &mut faults);
        }
        if file.ends_with("Cargo.toml") && file != "Cargo.toml" {
            manifest(&file, &text, &mut faults)?;
        }
        if file.ends_with(".md") {
            links(root, &file, &text, &mut faults);
        }
    }
    Ok(faults)
}

fn tracked(root: &Path) -> Result<Vec<String>> {
    let out = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    Ok(String::from_utf8_lossy(&out.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

fn rust_file(file: &str, text: &str, faults: &mut Vec<String>) {
    if !text.starts_with("//!") {
        faults.push(format!("{file}: opens without a `//!` header (style 58)"));
    }
    if file.ends_with("/mod.rs") {
        faults.push(format!("{file}: use x.rs beside x/, not mod.rs (style 8)"));
    }
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > LINES_MAX {
        faults.push(format!(
            "{file}: {} lines, the wall is {LINES_MAX} (style 9)",
            lines.len()
        ));
    }
    if let Some(start) = lines
        .windows(2)
        .position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod ") && w[1].ends_with('{'))
    {
        let length = lines.len() - start;
        if length > INLINE_TEST_LINES_MAX {
            faults.push(format!(
                "{file}: {length} lines of inline tests; move them to a tests.rs (style 9)"
            ));
        }
    }
}

fn manifest(file: &str, text: &str, faults: &mut Vec<String>) -> Result<()> {
    let manifest: toml::Table = text.parse().with_context(|| file.to_owned())?;
    let name = manifest
        .get("package")
        .and_then(|p| p.get("name"))
        .and_then(toml::Value::as_str)
        .unwrap_or_default();
    if manifest
        .get("lints")
        .and_then(|l| l.get("workspace"))
        .and_then(toml::Value::as_bool)
        != Some(true)
    {
        faults.push(format!(
            "{file}: does not take the workspace's lints (style 70)"
        ));
    }
    let Some(edges) = TABLE.iter().find(|e| e.name == name) else {
        faults.push(format!("{file}: {name} is not in xtask/src/edges.rs"));
        return Ok(());
    };
    for (section, dev) in [
        ("dependencies", false),
        ("build-dependencies", false),
        ("dev-dependencies", true),
    ] {
        let Some(table) = manifest.get(section).and_then(toml::Value::as_table) else {
            continue;
        };
        for (dependency, value) in table {
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                faults.push(format!("{file}: {dependency} names its version here; the workspace table is the only place (style 73)"));
            }
            let allowed = edges.normal.contains(&dependency.as_str())
                || (dev && edges.dev.contains(&dependency.as_str()));
            if dependency.starts_with("corten") && !allowed && dependency != name {
                faults.push(format!(
                    "{file}: {name} -> {dependency} is not an edge of the table (style 4)"
                ));
            }
        }
    }
    Ok(())
}

/// Relative links in docs must lead somewhere.
fn links(root: &Path, file: &str, text: &str, faults: &mut Vec<String>) {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    for part in text.split("](").skip(1) {
        let Some(target) = part.split(')').next() else {
            continue;
        };
        let target = target.split('#').next().unwrap_or_default();
        if target.is_empty() || target.contains("://") || target.contains(' ') {
            continue;
        }
        if !root.join(folder).join(target).exists() {
            faults.push(format!("{file}: link to {target} leads nowhere"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let faults = check(&crate::root()).expect("readable tree");
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn a_forbidden_edge_is_seen() {
        let mut faults = Vec::new();
        let text = "[package]\nname = \"corten-store\"\n[lints]\nworkspace = true\n[dependencies]\ncorten-api.workspace = true\n";
        manifest("store/Cargo.toml", text, &mut faults).expect("valid");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("corten-store -> corten-api"));
    }

    #[test]
    fn a_long_or_headless_file_is_seen() {
        let mut faults = Vec::new();
        rust_file("a/src/b.rs", &"// x\n".repeat(LINES_MAX + 1), &mut faults);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
