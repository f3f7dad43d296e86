//! Members come and go.

use corten_proto::etcd::etcdserverpb as etcd;
use corten_store::Config;
use etcd::cluster_client::ClusterClient;
use etcd::kv_client::KvClient;

use rustix::process::Signal;
use tokio::time::timeout;

use super::harness::{Cluster, Running, free_port, get, keys, put, try_put, wait_for};
use super::process::Processes;

fn client(member: &Running) -> ClusterClient<tonic::transport::Channel> {
    ClusterClient::new(member.channel.clone())
}

async fn members(member: &Running) -> Vec<etcd::Member> {
    let request = etcd::MemberListRequest {
        linearizable: false,
    };
    client(member)
        .member_list(request)
        .await
        .expect("a list")
        .into_inner()
        .members
}

/// The consensus task tells of a new membership at the end of its turn; a member alone may have agreed and answered before.
#[tokio::test(flavor = "multi_thread")]
async fn every_addition_is_answered_with_the_member() {
    let mut cluster = Cluster::configure(1);
    cluster.start(0).await;
    cluster.leader().await;
    let mut client = client(cluster.member(0));
    // With other work the task's turns are longer.
    let mut load = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let mut kv = KvClient::new(cluster.member(0).channel.clone());
        load.spawn(async move {
            loop {
                let put = etcd::PutRequest {
                    key: format!("load-{writer}").into(),
                    ..Default::default()
                };
                kv.put(put).await.expect("put");
            }
        });
    }
    for turn in 0..200 {
        let request = etcd::MemberAddRequest {
            peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
            is_learner: true,
        };
        let added = client.member_add(request).await;
        let added = added.unwrap_or_else(|why| panic!("turn {turn}: {why}"));
        let id = added.into_inner().member.expect("the new member").id;
        let removed = client.member_remove(etcd::MemberRemoveRequest { id }).await;
        let removed = removed.unwrap_or_else(|why| panic!("turn {turn}: {why}"));
        assert_eq!(removed.into_inner().members.len(), 1, "turn {turn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_gets_its_vote_and_leaves() {
    let mut cluster = Cluster::configure(1);
    cluster.start(0).await;
    cluster.leader().await;
    put(cluster.member(0), "before", b"1").await;
    let url = format!("http://127.0.0.1:{}", free_port());
    let request = etcd::MemberAddRequest {
        peer_ur_ls: vec![url.clone()],
        is_learner: false,
    };
    let added = client(cluster.member(0))
        .member_add(request.clone())
        .await
        .expect("added")
        .into_inner();
    let id = added.member.expect("the new member").id;
    let again = client(cluster.member(0))
        .member_add(request)
        .await
        .expect_err("taken");
    assert_eq!(again.code(), tonic::Code::FailedPrecondition, "{again}");
    // Not started yet: the cluster must still work.
    put(cluster.member(0), "between", b"2").await;

    let first = cluster.configs[0].clone();
    let joining = Config {
        name: "m1".to_owned(),
        data_dir: cluster.root.path().join("m1"),
        listen_peer_urls: vec![url.clone()],
        initial_cluster: format!("{},m1={url}", first.initial_cluster),
        initial_cluster_state: serde_json::from_str("\"existing\"").expect("a state"),
        ..first
    };
    cluster.configs.push(joining);
    cluster.start(1).await;
    wait_for("the vote of the new member", async || {
        let found = members(cluster.member(0)).await;
        found
            .iter()
            .any(|member| member.id == id && !member.is_learner && member.name == "m1")
            .then_some(())
    })
    .await;
    assert_eq!(
        get(cluster.member(1), "before")
            .await
            .map(|(value, _)| value),
        Some(b"1".to_vec())
    );
    put(cluster.member(1), "through-new", b"3").await;

    let leader = cluster.leader().await;
    client(cluster.member(leader))
        .member_remove(etcd::MemberRemoveRequest { id })
        .await
        .expect("removed");
    wait_for("the member to be gone", async || {
        (members(cluster.member(0)).await.len() == 1).then_some(())
    })
    .await;
    put(cluster.member(0), "after", b"4").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_publish_where_clients_reach_them() {
    let mut cluster = Cluster::configure(3);
    for (i, config) in cluster.configs.iter_mut().enumerate() {
        config.advertise_client_urls = vec![format!("http://client-{i}:2379")];
    }
    cluster.start_all().await;
    cluster.leader().await;
    wait_for("all client URLs", async || {
        let all = members(cluster.member(0)).await;
        let complete = all.len() == 3 && all.iter().all(|member| member.client_ur_ls.len() == 1);
        complete.then_some(())
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_without_client_urls_is_recognised() {
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "k", b"v").await;
    let victim = (leader + 1) % 3;
    // It holds a part of the log that others count on.
    get(cluster.member(victim), "k").await;
    cluster.stop(victim).await;
    std::fs::remove_dir_all(cluster.data_dir(victim)).expect("wiped");
    for state in ["new", "existing"] {
        let mut config = cluster.configs[victim].clone();
        config.initial_cluster_state = serde_json::from_value(state.into()).expect("a state");
        let store = corten_store::Store::build(config).await.expect("built");
        let ended = store.run(corten_base::shutdown::Shutdown::new());
        let error = tokio::time::timeout(super::harness::DEADLINE, ended)
            .await
            .expect("ends")
            .expect_err("an empty member under an old identity must refuse");
        assert!(error.to_string().contains("its data is gone"), "{error}");
    }
    put(cluster.member(leader), "k", b"w").await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_log_ended_the_leader() {
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let victim = (leader + 1) % 3;
    for i in 0..20 {
        put(cluster.member(leader), &format!("k{i}"), b"v").await;
    }
    get(cluster.member(victim), "k0").await;
    cluster.stop(victim).await;
    // It still knows who it is, so that nothing refuses it.
    for entry in std::fs::read_dir(cluster.data_dir(victim)).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("gone");
        }
    }
    cluster.start(victim).await;
    put(cluster.member(leader), "after", b"w").await;
    let value = get(cluster.member(victim), "after").await;
    assert_eq!(value.map(|(value, _)| value), Some(b"w".to_vec()));
    let keys = keys(cluster.member(victim), "k").await;
    assert_eq!(keys.len(), 20, "it got everything back");
    cluster.stop_all().await;
}

/// The members as one of them lists them.
async fn listed(processes: &Processes, i: usize) -> Option<Vec<etcd::Member>> {
    let mut client = ClusterClient::new(processes.channel(i));
    let list = etcd::MemberListRequest { linearizable: true };
    Some(client.member_list(list).await.ok()?.into_inner().members)
}

/// Three members, of which two are to part: who leads, who stays with it, who goes, and the id of the last.
async fn before_a_parting() -> (Processes, [usize; 3], u64) {
    let processes = Processes::start(3);
    let leader = processes.leader().await;
    let (stays, goes) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = processes.member_id(goes).await;
    // Telling its name is a change too, and would finish another one.
    wait_for("all names", async || {
        let members = listed(&processes, leader).await?;
        let named = members.iter().filter(|member| !member.name.is_empty());
        let urls = members
            .iter()
            .filter(|member| !member.client_ur_ls.is_empty());
        (named.count() == 3 && urls.count() == 3).then_some(())
    })
    .await;
    (processes, [leader, stays, goes], id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_went_away_left_a_change_of_members_half_done() {
    let (mut processes, [leader, stays, goes], id) = before_a_parting().await;
    // The new set of voters cannot agree while one of the two sleeps.
    processes.signal(stays, Signal::STOP);
    let mut client = ClusterClient::new(processes.channel(goes));
    let call = client.member_remove(etcd::MemberRemoveRequest { id });
    let answer = timeout(std::time::Duration::from_millis(300), call).await;
    assert!(answer.is_err(), "{answer:?}");
    // It has asked the leader, for its client.
    processes.kill(goes);
    processes.signal(stays, Signal::CONT);
    wait_for("the change to be done", async || {
        (listed(&processes, leader).await?.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_lost_left_a_change_of_members_half_done() {
    let (mut processes, [leader, stays, goes], id) = before_a_parting().await;
    processes.signal(stays, Signal::STOP);
    let mut client = ClusterClient::new(processes.channel(leader));
    let call = client.member_remove(etcd::MemberRemoveRequest { id });
    let answer = timeout(std::time::Duration::from_millis(300), call).await;
    assert!(answer.is_err(), "{answer:?}");
    // The first of two entries is in its log and in that of the one who goes.
    processes.kill(leader);
    processes.signal(stays, Signal::CONT);
    processes.spawn(leader);
    wait_for("the change to be done", async || {
        let left = listed(&processes, stays).await?;
        (left.len() == 2 && left.iter().all(|member| !member.is_learner)).then_some(())
    })
    .await;
    processes.kill(goes);
    wait_for("two to do without it", async || {
        try_put(processes.kv(stays), "k", b"v").await.ok()
    })
    .await;
}
