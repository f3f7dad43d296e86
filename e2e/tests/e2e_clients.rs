//! Programs in Go over upstream's libraries, unmodified: informers in JSON and in protobuf, leader election, and a manager of
//! controller-runtime that reconciles. The program is `e2e/tools/clients`.

use anyhow::{Result, ensure};
use corten_e2e::cluster::{Cluster, step};

const STEPS: [&str; 4] = [
    "informers in JSON ok",
    "informers in protobuf ok",
    "leader election ok",
    "controller-runtime ok",
];

#[test]
fn programs_in_go_find_what_they_expect() {
    let cluster = Cluster::start("clients", 1, 1).expect("cluster");
    run(&cluster).unwrap_or_else(|error| panic!("{error:#}"));
}

fn run(cluster: &Cluster) -> Result<()> {
    let mut command = cluster.lab().beside("go-clients");
    let out = command
        .env("KUBECONFIG", cluster.lab().kubeconfig())
        .output()?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    step(&format!("the clients said:\n{said}"));
    ensure!(
        out.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    ensure!(said.lines().eq(STEPS), "{said}");
    Ok(())
}
