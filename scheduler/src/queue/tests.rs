//! The queue's order, back-off and wake-ups, with time as data.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;
use crate::core::explain::waits;

fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"namespace": "a", "name": name, "uid": name},
        "spec": {"containers": [], "priority": priority},
    }))
    .expect("pod");
    Arc::new(PodInfo::read(&pod))
}

fn order(queue: &mut Queue, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| queue.take(now))
        .map(|turn| turn.pod.name.clone())
        .collect()
}

#[test]
fn important_pods_first_then_by_turn() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10)] {
        queue.add(pod(name, priority), false, now);
    }
    assert_eq!(order(&mut queue, now), ["b", "d", "a", "c"]);
}

#[test]
fn an_event_that_helps_wakes_after_the_back_off() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), false, now);
    queue.take(now).expect("turn");
    queue.wait_for("a", waits::ROOM, now);
    queue.wake(waits::NODE, now);
    assert_eq!(
        queue.depths(),
        Depths {
            waiting: 1,
            ..Depths::default()
        }
    );
    queue.wake(waits::ROOM, now);
    assert_eq!(
        queue.depths(),
        Depths {
            backoff: 1,
            ..Depths::default()
        }
    );
    assert_eq!(queue.next_due(), Some(now + BACKOFF_MIN));
    assert!(queue.take(now).is_none());
    assert_eq!(queue.take(now + BACKOFF_MIN).expect("turn").attempt, 2);
    queue.wait_for("a", waits::ROOM, now + BACKOFF_MIN);
    let later = now + Duration::from_secs(60);
    queue.wake(waits::ROOM, later);
    assert_eq!(queue.depths().ready, 1, "its back-off is long over");
}

#[test]
fn back_off_doubles_to_ten_seconds() {
    let (mut queue, mut now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), false, now);
    for seconds in [1, 2, 4, 8, 10, 10] {
        queue.take(now).expect("turn");
        queue.retry("a", now);
        let due = queue.next_due().expect("back-off");
        assert_eq!(due - now, Duration::from_secs(seconds));
        now = due;
    }
}

#[test]
fn gates_hold_and_changes_of_the_pod_wake() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    let mut gated = PodInfo::clone(&pod("a", 0));
    gated.gated = true;
    queue.add(Arc::new(gated), false, now);
    assert_eq!(
        queue.depths(),
        Depths {
            gated: 1,
            ..Depths::default()
        }
    );
    queue.add(pod("a", 0), true, now);
    queue.take(now).expect("the gate is open");
    queue.wait_for("a", waits::NODE, now);
    queue.add(pod("a", 0), false, now);
    assert_eq!(queue.depths().waiting, 1, "a status update does not help");
    queue.add(pod("a", 0), true, now);
    assert_eq!(queue.depths().backoff, 1, "a new toleration might");
}

#[test]
fn whoever_waits_too_long_is_tried_again() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), false, now);
    queue.take(now).expect("turn");
    queue.wait_for("a", 0, now);
    queue.wake_overdue(now + WAIT_MAX / 2);
    assert_eq!(queue.depths().waiting, 1);
    queue.wake_overdue(now + WAIT_MAX);
    assert_eq!(
        queue.depths(),
        Depths {
            ready: 1,
            ..Depths::default()
        }
    );
}

#[test]
fn a_removed_pod_is_nowhere() {
    let (mut queue, now) = (Queue::default(), Instant::now());
    queue.add(pod("a", 0), false, now);
    queue.remove("a");
    assert!(queue.take(now).is_none());
    queue.add(pod("a", 0), false, now);
    queue.take(now).expect("turn");
    queue.wait_for("a", waits::ROOM, now);
    queue.remove("a");
    queue.wake(waits::ROOM, now);
    assert_eq!(queue.depths(), Depths::default());
}
