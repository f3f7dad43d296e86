//! Members: list, add, promote, update, remove, with a real member that joins.

use super::command::Etcdctl;
use super::start;
use crate::harness::wait_for;

/// One line of `member list`: id, status, name, peer URLs, client URLs, learner.
async fn members(etcdctl: &Etcdctl) -> Vec<Vec<String>> {
    let list = etcdctl.ok(&["member", "list"]).await;
    list.lines()
        .map(|line| line.split(", ").map(ToOwned::to_owned).collect())
        .collect()
}

async fn member(etcdctl: &Etcdctl, id: &str) -> Option<Vec<String>> {
    members(etcdctl).await.into_iter().find(|row| row[0] == id)
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_adds_promotes_updates_and_removes_members() {
    let mut processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        wait_for("all members to publish themselves", async || {
            let all = members(&etcdctl).await;
            let ready = |row: &Vec<String>| row[1] == "started" && row[4].starts_with("http");
            (all.len() == 3 && all.iter().all(ready)).then_some(())
        })
        .await;
        let (name, port) = (format!("new{}", etcdctl.minor), crate::harness::free_port());
        let url = format!("http://127.0.0.1:{port}");
        let urls = format!("--peer-urls={url}");
        let added = etcdctl
            .ok(&["member", "add", &name, &urls, "--learner"])
            .await;
        // Member 8e9e05c52164694d added as learner to cluster ...
        let id = added.split_whitespace().nth(1).expect("an id").to_owned();
        assert!(
            added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""),
            "{added}"
        );
        let again = etcdctl
            .refused(&["member", "add", &name, &urls, "--learner"])
            .await;
        assert!(again.contains("Peer URLs already exists"), "{again}");
        let early = etcdctl.refused(&["member", "promote", &id]).await;
        assert!(early.contains("in sync with leader"), "{early}");

        let joined = processes.join(&name, port);
        wait_for("the learner to start and catch up", async || {
            let row = member(&etcdctl, &id).await?;
            (row[1] == "started" && row[2] == name && row[5] == "true").then_some(())
        })
        .await;
        wait_for("the promotion", async || {
            let said = etcdctl.run(&["member", "promote", &id], "").await;
            said.ok.then_some(())
        })
        .await;
        let row = member(&etcdctl, &id).await.expect("listed");
        assert_eq!(row[5], "false", "{row:?}");
        let twice = etcdctl.refused(&["member", "promote", &id]).await;
        assert!(
            twice.contains("can only promote a learner member"),
            "{twice}"
        );

        // The new member answers, and so does the cluster through it.
        let through = etcdctl.at(&processes.client_url(joined));
        through.ok(&["put", &etcdctl.name("through"), "v"]).await;
        let moved = format!("--peer-urls={url},http://localhost:{port}");
        etcdctl.ok(&["member", "update", &id, &moved]).await;
        let row = member(&etcdctl, &id).await.expect("listed");
        assert!(row.iter().any(|part| part.contains("localhost")), "{row:?}");

        let removed = etcdctl.ok(&["member", "remove", &id]).await;
        assert!(removed.contains("removed from cluster"), "{removed}");
        assert_eq!(members(&etcdctl).await.len(), 3);
        let unknown = etcdctl.refused(&["member", "remove", &id]).await;
        assert!(unknown.contains("ember not found"), "{unknown}");
        processes.kill(joined);
        etcdctl.ok(&["put", &etcdctl.name("after"), "v"]).await;
    }
}
