//! Elections under paused time, over a scripted server that stores one lease.

use super::*;
use crate::testing::{Script, start};

fn config(identity: &str) -> LeaderConfig {
    LeaderConfig::new("test", identity)
}

fn enter(script: &Script, identity: &str, client: &Client) -> (Leadership, Shutdown) {
    let _ = script;
    let (elector, leadership) = LeaderElector::new(client.clone(), config(identity));
    let shutdown = Shutdown::new();
    corten_base::tasks::spawn(
        "elector",
        corten_base::tasks::TaskKind::Background,
        elector.run(shutdown.clone()),
    );
    (leadership, shutdown)
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_hands_over_at_shutdown() {
    let script = Script::new(Vec::new());
    let (client, _stop) = start(script.clone()).await;
    let (first, stop_first) = enter(&script, "a", &client);
    first.wait_leading().await;
    let (second, _stop_second) = enter(&script, "b", &client);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(first.is_leading() && !second.is_leading());
    let begin = Instant::now();
    stop_first.trigger();
    first.wait_lost().await;
    second.wait_leading().await;
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "the lease was given back: {:?}",
        begin.elapsed()
    );
    let lease: Lease = client.get("kube-system", "test").await.expect("lease");
    assert_eq!(lease.spec.expect("spec").lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_another_may_begin() {
    let script = Script::new(Vec::new());
    let (client, _stop) = start(script.clone()).await;
    let (first, _stop_first) = enter(&script, "a", &client);
    first.wait_leading().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    script.refuse_all(true);
    let cut = Instant::now();
    first.wait_lost().await;
    let after = cut.elapsed();
    assert!(after <= Duration::from_secs(10), "{after:?}");
    script.refuse_all(false);
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_followed_after_the_lease_ran_out_by_our_clock() {
    let script = Script::new(Vec::new());
    let (client, _stop) = start(script.clone()).await;
    // A lease whose renew time lies far in the future, as from a host with a wrong clock.
    let future = Timestamp::now() + jiff::SignedDuration::from_hours(9);
    client
        .create(&claim(&config("dead"), Lease::default(), future))
        .await
        .expect("created");
    let begin = Instant::now();
    let (second, _stop_second) = enter(&script, "b", &client);
    second.wait_leading().await;
    let waited = begin.elapsed();
    assert!(
        waited >= Duration::from_secs(15) && waited < Duration::from_secs(20),
        "{waited:?}"
    );
}

#[test]
fn a_renewal_keeps_the_time_of_acquisition() {
    let early = Timestamp::from_second(1_000).expect("time");
    let late = Timestamp::from_second(2_000).expect("time");
    let mut lease = claim(&config("a"), Lease::default(), early);
    lease.metadata.resource_version = Some("1".to_owned());
    let renewed = claim(&config("a"), lease.clone(), late).spec.expect("spec");
    assert_eq!(
        (renewed.acquire_time, renewed.lease_transitions),
        (Some(MicroTime(early)), Some(0))
    );
    let taken = claim(&config("b"), lease, late).spec.expect("spec");
    assert_eq!(
        (taken.acquire_time, taken.lease_transitions),
        (Some(MicroTime(late)), Some(1))
    );
}
