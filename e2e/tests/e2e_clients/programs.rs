//! Programs over upstream's libraries. Each says a line per step that came out as it expects: the programs are in `e2e/tools`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use corten_e2e::cluster::{Cluster, step};

use crate::{client, said};

const GO: &[&str] = &[
    "informers in JSON",
    "informers in protobuf",
    "leader election",
    "controller-runtime",
];
const PYTHON: &[&str] = &["objects", "watches", "the dynamic client", "pods"];
const JAVASCRIPT: &[&str] = &["objects", "informers", "any kind", "pods"];

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    runs(cluster, "go-clients", &[], GO)?;
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/python/clients.py");
    let python = installed("python-clients/bin/python")?;
    runs(cluster, &python, &[source], PYTHON)?;
    let source = installed("javascript-clients/clients.mjs")?;
    runs(cluster, "node", &[&source], JAVASCRIPT)
}

/// A file of the cache, where `xtask/setup/clients.sh` puts what it installs: it is in the search path.
fn installed(file: &str) -> Result<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder: PathBuf| folder.join(file))
        .find(|candidate| candidate.exists());
    let found =
        found.with_context(|| format!("{file} is not there; `make setup-test` makes it"))?;
    Ok(found.display().to_string())
}

fn runs(cluster: &Cluster, program: &str, args: &[&str], steps: &[&str]) -> Result<()> {
    let mut command = client(cluster, program);
    command.args(args);
    let text = said(command)?;
    step(&format!("{program} {args:?} said:\n{text}"));
    let expected = steps.iter().map(|step| format!("{step} ok"));
    ensure!(text.lines().map(str::to_owned).eq(expected), "{text}");
    Ok(())
}
