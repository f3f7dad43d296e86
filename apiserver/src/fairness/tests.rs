//! Tests of the whole: levels beside one another, borrowing, changes of configuration, and random histories.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::authn::User;
use crate::request::RequestInfo;

const ZERO: Duration = Duration::ZERO;

fn level(name: &str, shares: u32, lendable: u32) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 8, "handSize": 2, "queueLengthLimit": 5}},
        }},
    })
}

/// A schema for the user of the same name.
fn schema(user: &str, level: &str) -> Value {
    json!({
        "metadata": {"name": user},
        "spec": {
            "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 100,
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": user}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        },
    })
}

fn flow(fairness: &Fairness, user: &str) -> Flow {
    let user = User {
        name: user.to_owned(),
        ..User::default()
    };
    fairness
        .classifier()
        .classify(&user, &RequestInfo::default())
}

/// 100 seats: 40 for `busy`, 40 for `idle`, of which half may be lent, 20 for the catch-all.
fn fairness() -> Fairness {
    let mut fairness = Fairness::new(100, ZERO);
    let levels = [level("busy", 10, 50), level("idle", 10, 50)];
    let schemas = [schema("ann", "busy"), schema("bob", "idle")];
    assert_eq!(fairness.configure(&schemas, &levels, ZERO), []);
    fairness
}

#[test]
fn a_server_without_objects_has_the_mandatory_ones() {
    let mut fairness = Fairness::new(10, ZERO);
    let names: Vec<&str> = fairness.level_names().collect();
    assert_eq!(names, ["catch-all", "exempt"]);
    let ann = flow(&fairness, "ann");
    let usage = fairness.usage("catch-all").expect("there");
    assert_eq!((usage.nominal, usage.limit), (10, 10));
    for _ in 0..10 {
        assert_eq!(fairness.arrive(&ann, 1, ZERO).outcome, Outcome::Run);
    }
    let refused = Outcome::Refuse(Refusal::ConcurrencyLimit);
    assert_eq!(fairness.arrive(&ann, 1, ZERO).outcome, refused);
    assert_eq!(fairness.refuse(&ann, ZERO), 1);
    let admin = Flow {
        level: "exempt".into(),
        ..ann
    };
    for _ in 0..50 {
        assert_eq!(fairness.arrive(&admin, 1, ZERO).outcome, Outcome::Run);
    }
}

#[test]
fn idle_levels_lend_what_they_may() {
    let mut fairness = fairness();
    let nominal = |fairness: &Fairness, name| fairness.usage(name).map(|usage| usage.nominal);
    assert_eq!(nominal(&fairness, "busy"), Some(40));
    assert_eq!(nominal(&fairness, "catch-all"), Some(20));
    assert_eq!(fairness.seats_max(&flow(&fairness, "ann")), 6);
    let ann = flow(&fairness, "ann");
    // Nobody has wanted anything yet, so all levels have as much; beside it the flow has two queues of five.
    let limit = fairness.usage("busy").expect("there").limit;
    let wanted = limit + 10;
    let mut running = 0;
    for _ in 0..wanted {
        let arrived = fairness.arrive(&ann, 1, ZERO);
        running += u32::from(arrived.outcome == Outcome::Run);
    }
    assert_eq!((limit, running), (33, 33));
    let refused = Outcome::Refuse(Refusal::QueueFull);
    assert_eq!(fairness.arrive(&ann, 1, ZERO).outcome, refused);
    // Ten seconds later it is clear that the other level leaves its seats empty.
    let started = fairness.rebalance(REBALANCE_PERIOD);
    assert_eq!(started.len(), 10);
    let usage = fairness.usage("busy").expect("there");
    assert_eq!((usage.running, usage.waiting), (wanted, 0));
    assert!(usage.limit > usage.nominal, "{usage:?}");
    let idle = fairness.usage("idle").expect("there");
    assert!((20..40).contains(&idle.limit), "{idle:?}");
    // When the lender wants its own back, it gets it.
    let bob = flow(&fairness, "bob");
    for _ in 0..idle.limit + 10 {
        fairness.arrive(&bob, 1, REBALANCE_PERIOD);
    }
    let started = fairness.rebalance(REBALANCE_PERIOD * 2);
    assert_eq!(started.len(), 10);
    let idle = fairness.usage("idle").expect("there");
    assert!(idle.waiting == 0 && idle.limit <= idle.nominal, "{idle:?}");
}

#[test]
fn removed_levels_stay_until_their_last_request_has_left() {
    let mut fairness = fairness();
    let ann = flow(&fairness, "ann");
    let running = fairness.arrive(&ann, 1, ZERO).ticket;
    fairness.configure(&[schema("ann", "busy")], &[level("idle", 10, 50)], ZERO);
    assert_eq!(fairness.classifier().dangling(), [Arc::from("ann")]);
    assert!(fairness.usage("busy").is_some());
    assert_eq!(&*flow(&fairness, "ann").level, "catch-all");
    // A request that was classified before goes there too: the level still works.
    let late = fairness.arrive(&ann, 1, ZERO);
    assert_eq!(late.outcome, Outcome::Run);
    fairness.leave(running, ZERO);
    fairness.leave(late.ticket, ZERO);
    assert!(fairness.usage("busy").is_none());
    assert_eq!(fairness.usage("idle").map(|usage| usage.nominal), Some(67));
    // And from now on it takes the way of what nothing matches.
    assert_eq!(fairness.arrive(&ann, 1, ZERO).outcome, Outcome::Run);
    assert_eq!(fairness.usage("catch-all").map(|u| u.running), Some(1));
}

#[test]
fn whoever_waits_is_started_or_gives_up() {
    let mut fairness = fairness();
    let ann = flow(&fairness, "ann");
    let limit = fairness.usage("busy").expect("there").limit;
    let wide = fairness.arrive(&ann, limit, ZERO);
    assert_eq!(wide.outcome, Outcome::Run);
    let [first, second] = [(); 2].map(|()| fairness.arrive(&ann, 1, ZERO));
    assert_eq!(
        (first.outcome, second.outcome),
        (Outcome::Wait, Outcome::Wait)
    );
    assert_eq!(fairness.give_up(second.ticket, ZERO), GivenUp::Left(vec![]));
    assert_eq!(fairness.give_up(wide.ticket, ZERO), GivenUp::Running);
    assert_eq!(fairness.leave(wide.ticket, ZERO), [first.ticket]);
    assert_eq!(fairness.give_up(first.ticket, ZERO), GivenUp::Running);
    assert_eq!(fairness.leave(first.ticket, ZERO), []);
    assert_eq!(fairness.leave(first.ticket, ZERO), []);
}

#[test]
fn waiting_takes_a_part_of_the_time() {
    assert_eq!(wait_max(Duration::from_secs(60)), Duration::from_secs(15));
    assert_eq!(wait_max(Duration::from_secs(600)), WAIT_MAX);
    assert_eq!(Refusal::QueueFull.reason(), "queue-full");
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { user: usize, seats: u32 },
    Leave(usize),
    GiveUp(usize),
    Configure(usize),
    Rebalance,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 1..4_u32).prop_map(|(user, seats)| Step::Arrive { user, seats }),
        4 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => (0..3_usize).prop_map(Step::Configure),
        1 => Just(Step::Rebalance),
    ]
}

/// The nth of a set, counted around.
fn pick(of: &BTreeSet<Ticket>, n: usize) -> Option<Ticket> {
    of.iter().nth(n % of.len().max(1)).copied()
}

/// A history of steps, with what a shell would know of it.
struct History {
    fairness: Fairness,
    running: BTreeSet<Ticket>,
    waiting: BTreeSet<Ticket>,
}

impl History {
    fn started(&mut self, tickets: Vec<Ticket>) {
        for ticket in tickets {
            assert!(self.waiting.remove(&ticket), "only who waits may start");
            self.running.insert(ticket);
        }
    }

    fn step(&mut self, step: &Step, now: Duration) {
        let levels = [level("busy", 10, 50), level("idle", 3, 0)];
        let schemas = [schema("ann", "busy"), schema("bob", "idle")];
        match *step {
            Step::Arrive { user, seats } => {
                let flow = flow(&self.fairness, ["ann", "bob", "eve"][user]);
                let arrived = self.fairness.arrive(&flow, seats, now);
                match arrived.outcome {
                    Outcome::Run => assert!(self.running.insert(arrived.ticket)),
                    Outcome::Wait => assert!(self.waiting.insert(arrived.ticket)),
                    Outcome::Refuse(_) => {}
                }
                self.started(arrived.started);
            }
            Step::Leave(n) => {
                if let Some(ticket) = pick(&self.running, n) {
                    self.running.remove(&ticket);
                    let started = self.fairness.leave(ticket, now);
                    self.started(started);
                }
            }
            Step::GiveUp(n) => {
                if let Some(ticket) = pick(&self.waiting, n) {
                    let answer = self.fairness.give_up(ticket, now);
                    let GivenUp::Left(started) = answer else {
                        panic!("it was not started");
                    };
                    self.waiting.remove(&ticket);
                    self.started(started);
                }
            }
            Step::Configure(count) => {
                let started = self.fairness.configure(&schemas, &levels[..count], now);
                self.started(started);
            }
            Step::Rebalance => {
                let started = self.fairness.rebalance(now);
                self.started(started);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, tickets are started once, and once all have left nobody waits.
    #[test]
    fn every_ticket_ends(steps in prop::collection::vec((step(), 0..50_u64), 0..200)) {
        let mut history = History {
            fairness: Fairness::new(12, ZERO),
            running: BTreeSet::new(),
            waiting: BTreeSet::new(),
        };
        let mut now = ZERO;
        for (step, millis) in &steps {
            now += Duration::from_millis(*millis);
            history.step(step, now);
        }
        // Levels with few seats may need one that is lent; then everybody comes to his turn.
        while !history.running.is_empty() || !history.waiting.is_empty() {
            let before = history.running.len() + history.waiting.len();
            now += REBALANCE_PERIOD;
            history.step(&Step::Rebalance, now);
            history.step(&Step::Leave(0), now);
            prop_assert!(history.running.len() + history.waiting.len() < before);
        }
        prop_assert!(history.fairness.tickets.is_empty());
        let names: Vec<String> = history.fairness.level_names().map(str::to_owned).collect();
        for name in names {
            let usage = history.fairness.usage(&name).expect("there");
            prop_assert_eq!((usage.running, usage.waiting), (0, 0));
        }
    }
}
