//! What becomes of occurrences, and that it reaches the server.

use super::*;
use crate::testing::{Script, start};

fn occurrence(name: &str, message: &str) -> Occurrence {
    Occurrence {
        regarding: ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some("a".to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        },
        kind: EventKind::Warning,
        reason: "BackOff".to_owned(),
        message: message.to_owned(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("time")
}

#[tokio::test(start_paused = true)]
async fn a_repeat_counts_up() {
    let mut correlator = Correlator::default();
    let same = occurrence("p", "again");
    let first = correlator.decide(&same, at(100), Instant::now());
    let Decision::Create { name, message } = first else {
        panic!("{first:?}")
    };
    assert_eq!(message, "again");
    assert_eq!(
        correlator.decide(&same, at(101), Instant::now()),
        Decision::Repeat {
            name,
            message,
            first: at(100),
            count: 2
        }
    );
}

#[tokio::test(start_paused = true)]
async fn many_texts_become_one_event() {
    let mut correlator = Correlator::default();
    for n in 0..10 {
        let decision = correlator.decide(&occurrence("p", &n.to_string()), at(n), Instant::now());
        assert!(matches!(decision, Decision::Create { .. }), "{decision:?}");
    }
    let decision = correlator.decide(&occurrence("p", "10"), at(10), Instant::now());
    let Decision::Create { name, message } = decision else {
        panic!("{decision:?}")
    };
    assert_eq!(message, "(combined from similar events): 10");
    let decision = correlator.decide(&occurrence("p", "11"), at(11), Instant::now());
    let expected = Decision::Repeat {
        name,
        message: "(combined from similar events): 11".to_owned(),
        first: at(10),
        count: 2,
    };
    assert_eq!(decision, expected);
}

#[tokio::test(start_paused = true)]
async fn spam_about_one_object_is_dropped_and_others_are_not() {
    let mut correlator = Correlator::default();
    let spam = occurrence("p", "again");
    let kept = (0..100)
        .filter(|_| correlator.decide(&spam, at(1), Instant::now()) != Decision::Spam)
        .count();
    assert_eq!(kept, 25);
    assert_ne!(
        correlator.decide(&occurrence("q", "x"), at(1), Instant::now()),
        Decision::Spam
    );
    tokio::time::advance(Duration::from_secs(301)).await;
    assert_ne!(
        correlator.decide(&spam, at(400), Instant::now()),
        Decision::Spam
    );
}

#[tokio::test(start_paused = true)]
async fn events_reach_the_server_with_a_count() {
    let script = Script::new(Vec::new());
    let (client, shutdown) = start(script.clone()).await;
    let recorder = Recorder::start(&client, "kube-scheduler", "", &shutdown);
    for _ in 0..3 {
        let one = occurrence("p", "no room");
        recorder.record(one.regarding, one.kind, &one.reason, one.message);
    }
    let events = loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let events = client
            .list::<Event>(&crate::client::ListOptions::default())
            .await
            .expect("list");
        if events
            .items
            .first()
            .is_some_and(|event| event.count == Some(3))
        {
            break events.items;
        }
    };
    assert_eq!(events.len(), 1);
    assert_eq!(
        events[0]
            .source
            .as_ref()
            .and_then(|source| source.component.as_deref()),
        Some("kube-scheduler")
    );
    assert_eq!(recorder.dropped(), 0);
    shutdown.trigger();
}
