//! What kubectl shows, over a backup, the loss of all members, a restore, the loss of a majority, and the recovery from the
//! survivor.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten::roles::Role;
use corten_e2e::cluster::{Cluster, binary, step};
use corten_e2e::wait::until;

const PATIENCE: Duration = Duration::from_secs(60);
const MEMBERS: [&str; 3] = ["h1", "h2", "h3"];

#[test]
fn objects_survive_a_restore_and_a_lost_quorum() {
    let cluster = Cluster::start("backup", 3, 1).expect("cluster");
    let done = backup_and_restore(&cluster).and_then(|()| lose_the_quorum(&cluster));
    done.unwrap_or_else(|error| panic!("{error:#}"));
}

fn config_of(cluster: &Cluster, host: &str) -> Result<String> {
    let plan = cluster.lab().plan();
    let host = plan.hosts.iter().find(|known| known.name == host);
    let dir = plan.host_dir(host.context("a host of the lab")?);
    let file = dir.join("config").join("store.toml");
    Ok(file.to_string_lossy().into_owned())
}

fn data_dir(config: &str) -> Result<String> {
    let text = std::fs::read_to_string(config)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("data-dir = "));
    Ok(line.context("no data-dir")?.trim_matches('"').to_owned())
}

/// Runs the launcher where the lab's hosts can be reached.
fn corten(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let out = cluster
        .lab()
        .beside(&binary()?.to_string_lossy())
        .args(args)
        .output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    ensure!(out.status.success(), "corten {args:?}: {said}");
    Ok(said)
}

/// Waits until kubectl shows exactly these ConfigMaps of ours.
fn shows(cluster: &Cluster, names: &[&str]) -> Result<()> {
    until("the objects", PATIENCE, || {
        let list = cluster.list("configmaps", "kept=yes");
        let list = list.map_err(|error| format!("{error:#}"))?;
        let mut found: Vec<String> = list
            .iter()
            .filter_map(|item| Some(item.pointer("/metadata/name")?.as_str()?.to_owned()))
            .collect();
        found.sort();
        if found == names {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
}

fn create(cluster: &Cluster, name: &str) -> Result<()> {
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{kept: \"yes\"}}}}\ndata: {{a: b}}\n"
    );
    until("a write", PATIENCE, || {
        let done = cluster.apply(&text).map(drop);
        done.map_err(|error| format!("{error:#}"))
    })
}

fn backup_and_restore(cluster: &Cluster) -> Result<()> {
    step("a backup over TLS");
    create(cluster, "a-before")?;
    let to = cluster.dir().join("backups");
    std::fs::create_dir(&to)?;
    let to = to.to_string_lossy().into_owned();
    let pki = cluster.lab().plan().dir.join("pki");
    let file = |name: &str| pki.join(name).to_string_lossy().into_owned();
    let endpoint = format!("https://{}:2379", cluster.lab().plan().hosts[1].ip);
    let said = corten(
        cluster,
        &[
            "backup",
            "--to",
            &to,
            "--endpoints",
            &endpoint,
            "--cacert",
            &file("store-ca.crt"),
            "--cert",
            &file("apiserver-store-client.crt"),
            "--key",
            &file("apiserver-store-client.key"),
        ],
    )?;
    ensure!(said.contains("verified"), "{said}");
    create(cluster, "b-after")?;
    shows(cluster, &["a-before", "b-after"])?;

    step("all members lost, and restored");
    for host in MEMBERS {
        cluster.lab().kill_host(host, Some(Role::Store))?;
    }
    for host in MEMBERS {
        let config = config_of(cluster, host)?;
        std::fs::remove_dir_all(data_dir(&config)?)?;
        corten(
            cluster,
            &[
                "restore",
                &to,
                "--config",
                &config,
                "--bump-revision=1000000",
                "--mark-compacted",
            ],
        )?;
    }
    for host in MEMBERS {
        cluster.lab().start_host(host, Some(Role::Store))?;
    }
    // Also out of the API servers' caches, which had seen what was lost.
    shows(cluster, &["a-before"])?;
    create(cluster, "c-restored")?;
    shows(cluster, &["a-before", "c-restored"])
}

fn lose_the_quorum(cluster: &Cluster) -> Result<()> {
    step("two of three lost, and one recovered");
    for host in MEMBERS {
        cluster.lab().kill_host(host, Some(Role::Store))?;
    }
    for host in ["h2", "h3"] {
        std::fs::remove_dir_all(data_dir(&config_of(cluster, host)?)?)?;
    }
    let config = config_of(cluster, "h1")?;
    let said = corten(
        cluster,
        &["recover-quorum", "--config", &config, "--lost=h2,h3"],
    )?;
    ensure!(said.contains("of the new cluster"), "{said}");
    cluster.lab().start_host("h1", Some(Role::Store))?;
    shows(cluster, &["a-before", "c-restored"])?;
    create(cluster, "d-recovered")?;
    shows(cluster, &["a-before", "c-restored", "d-recovered"])
}
