//! Requests at the gate: nobody is kept out by another's flood, and no seat is lost.

use serde_json::json;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(60);

/// One level with two seats for everybody, in queues by user.
fn gate() -> Arc<Gate> {
    gate_of(2)
}

fn gate_of(seats: usize) -> Arc<Gate> {
    let gate = Gate::new(seats, Box::new(|info| info.name.parse().unwrap_or(0)));
    let level = json!({"metadata": {"name": "all", "uid": "l"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 10_000, "lendablePercent": 0, "limitResponse": {"type": "Queue", "queuing":
            {"queues": 16, "handSize": 4, "queueLengthLimit": 2}}}}});
    let schema = json!({"metadata": {"name": "all", "uid": "s"}, "spec": {
        "matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "all"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "system:authenticated"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]}]}});
    gate.apply(LEVELS, Change::Reset(vec![level]));
    gate.apply(SCHEMAS, Change::Reset(vec![schema]));
    gate
}

fn user(name: &str) -> User {
    User::authenticated(name, Vec::<String>::new())
}

fn info(verb: &str) -> RequestInfo {
    RequestInfo {
        is_resource_request: true,
        verb: verb.to_owned(),
        resource: "pods".to_owned(),
        api_version: "v1".to_owned(),
        ..RequestInfo::default()
    }
}

#[tokio::test]
async fn a_flood_of_one_user_does_not_keep_out_another() {
    let gate = gate();
    let flood: Vec<_> = (0..50)
        .map(|_| {
            let gate = Arc::clone(&gate);
            spawn("flood", TaskKind::Background, async move {
                let Ok(_seat) = gate.enter(&user("loud"), &info("get"), LONG).await else {
                    return false;
                };
                tokio::time::sleep(Duration::from_millis(100)).await;
                true
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begun = Instant::now();
    let quiet = gate.enter(&user("quiet"), &info("get"), LONG).await;
    assert!(quiet.is_ok());
    let waited = begun.elapsed();
    assert!(waited < Duration::from_millis(400), "{waited:?}");
    drop(quiet);
    let mut refused = 0;
    for request in flood {
        refused += u32::from(!request.await.unwrap());
    }
    assert!(refused > 0, "queues are bounded");
    let usage = gate.inner.lock().core.usage("all").unwrap();
    assert_eq!((usage.running, usage.waiting), (0, 0));
}

#[tokio::test]
async fn whoever_goes_away_frees_his_place() {
    let gate = gate();
    let first = gate.enter(&user("a"), &info("get"), LONG).await.unwrap();
    let second = gate.enter(&user("b"), &info("get"), LONG).await.unwrap();
    assert_eq!((&*first.schema, &*first.level), ("s", "l"));
    let (patient, visitor) = (user("c"), info("get"));
    assert!(
        timeout(SOON, gate.enter(&patient, &visitor, LONG))
            .await
            .is_err()
    );
    assert_eq!(gate.inner.lock().core.usage("all").unwrap().waiting, 0);
    drop(first);
    let third = timeout(SOON, gate.enter(&patient, &visitor, LONG)).await;
    assert!(third.is_ok_and(|seat| seat.is_ok()));
    drop(second);
    assert_eq!(gate.inner.lock().core.usage("all").unwrap().running, 0);
    assert!(gate.inner.lock().waiting.is_empty());
}

#[tokio::test]
async fn waiting_ends_in_time() {
    let gate = gate();
    let _held = [
        gate.enter(&user("a"), &info("get"), LONG).await.unwrap(),
        gate.enter(&user("a"), &info("get"), LONG).await.unwrap(),
    ];
    let short = Duration::from_millis(200);
    let refused = gate.enter(&user("b"), &info("get"), short).await;
    let refused = refused.err().expect("refused");
    assert_eq!(refused.why, Refusal::TimedOut);
    assert!(refused.retry_after >= 1);
}

#[tokio::test]
async fn a_large_list_takes_more_seats() {
    let gate = gate_of(20);
    let mut list = info("list");
    list.name = "100000".to_owned();
    let _list = gate.enter(&user("a"), &list, LONG).await.unwrap();
    // Ten would leave too little for the others: 15 of a hundred of the level's seats are the most.
    let taken = || gate.inner.lock().core.usage("all").unwrap().running;
    assert_eq!(taken(), 3);
    list.name = "150".to_owned();
    let _short = gate.enter(&user("a"), &list, LONG).await.unwrap();
    assert_eq!(taken(), 4);
}
