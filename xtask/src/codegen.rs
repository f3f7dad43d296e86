//! `xtask codegen`: writes `api/src/generated/schema.tsv`, the table of every field of the Kubernetes API.
//!
//! It reads the sources of two crates in the cargo registry: k8s-openapi (JSON names, types, what is required) and k8s-pb
//! (protobuf tags, and the markers upstream keeps in its comments: list types, map keys, merge keys, defaults). Only facts
//! are written, no descriptions. Invariant: the same sources give the same bytes.

mod join;
mod openapi;
mod protobuf;
mod rust_type;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// The Kubernetes version whose types are taken: the one at which both crates agree.
const VERSION: &str = "v1_35";

/// Where the table goes.
const TABLE: &str = "api/src/generated/schema.tsv";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say whether the committed table is fresh.
    #[arg(long)]
    check: bool,
}

/// Writes the table, or with `--check` compares it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = crate::root();
    let table = generate(&root)?;
    let path = root.join(TABLE);
    if args.check {
        if std::fs::read_to_string(&path)? != table {
            bail!("{TABLE} is stale: run `cargo run -p xtask -- codegen`");
        }
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().context("the table lies in a folder")?)?;
    std::fs::write(&path, table)?;
    Ok(())
}

fn generate(root: &Path) -> anyhow::Result<String> {
    let sources = sources(root)?;
    let types = openapi::read(&sources.openapi.join("src").join(VERSION))?;
    let messages = protobuf::read(&sources.protobuf.join("src"))?;
    join::table(&types, &messages)
}

struct Sources {
    openapi: PathBuf,
    protobuf: PathBuf,
}

fn sources(root: &Path) -> anyhow::Result<Sources> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?;
    let find = |name: &str| {
        let package = packages.iter().find(|package| package["name"] == name);
        let manifest = package.and_then(|package| package["manifest_path"].as_str());
        manifest
            .and_then(|path| Path::new(path).parent())
            .map(Path::to_owned)
            .with_context(|| format!("no package {name}"))
    };
    Ok(Sources {
        openapi: find("k8s-openapi")?,
        protobuf: find("k8s-pb")?,
    })
}

/// Every `.rs` file below `folder`, in name order.
fn rust_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Named by the table's header: generated files are never edited.
    #[test]
    fn the_committed_table_is_fresh() {
        let present = sources(&crate::root())
            .is_ok_and(|sources| sources.openapi.exists() && sources.protobuf.exists());
        if present {
            run(&Args { check: true }).expect("the table is fresh");
        }
    }
}
