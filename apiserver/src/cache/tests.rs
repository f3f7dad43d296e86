//! What is remembered and for whom, when it becomes too much.

use std::time::Instant;

use corten_api::selector::FieldSelector;
use serde_json::json;

use super::mailbox::Next;
use super::*;

const KIB: usize = 1 << 10;

fn limits() -> Limits {
    Limits {
        history: 64 * KIB,
        history_of_one: 32 * KIB,
        waiting: 64 * KIB,
        waiting_of_one: 16 * KIB,
        pages: 32 * KIB,
    }
}

fn cache(resource: &str, budget: &Arc<Budget>) -> ResourceCache {
    let descriptor = kinds::registry().preferred("", resource).expect("a kind");
    let prefix = format!("{ROOT}{}/", descriptor.storage_prefix);
    ResourceCache::new(prefix, descriptor, Arc::clone(budget))
}

/// Writes an object of about so many bytes at a revision.
fn write(cache: &ResourceCache, name: &str, bytes: usize, revision: u64) {
    let object =
        json!({"metadata": {"namespace": "n", "name": name}, "data": {"x": "y".repeat(bytes)}});
    let (key, revision) = (format!("n/{name}"), Revision::new(revision));
    let item = Item::from_value(cache.descriptor, &key, object, revision).expect("an object");
    cache.apply(vec![(key, Some(item), revision)], Instant::now());
}

fn watch(cache: &ResourceCache, start: WatchStart) -> Watch {
    Watch::open(cache, Selection::default(), start, Revision::ZERO).expect("a watch")
}

#[test]
fn one_resource_forgets_its_oldest_history_first() {
    let budget = Arc::new(Budget::new(limits()));
    let cache = cache("configmaps", &budget);
    for revision in 1..=20 {
        write(&cache, "a", 8 * KIB, revision);
        assert!(
            cache.history_bytes() <= limits().history_of_one,
            "{revision}"
        );
    }
    assert!(cache.events() >= 3, "what fits is remembered");
    let old = Watch::open(
        &cache,
        Selection::default(),
        WatchStart::After(Revision::new(2)),
        Revision::ZERO,
    );
    assert!(matches!(old, Err(Error::TooOld { .. })));
    assert!(
        Watch::open(
            &cache,
            Selection::default(),
            WatchStart::After(Revision::new(18)),
            Revision::ZERO
        )
        .is_ok()
    );
    assert_eq!(
        budget.live(),
        cache.history_bytes(),
        "nobody else holds any"
    );
}

#[test]
fn encodings_count_as_history() {
    let budget = Arc::new(Budget::new(limits()));
    let cache = cache("configmaps", &budget);
    write(&cache, "a", KIB, 1);
    write(&cache, "a", KIB, 2);
    let before = cache.history_bytes();
    let subscription = cache
        .subscribe(&Selection::default(), Some(Revision::new(1)))
        .expect("subscribed");
    let taken = futures::executor::block_on(subscription.mailbox.take());
    let Some(Next::Message(mailbox::Message::Event(event))) = taken else {
        panic!("the second event is replayed")
    };
    for _ in 0..2 {
        event.encoded(EventType::Modified, 1, || vec![0; 5 * KIB].into());
    }
    assert_eq!(cache.history_bytes(), before + 5 * KIB);
    cache.forget(usize::MAX);
    assert_eq!(cache.history_bytes(), 0);
    assert!(budget.live() > 5 * KIB, "the reader holds it still");
    drop(event);
    assert_eq!(budget.live(), 0);
}

#[tokio::test]
async fn a_slow_watcher_is_cut_and_keeps_what_waited() {
    let budget = Arc::new(Budget::new(limits()));
    let cache = cache("configmaps", &budget);
    let mut slow = watch(&cache, WatchStart::After(Revision::ZERO));
    for revision in 1..=10 {
        write(&cache, "a", 4 * KIB, revision);
    }
    assert_eq!(
        budget.cut_slow.load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    let mut seen = 0;
    while slow.next().await.is_some() {
        seen += 1;
    }
    assert!((1..10).contains(&seen), "{seen}");
    assert_eq!(budget.watchers(), 1);
    drop(slow);
    assert_eq!(budget.watchers(), 0);
}

#[tokio::test]
async fn when_all_hold_too_much_the_furthest_behind_goes_first() {
    let budget = Arc::new(Budget::new(Limits {
        waiting: 12 * KIB,
        ..limits()
    }));
    let cache = cache("configmaps", &budget);
    let mut behind = watch(&cache, WatchStart::After(Revision::ZERO));
    write(&cache, "a", 7 * KIB, 1);
    write(&cache, "a", 7 * KIB, 2);
    let mut later = watch(&cache, WatchStart::After(Revision::new(2)));
    write(&cache, "a", 10, 3);
    // The ring forgets; now only the watchers hold the events.
    cache.forget(usize::MAX);
    write(&cache, "b", 10, 4);
    budget.press(cache.history_bytes());
    assert!(budget.live() < 24 * KIB);
    write(&cache, "a", 8 * KIB, 5);
    write(&cache, "a", 8 * KIB, 6);
    write(&cache, "a", 10, 7);
    cache.forget(usize::MAX);
    budget.press(cache.history_bytes());
    assert!(behind.next().await.is_none(), "it held the oldest");
    assert!(budget.live() - cache.history_bytes() <= 12 * KIB || later.next().await.is_none());
}

#[tokio::test]
async fn initial_objects_that_have_left_the_state_are_not_held_for_ever() {
    let budget = Arc::new(Budget::new(limits()));
    let cache = cache("configmaps", &budget);
    write(&cache, "a", 8 * KIB, 1);
    let mut stalled = watch(&cache, WatchStart::State);
    for revision in 2..=12 {
        write(&cache, "a", 8 * KIB, revision);
        budget.press(cache.history_bytes());
    }
    assert!(stalled.next().await.is_none());
}

#[test]
fn pages_are_kept_while_they_cost_little() {
    let budget = Arc::new(Budget::new(limits()));
    let cache = cache("configmaps", &budget);
    write(&cache, "a", 8 * KIB, 1);
    cache.keep_for_pages(Revision::new(1), &cache.snapshot());
    write(&cache, "a", 8 * KIB, 2);
    assert!(cache.page_snapshot(Revision::new(1)).is_some());
    for revision in 3..=8 {
        write(&cache, "a", 8 * KIB, revision);
    }
    assert!(cache.page_snapshot(Revision::new(1)).is_none());
}

#[test]
fn watchers_that_come_and_go_leave_nothing_behind() {
    let budget = Arc::new(Budget::new(limits()));
    let cache = cache("configmaps", &budget);
    for _ in 0..10_000 {
        drop(watch(&cache, WatchStart::State));
    }
    assert_eq!(budget.watchers(), 0);
    assert!(cache.subscribers() <= 128, "{}", cache.subscribers());
    let one = Selection {
        fields: FieldSelector::equals("metadata.name", "a"),
        ..Selection::default()
    };
    let kept = Watch::open(&cache, one, WatchStart::State, Revision::ZERO).expect("a watch");
    cache.progress(Revision::new(1));
    assert_eq!(cache.subscribers(), 1);
    drop(kept);
    cache.progress(Revision::new(2));
    assert_eq!(cache.subscribers(), 0);
}

/// Writes a pod, deletes it (`None`), or binds it to a node (empty for none yet).
fn bind(cache: &ResourceCache, name: &str, node: Option<&str>, revision: u64) {
    let revision = Revision::new(revision);
    let key = format!("n/{name}");
    let item = node.map(|node| {
        let object =
            json!({"metadata": {"namespace": "n", "name": name}, "spec": {"nodeName": node}});
        Item::from_value(cache.descriptor, &key, object, revision).expect("an object")
    });
    cache.apply(vec![(key, item, revision)], Instant::now());
}

fn on(cache: &ResourceCache, node: &str, start: Option<&str>) -> Vec<String> {
    let selection = Selection {
        fields: FieldSelector::parse(&format!("spec.nodeName={node}")).expect("a selector"),
        ..Selection::default()
    };
    let snapshot = cache.snapshot();
    let found = snapshot.candidates(&selection, start);
    found.map(|item| item.name.to_string()).collect()
}

#[test]
fn pods_are_found_by_their_node() {
    let cache = cache("pods", &Arc::new(Budget::new(limits())));
    for (revision, name, node) in [(1, "a", "x"), (2, "b", ""), (3, "c", "y"), (4, "d", "x")] {
        bind(&cache, name, Some(node), revision);
    }
    assert_eq!(on(&cache, "x", None), ["a", "d"]);
    assert_eq!(on(&cache, "x", Some("n/b")), ["d"]);
    assert_eq!(on(&cache, "y", None), ["c"]);
    bind(&cache, "b", Some("x"), 5);
    bind(&cache, "a", None, 6);
    bind(&cache, "c", None, 7);
    assert_eq!(on(&cache, "x", None), ["b", "d"]);
    assert_eq!(on(&cache, "y", None), Vec::<String>::new());
    // Bound elsewhere: never seen in practice, since the API forbids it, but no entry may stay behind.
    bind(&cache, "d", Some("y"), 8);
    assert_eq!(on(&cache, "x", None), ["b"]);
    assert_eq!(on(&cache, "y", None), ["d"]);
    assert_eq!(cache.snapshot().len(), 2);
}
