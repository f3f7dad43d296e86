//! Tests of one level's queues: limits, refusals, turns, widths, and changes while requests wait.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn queued(queues: u32, hand: u32, length_max: usize, limit: u32) -> QueueSet {
    let discipline = Discipline::Queue {
        queues,
        hand,
        length_max,
    };
    let mut set = QueueSet::new(discipline, Duration::ZERO);
    set.set_limit(limit, Duration::ZERO);
    set
}

fn tickets(numbers: &[u64]) -> Vec<Ticket> {
    numbers.iter().copied().map(Ticket).collect()
}

#[test]
fn without_queues_what_does_not_fit_is_refused() {
    let mut set = QueueSet::new(Discipline::Reject, Duration::ZERO);
    set.set_limit(2, Duration::ZERO);
    let now = Duration::ZERO;
    assert_eq!(set.arrive(Ticket(1), 0, 1, now), Ok(tickets(&[1])));
    assert_eq!(
        set.arrive(Ticket(2), 0, 5, now),
        Err(Refusal::ConcurrencyLimit)
    );
    assert_eq!(set.arrive(Ticket(3), 0, 1, now), Ok(tickets(&[3])));
    assert_eq!(
        set.arrive(Ticket(4), 0, 1, now),
        Err(Refusal::ConcurrencyLimit)
    );
    set.leave(Ticket(1), now);
    set.leave(Ticket(3), now);
    assert!(set.is_idle());
    assert_eq!(
        set.arrive(Ticket(5), 0, 5, now),
        Ok(tickets(&[5])),
        "what is wider than the level runs alone"
    );
}

#[test]
fn exempt_levels_know_no_limit() {
    let mut set = QueueSet::new(Discipline::Exempt, Duration::ZERO);
    for n in 0..100 {
        let started = set.arrive(Ticket(n), 0, 1, Duration::ZERO);
        assert_eq!(started, Ok(vec![Ticket(n)]));
    }
    assert_eq!(set.seats_running(), 100);
}

#[test]
fn requests_wait_in_order_until_their_queue_is_full() {
    let mut set = queued(1, 1, 2, 1);
    let now = Duration::ZERO;
    assert_eq!(set.arrive(Ticket(1), 0, 1, now), Ok(tickets(&[1])));
    assert_eq!(set.arrive(Ticket(2), 0, 1, now), Ok(vec![]));
    assert_eq!(set.arrive(Ticket(3), 0, 1, now), Ok(vec![]));
    assert_eq!(set.arrive(Ticket(4), 0, 1, now), Err(Refusal::QueueFull));
    assert_eq!((set.seats_running(), set.seats_waiting()), (1, 2));
    assert_eq!(set.leave(Ticket(1), SECOND), tickets(&[2]));
    assert_eq!(set.give_up(Ticket(3), SECOND), Some(vec![]));
    assert_eq!(set.give_up(Ticket(3), SECOND), None);
    assert_eq!(set.give_up(Ticket(2), SECOND), None, "it runs");
    assert_eq!(set.leave(Ticket(2), SECOND), vec![]);
    assert!(set.is_idle());
    assert_eq!(set.leave(Ticket(2), SECOND), vec![], "once is enough");
}

/// Hashes that are dealt different queues of two when the hand is one.
const FLOWS: [u64; 2] = [0, 1];

#[test]
fn a_flood_delays_itself() {
    let mut set = queued(2, 1, 100, 1);
    let mut now = Duration::ZERO;
    for n in 0..50 {
        set.arrive(Ticket(n), FLOWS[0], 1, now).expect("room");
    }
    // A second flow sends one request at a time, each as soon as the one before is answered.
    let mut running = Ticket(0);
    let mut quiet = 1000;
    set.arrive(Ticket(quiet), FLOWS[1], 1, now).expect("room");
    let mut served = [0; 2];
    for _ in 0..40 {
        now += Duration::from_millis(10);
        let started = set.leave(running, now);
        assert_eq!(started.len(), 1);
        running = started[0];
        let is_quiet = running == Ticket(quiet);
        served[usize::from(is_quiet)] += 1;
        if is_quiet {
            quiet += 1;
            set.arrive(Ticket(quiet), FLOWS[1], 1, now).expect("room");
        }
    }
    assert_eq!(served, [20, 20], "both flows are served alike");
}

#[test]
fn long_requests_count_for_more() {
    let mut set = queued(2, 1, 100, 1);
    let mut now = Duration::ZERO;
    for n in 0..40 {
        set.arrive(Ticket(n), FLOWS[0], 1, now).expect("room");
        set.arrive(Ticket(100 + n), FLOWS[1], 1, now).expect("room");
    }
    // Requests of the first flow take four times as long as those of the other.
    let mut running = Ticket(0);
    let mut served = [0_u32; 2];
    for _ in 0..45 {
        let other = running >= Ticket(100);
        served[usize::from(other)] += 1;
        now += Duration::from_millis(if other { 10 } else { 40 });
        running = set.leave(running, now)[0];
    }
    let [slow, fast] = served;
    assert!((8..=11).contains(&slow) && fast == 45 - slow, "{served:?}");
}

#[test]
fn wide_requests_come_to_their_turn() {
    let mut set = queued(2, 1, 100, 4);
    let now = Duration::ZERO;
    for n in 0..4 {
        set.arrive(Ticket(n), FLOWS[0], 1, now).expect("room");
    }
    assert_eq!(set.arrive(Ticket(10), FLOWS[1], 3, now), Ok(vec![]));
    for n in 20..24 {
        assert_eq!(set.arrive(Ticket(n), FLOWS[0], 1, now), Ok(vec![]));
    }
    let mut started = Vec::new();
    for n in 0..4 {
        started.extend(set.leave(Ticket(n), SECOND));
    }
    assert!(started.contains(&Ticket(10)), "{started:?}");
    assert!(set.seats_running() <= 4);
}

#[test]
fn giving_up_lets_smaller_ones_through() {
    let mut set = queued(2, 1, 100, 4);
    let now = Duration::ZERO;
    set.arrive(Ticket(0), FLOWS[0], 3, now).expect("room");
    assert_eq!(set.arrive(Ticket(1), FLOWS[0], 2, now), Ok(vec![]));
    assert_eq!(set.arrive(Ticket(2), FLOWS[0], 1, now), Ok(vec![]));
    assert_eq!(set.give_up(Ticket(1), now), Some(tickets(&[2])));
}

#[test]
fn a_hand_leaves_room_beside_a_flood() {
    let mut set = queued(64, 6, 10, 1);
    let now = Duration::ZERO;
    let mut refused = false;
    for n in 0..200 {
        refused |= set.arrive(Ticket(n), 12_345, 1, now).is_err();
    }
    assert!(refused, "six queues of ten are full");
    let another = set.arrive(Ticket(500), 9_876_543_210, 1, now);
    assert_eq!(another, Ok(vec![]), "it has queues of its own");
}

#[test]
fn levels_may_change_while_requests_wait() {
    let mut set = queued(4, 1, 10, 1);
    let now = Duration::ZERO;
    for n in 0..4 {
        set.arrive(Ticket(n), n, 1, now).expect("room");
    }
    assert_eq!(set.set_limit(2, now).len(), 1);
    set.set_discipline(Discipline::Reject);
    assert_eq!(
        set.arrive(Ticket(9), 0, 1, now),
        Err(Refusal::ConcurrencyLimit)
    );
    // Those that wait already are served to the end.
    let mut left = 0;
    let mut next: Vec<Ticket> = set.running.keys().copied().collect();
    while let Some(ticket) = next.pop() {
        next.extend(set.leave(ticket, now));
        left += 1;
    }
    assert_eq!(left, 4);
    assert!(set.is_idle() && set.queues.is_empty());
    assert_eq!(set.busy, 0);
    assert_eq!(set.arrive(Ticket(10), 0, 1, now), Ok(tickets(&[10])));
}
