//! The clients that people have, unmodified, against one small cluster.
//!
//! | clients | file |
//! |---|---|
//! | client-go's informers (JSON and protobuf) and leader election, controller-runtime; the official Python and JavaScript clients | `programs` |
//! | kubectl of the two versions before and after ours, kustomize | `kubectls` |
//! | Helm 3 and Helm 4 | `helm` |
//! | kube-rs | `rust` |

mod helm;
mod kubectls;
mod programs;
mod rust;

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use corten_e2e::cluster::Cluster;
use corten_e2e::image::web;

#[test]
fn every_client_finds_what_it_expects() {
    let cluster = Cluster::start("clients", 1, 1).expect("cluster");
    for version in ["1", "2"] {
        cluster
            .push(&web(version), &format!("web:{version}"))
            .expect("an image");
    }
    let steps: [fn(&Cluster) -> Result<()>; 4] =
        [programs::run, kubectls::run, helm::run, rust::run];
    for run in steps {
        run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// A program of the cache, as the cluster's administrator, with its files inside the lab's folder.
fn client(cluster: &Cluster, program: &str) -> Command {
    let lab = cluster.lab();
    let mut command = lab.beside(program);
    command
        .env("KUBECONFIG", lab.kubeconfig())
        .env("HOME", cluster.dir().join("home"));
    command
}

/// Runs it; its standard output if it succeeds.
fn said(mut command: Command) -> Result<String> {
    let out = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        bail!("{command:?}: {text}{error}");
    }
    Ok(text)
}

fn has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    Ok(())
}
