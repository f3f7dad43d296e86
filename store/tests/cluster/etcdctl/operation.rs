//! What an operator asks: health, status, hashes, snapshots, alarms, who leads.

use corten_store::archive::Secret;
use corten_store::{Config, Refounding, restore};

use super::command::Etcdctl;
use super::start;
use crate::harness::wait_for;
use crate::process::Processes;

/// With and without a scheme: etcdctl 3.4 names the endpoint as it was spelled in its requests.
fn spellings(processes: &Processes) -> [String; 2] {
    let all = |with: fn(String) -> String| {
        let urls = (0..processes.client_ports.len()).map(|i| with(processes.client_url(i)));
        urls.collect::<Vec<_>>().join(",")
    };
    [
        all(|url| url),
        all(|url| url.trim_start_matches("http://").to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_asks_for_status_health_and_hashes() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        etcdctl.ok(&["put", "k", "v"]).await;
        for endpoints in spellings(&processes) {
            let etcdctl = etcdctl.at(&endpoints);
            let status = etcdctl.ok(&["endpoint", "status"]).await;
            assert_eq!(status.lines().count(), 3, "{status}");
            let leaders = status
                .lines()
                .filter(|line| line.contains(", true, "))
                .count();
            assert_eq!(leaders, 1, "{status}");
            assert!(
                status.lines().all(|line| line.contains(", 3.6.")),
                "{status}"
            );
            let table = etcdctl.ok(&["endpoint", "status", "-w", "table"]).await;
            assert!(table.contains("RAFT TERM"), "{table}");
            let said = etcdctl.run(&["endpoint", "health"], "").await;
            let health = format!("{}{}", said.out, said.err);
            assert!(said.ok, "{health}");
            assert_eq!(health.matches("is healthy").count(), 3, "{health}");
            wait_for("all members to publish where they are", async || {
                let alone = etcdctl.at(&processes.client_url(0));
                let status = alone.ok(&["endpoint", "status", "--cluster"]).await;
                (status.lines().count() == 3).then_some(())
            })
            .await;
            wait_for("equal hashes on all members", async || {
                let hashes = etcdctl.ok(&["endpoint", "hashkv"]).await;
                let all: Vec<&str> = hashes
                    .lines()
                    .filter_map(|line| line.split(", ").nth(1))
                    .collect();
                assert_eq!(all.len(), 3, "{hashes}");
                all.iter().all(|hash| *hash == all[0]).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_saves_snapshots_defragments_and_lists_alarms() {
    let processes = start().await;
    let dir = tempfile::tempdir().expect("temp dir");
    for etcdctl in Etcdctl::all(&processes).await {
        etcdctl.ok(&["put", &etcdctl.name("saved"), "v"]).await;
        let file = dir.path().join(etcdctl.name("backup").replace('/', "-"));
        let one = etcdctl.at(&processes.client_url(0));
        one.ok(&["snapshot", "save", file.to_str().expect("text")])
            .await;
        let size = std::fs::metadata(&file).expect("written").len();
        assert_eq!(size % 512, 32, "the checksum is part of the file");
        let config = Config {
            data_dir: file.with_extension("restored"),
            ..Config::default()
        };
        let restored =
            restore(&config, &file, &Secret::None, Refounding::default()).expect("restored");
        assert_eq!(restored.revision, etcdctl.revision().await);
        let said = etcdctl.run(&["defrag"], "").await;
        let text = format!("{}{}", said.out, said.err);
        assert!(said.ok, "{text}");
        assert_eq!(text.matches("Finished defragmenting").count(), 3, "{text}");
        etcdctl.prints(&["alarm", "list"], &[]).await;
        etcdctl.prints(&["alarm", "disarm"], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_moves_the_leadership() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let leader = processes.leader().await;
        let target = (leader + 1) % 3;
        let id = processes.member_id(target).await;
        let said = etcdctl.ok(&["move-leader", &format!("{id:x}")]).await;
        assert!(said.starts_with("Leadership transferred from"), "{said}");
        wait_for("the new leader", async || {
            (processes.leader().await == target).then_some(())
        })
        .await;
        etcdctl.ok(&["put", &etcdctl.name("after"), "v"]).await;
    }
}
