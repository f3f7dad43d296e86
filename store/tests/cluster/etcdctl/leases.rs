//! Leases, and what is built on them: locks and elections.

use super::command::{Etcdctl, Going};
use super::start;
use crate::harness::wait_for;

/// The id in "lease 694d... granted with TTL(100s)".
async fn grant(etcdctl: &Etcdctl, ttl: &str) -> String {
    let said = etcdctl.ok(&["lease", "grant", ttl]).await;
    let words: Vec<&str> = said.split(' ').collect();
    assert_eq!(words[0], "lease", "{said}");
    assert_eq!(words[2..].join(" "), format!("granted with TTL({ttl}s)"));
    words[1].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_grants_renews_and_revokes_leases() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let key = etcdctl.name("leased");
        let lease = grant(&etcdctl, "100").await;
        etcdctl
            .ok(&["put", &key, "v", &format!("--lease={lease}")])
            .await;
        let told = etcdctl.ok(&["lease", "timetolive", &lease, "--keys"]).await;
        let begin = format!("lease {lease} granted with TTL(100s), remaining(");
        assert!(told.starts_with(&begin), "{told}");
        assert!(told.ends_with(&format!("attached keys([{key}])")), "{told}");
        etcdctl
            .prints(
                &["lease", "keep-alive", "--once", &lease],
                &[&format!("lease {lease} keepalived with TTL(100)")],
            )
            .await;
        let list = etcdctl.ok(&["lease", "list"]).await;
        assert!(
            list.starts_with("found ") && list.lines().any(|line| line == lease),
            "{list}"
        );
        etcdctl
            .prints(
                &["lease", "revoke", &lease],
                &[&format!("lease {lease} revoked")],
            )
            .await;
        etcdctl.prints(&["get", &key], &[]).await;
        let gone = etcdctl.ok(&["lease", "timetolive", &lease]).await;
        assert_eq!(gone, format!("lease {lease} already expired"));
        let error = etcdctl.refused(&["lease", "revoke", &lease]).await;
        assert!(error.contains("requested lease not found"), "{error}");
        let error = etcdctl
            .refused(&["put", &key, "v", &format!("--lease={lease}")])
            .await;
        assert!(error.contains("requested lease not found"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lives_as_long_as_etcdctl_renews_it() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let key = etcdctl.name("short");
        let lease = grant(&etcdctl, "2").await;
        let with = format!("--lease={lease}");
        etcdctl.ok(&["put", &key, "v", &with]).await;
        let mut renewing = etcdctl.start(&["lease", "keep-alive", &lease]);
        // More renewals than fit into one time to live.
        for _ in 0..4 {
            let line = renewing.line().await;
            assert_eq!(line, format!("lease {lease} keepalived with TTL(2)"));
        }
        etcdctl.prints(&["get", &key], &[&key, "v"]).await;
        drop(renewing);
        wait_for("the key to go with its lease", async || {
            etcdctl.ok(&["get", &key]).await.is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_locks_one_at_a_time() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let name = etcdctl.name("lock");
        etcdctl
            .prints(&["lock", &name, "echo", "inside"], &["inside"])
            .await;
        let mut first = etcdctl.start(&["lock", &name]);
        let held = first.line().await;
        assert!(held.starts_with(&format!("{name}/")), "{held}");
        let mut second = etcdctl.start(&["lock", &name]);
        assert!(second.is_silent().await, "two hold one lock");
        first.interrupt().await;
        let held = second.line().await;
        assert!(held.starts_with(&format!("{name}/")), "{held}");
        second.interrupt().await;
    }
}

async fn elected(candidate: &mut Going, name: &str, value: &str) {
    let key = candidate.line().await;
    assert!(key.starts_with(&format!("{name}/")), "{key}");
    assert_eq!(candidate.line().await, value);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_elects_and_observes() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let name = etcdctl.name("election");
        let mut first = etcdctl.start(&["elect", &name, "one"]);
        elected(&mut first, &name, "one").await;
        let mut observer = etcdctl.start(&["elect", "-l", &name]);
        elected(&mut observer, &name, "one").await;
        let mut second = etcdctl.start(&["elect", &name, "two"]);
        assert!(second.is_silent().await, "two are elected");
        first.interrupt().await;
        elected(&mut second, &name, "two").await;
        elected(&mut observer, &name, "two").await;
        second.interrupt().await;
    }
}
