//! The hub against a log of events: every watcher gets its events once, in order, however slow it is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use corten_proto::etcd::mvccpb::{Event, KeyValue};
use proptest::prelude::*;

use crate::{
    Revision, Span,
    history::{Chunk, RevisionEvents},
    hub::{Filters, Hub, Output, Request, SubscriberId},
};

/// Large, so that a few dozen events fill a buffer and push old ones out of the recent ones; shared, so that it is cheap.
static VALUE: [u8; 200_000] = [7; 200_000];

fn event(key: &str, revision: i64, deletion: bool) -> Event {
    let value = if deletion {
        Bytes::new()
    } else {
        Bytes::from_static(&VALUE)
    };
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value,
        mod_revision: revision,
        ..Default::default()
    };
    Event {
        r#type: i32::from(deletion),
        kv: Some(kv),
        prev_kv: None,
    }
}

fn span(choice: u8) -> Span {
    let key = |text: &'static str| Bytes::from_static(text.as_bytes());
    match choice % 5 {
        0 => Span::Key(key("a")),
        1 => Span::Key(key("c")),
        2 => Span::Range {
            start: key("a"),
            end: Some(key("c")),
        },
        3 => Span::Range {
            start: key("b"),
            end: None,
        },
        _ => Span::Range {
            start: key("c"),
            end: Some(key("d")),
        },
    }
}

fn request(span: Span, start: i64) -> Request {
    Request {
        span,
        start: Revision::new(start),
        filters: Filters::default(),
        prev_kv: false,
        progress_notify: false,
        fragment: false,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<(u8, bool)>),
    Watch {
        span: u8,
        back: i64,
    },
    Cancel(usize),
    Poll(usize),
    CatchUp {
        chunk: usize,
        publish_between: bool,
    },
    /// The store is ahead of the hub: history already holds what is published after the read.
    CatchUpAhead,
    Progress,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec((0u8..4, any::<bool>()), 1..4).prop_map(Step::Publish),
        2 => (any::<u8>(), 0i64..60).prop_map(|(span, back)| Step::Watch { span, back }),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (1usize..4_000_000).prop_map(Step::Poll),
        2 => (1usize..40, any::<bool>()).prop_map(|(chunk, publish_between)| Step::CatchUp { chunk, publish_between }),
        1 => Just(Step::CatchUpAhead),
        1 => Just(Step::Progress),
    ]
}

struct Follower {
    span: Span,
    start: i64,
    got: Vec<Event>,
}

struct World {
    hub: Hub,
    log: Vec<RevisionEvents>,
    stream: SubscriberId,
    followers: BTreeMap<i64, Follower>,
}

impl World {
    fn new() -> Self {
        let mut hub = Hub::new(Revision::FIRST, Revision::ZERO);
        let stream = hub.subscribe();
        Self {
            hub,
            log: Vec::new(),
            stream,
            followers: BTreeMap::new(),
        }
    }

    fn revision(&self) -> i64 {
        self.hub.revision().get()
    }

    fn publish(&mut self, keys: &[(u8, bool)]) {
        let revision = self.hub.revision().next();
        let name = |key: u8| ["a", "b", "c", "d"][usize::from(key)];
        let distinct: BTreeMap<_, _> = keys.iter().copied().collect();
        let events = distinct
            .into_iter()
            .map(|(key, deletion)| event(name(key), revision.get(), deletion));
        let change = RevisionEvents::new(revision, events.collect());
        self.log.push(change.clone());
        self.hub.publish(&[change]);
    }

    fn watch(&mut self, choice: u8, back: i64) {
        let start = (self.revision() + 1 - back).max(1);
        let watch = self
            .hub
            .watch(self.stream, 0, request(span(choice), start))
            .unwrap();
        self.followers.insert(
            watch,
            Follower {
                span: span(choice),
                start,
                got: Vec::new(),
            },
        );
    }

    /// Reads the log as the store would read history, at most `revisions` of it.
    fn history(&self, from: Revision, interest: &[(Revision, &Span)], revisions: usize) -> Chunk {
        let first = usize::try_from(from.get() - 2).unwrap_or(0);
        let last = (first + revisions).min(self.log.len());
        let wanted = |event: &&Event, revision: Revision| {
            let key = &event.kv.as_ref().unwrap().key;
            interest
                .iter()
                .any(|(since, span)| *since <= revision && span.contains(key))
        };
        let mut events = Vec::new();
        for change in &self.log[first..last] {
            let kept: Vec<_> = change
                .events
                .iter()
                .filter(|event| wanted(event, change.revision))
                .cloned()
                .collect();
            if !kept.is_empty() {
                events.push(RevisionEvents::new(change.revision, kept));
            }
        }
        Chunk {
            through: Revision::new(i64::try_from(last).unwrap() + 1),
            events,
        }
    }

    fn catch_up(&mut self, revisions: usize, publish_between: bool) {
        let mut woken = BTreeSet::new();
        let Some(plan) = self.hub.catch_up(&mut woken) else {
            return;
        };
        let chunk = self.history(plan.from, &plan.interest(), revisions);
        if publish_between {
            self.publish(&[(0, false), (2, false)]);
        }
        self.hub.supply(&plan, &chunk, &mut woken);
    }

    fn catch_up_ahead(&mut self) {
        let mut woken = BTreeSet::new();
        let Some(plan) = self.hub.catch_up(&mut woken) else {
            return;
        };
        let revision = self.hub.revision().next();
        let change = RevisionEvents::new(revision, vec![event("a", revision.get(), false)]);
        self.log.push(change.clone());
        let chunk = self.history(plan.from, &plan.interest(), usize::MAX / 2);
        self.hub.supply(&plan, &chunk, &mut woken);
        self.hub.publish(&[change]);
    }

    fn poll(&mut self, bytes: usize) -> usize {
        let (outputs, _) = self.hub.poll(self.stream, bytes);
        let count = outputs.len();
        for output in outputs {
            match output {
                Output::Events { watch, events, .. } => {
                    self.followers
                        .get_mut(&watch)
                        .expect("no events after a cancel")
                        .got
                        .extend(events);
                }
                Output::Progress {
                    watch: None,
                    revision,
                } => self.check_complete(revision),
                other => panic!("{other:?}"),
            }
        }
        count
    }

    /// Everything up to the revision has been sent, and nothing twice.
    fn check_complete(&self, revision: Revision) {
        for follower in self.followers.values() {
            let expected: Vec<_> = self
                .log
                .iter()
                .filter(|change| {
                    change.revision.get() >= follower.start && change.revision <= revision
                })
                .flat_map(|change| change.events.iter())
                .filter(|event| follower.span.contains(&event.kv.as_ref().unwrap().key))
                .cloned()
                .collect();
            assert_eq!(
                follower.got.len(),
                expected.len(),
                "{:?} from {}",
                follower.span,
                follower.start
            );
            assert!(follower.got == expected, "order differs");
        }
    }

    fn settle(&mut self) {
        while self.poll(usize::MAX) > 0 || self.hub.is_behind() {
            self.catch_up(usize::MAX / 2, false);
        }
    }
}

fn run(steps: Vec<Step>) {
    let mut world = World::new();
    for step in steps {
        match step {
            Step::Publish(keys) => world.publish(&keys),
            Step::Watch { span, back } => world.watch(span, back),
            Step::Cancel(which) => {
                let watch = world
                    .followers
                    .keys()
                    .nth(which % world.followers.len().max(1))
                    .copied();
                if let Some(watch) = watch {
                    assert!(world.hub.cancel(world.stream, watch));
                    world.followers.remove(&watch);
                }
            }
            Step::Poll(bytes) => {
                world.poll(bytes);
            }
            Step::CatchUp {
                chunk,
                publish_between,
            } => world.catch_up(chunk, publish_between),
            Step::CatchUpAhead => world.catch_up_ahead(),
            Step::Progress => world.hub.request_progress(world.stream),
        }
    }
    world.settle();
    world.check_complete(world.hub.revision());
}

proptest! {
    #[test]
    fn watchers_get_each_event_once_in_order(steps in prop::collection::vec(step(), 1..160)) {
        run(steps);
    }
}

#[test]
fn a_watcher_that_starts_before_the_compaction_is_told() {
    let mut world = World::new();
    for _ in 0..200 {
        world.publish(&[(0, false)]);
    }
    world.hub.compact(Revision::new(50));
    world.watch(0, 180);
    world.followers.clear();
    world.hub.catch_up(&mut BTreeSet::new());
    let (outputs, _) = world.hub.poll(world.stream, usize::MAX);
    let expected = Output::Compacted {
        watch: 0,
        revision: Revision::new(201),
        compacted: Revision::new(50),
    };
    assert_eq!(outputs, [expected]);
    assert_eq!(world.hub.watchers(), 0);
}

#[test]
fn a_slow_watcher_holds_bounded_memory_and_loses_nothing() {
    let mut world = World::new();
    world.watch(0, 0);
    for _ in 0..2000 {
        world.publish(&[(0, false)]);
    }
    let (outputs, behind) = world.hub.poll(world.stream, usize::MAX);
    assert!(behind);
    let Output::Events { events, .. } = &outputs[0] else {
        panic!()
    };
    assert!(
        events.len() < 50,
        "{} events of 200 kB were buffered",
        events.len()
    );
    world
        .followers
        .get_mut(&0)
        .unwrap()
        .got
        .extend(events.iter().cloned());
    world.settle();
    world.check_complete(world.hub.revision());
}

#[test]
fn large_answers_are_cut_for_those_who_allow_it() {
    let mut hub = Hub::new(Revision::FIRST, Revision::ZERO);
    let stream = hub.subscribe();
    let mut wanted = request(span(3), 0);
    wanted.fragment = true;
    hub.watch(stream, 0, wanted).unwrap();
    let events = (0..15)
        .map(|n| event(&format!("b{n:02}"), 2, false))
        .collect();
    hub.publish(&[RevisionEvents::new(Revision::new(2), events)]);
    let (outputs, _) = hub.poll(stream, usize::MAX);
    let pieces: Vec<_> = outputs
        .iter()
        .map(|output| match output {
            Output::Events {
                events, fragment, ..
            } => (events.len(), *fragment),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pieces, [(10, true), (5, false)]);
}

#[test]
fn progress_waits_for_watchers_that_are_behind() {
    let mut world = World::new();
    for _ in 0..100 {
        world.publish(&[(0, false)]);
    }
    world.watch(0, 90);
    world.hub.request_progress(world.stream);
    assert_eq!(world.poll(usize::MAX), 0);
    // `poll` checks completeness when the progress comes.
    while world.hub.is_behind() {
        world.catch_up(5, false);
        world.poll(usize::MAX);
    }
    world.catch_up(1, false);
}

/// The client knows of revisions that this member does not have yet.
#[test]
fn etcd_20221_a_watch_of_the_future_is_told_of_nothing_before() {
    let mut hub = Hub::new(Revision::new(10), Revision::ZERO);
    let stream = hub.subscribe();
    let mut wanted = request(span(0), 14);
    wanted.progress_notify = true;
    hub.watch(stream, 0, wanted).unwrap();
    hub.request_progress(stream);
    for revision in 11..=13 {
        assert_eq!(hub.idle_progress(stream), []);
        assert_eq!(hub.poll(stream, usize::MAX), (Vec::new(), false));
        let change =
            RevisionEvents::new(Revision::new(revision), vec![event("a", revision, false)]);
        let woken = hub.publish(&[change]);
        assert_eq!(woken.is_empty(), revision < 13, "{revision}");
    }
    let progress = |watch| Output::Progress {
        watch,
        revision: Revision::new(13),
    };
    assert_eq!(hub.poll(stream, usize::MAX).0, [progress(None)]);
    assert_eq!(hub.idle_progress(stream), [progress(Some(0))]);
    let first = event("a", 14, false);
    hub.publish(&[RevisionEvents::new(Revision::new(14), vec![first.clone()])]);
    let (outputs, _) = hub.poll(stream, usize::MAX);
    let [Output::Events { events, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(events, &[first]);
}

#[test]
fn etcd_17529_a_slow_watcher_that_the_compaction_overtakes_is_told() {
    let mut world = World::new();
    world.watch(0, 0);
    for _ in 0..2000 {
        world.publish(&[(0, false)]);
    }
    world.hub.compact(Revision::new(1_900));
    // What it had buffered is whole; after that comes the word, and no later event.
    let mut next = 2;
    let compacted = loop {
        let (outputs, _) = world.hub.poll(world.stream, usize::MAX);
        assert!(!outputs.is_empty(), "neither events nor a word");
        for output in &outputs {
            if let Output::Events { events, .. } = output {
                for event in events {
                    assert_eq!(event.kv.as_ref().unwrap().mod_revision, next);
                    next += 1;
                }
            }
        }
        let last = outputs.last().cloned();
        if let Some(Output::Compacted { compacted, .. }) = last {
            break compacted;
        }
        world.hub.catch_up(&mut BTreeSet::new());
    };
    assert_eq!(compacted, Revision::new(1_900));
    assert!(next < 100, "{next}");
    assert_eq!(world.hub.watchers(), 0);
}
