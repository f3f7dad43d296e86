//! The machine while the size of its pod changes.

use k8s_openapi::api::core::v1::{PodCondition, ResourceRequirements};

use super::*;
use crate::pod::machine::Resized;
use crate::pod::resize::{Allocation, Pending, Reason, Sizing, Verdict};
use crate::spec::resources::of_pod;

fn amounts(cpu: &str) -> Value {
    json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}})
}

fn spec(cpu: &str, policy: &str) -> Value {
    json!({"restartPolicy": "OnFailure", "containers": [{
        "name": "c", "image": "i", "resources": amounts(cpu),
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}],
    }]})
}

fn resources(cpu: &str) -> ResourceRequirements {
    serde_json::from_value(amounts(cpu)).expect("resources")
}

/// A running pod of one container with 1 cpu.
fn running(policy: &str) -> Bench {
    let mut bench = Bench::ready(spec("1", policy));
    bench.sandbox();
    bench.run("c", 0);
    bench
}

fn promise(cpu: &str, generation: i64) -> Event {
    Event::Resize(Verdict::Allocated {
        allocation: Allocation::of(&pod(spec(cpu, "NotRequired"))),
        generation: Some(generation),
    })
}

fn sizing(attempt: u32, from: &str, to: &str) -> Action {
    Action::Resize {
        containers: vec![Sizing {
            container: "c".to_owned(),
            attempt,
            from: resources(from),
            to: resources(to),
        }],
    }
}

fn result(bench: &Bench, attempt: u32, cpu: &str, error: Option<&str>) -> Event {
    Event::Resized(Box::new(Resized {
        present: [(("c".to_owned(), attempt), resources(cpu))].into(),
        group: of_pod(&bench.machine.pod, None),
        error: error.map(str::to_owned),
    }))
}

/// What people are told, and what is done.
fn told(actions: Vec<Action>) -> Vec<String> {
    let reasons = actions.into_iter().filter_map(|action| match action {
        Action::Report { reason, .. } => Some(reason.into_owned()),
        _ => None,
    });
    reasons.collect()
}

fn conditions(bench: &mut Bench) -> Vec<PodCondition> {
    let status = bench.status();
    bench.machine.remember(&status);
    let all = status.conditions.expect("conditions").into_iter();
    all.filter(|c| c.type_.starts_with("PodResize")).collect()
}

/// The promised request and the present one, in the status.
fn shown(bench: &Bench) -> (String, String) {
    let status = bench
        .status()
        .container_statuses
        .expect("statuses")
        .remove(0);
    let cpu = |amounts: Option<std::collections::BTreeMap<_, _>>| -> String {
        let quantity: Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity> =
            amounts.and_then(|mut amounts| amounts.remove("cpu"));
        quantity.expect("an amount").0
    };
    let has = status.resources.expect("resources");
    (cpu(status.allocated_resources), cpu(has.requests))
}

#[test]
fn a_container_is_resized_while_it_runs() {
    let mut bench = running("NotRequired");
    assert_eq!(bench.tell(promise("2", 7)), [sizing(0, "1", "2")]);
    assert_eq!(shown(&bench), ("2".to_owned(), "1".to_owned()));
    let found = conditions(&mut bench);
    assert_eq!(
        (
            found.len(),
            found[0].type_.as_str(),
            found[0].observed_generation
        ),
        (1, "PodResizeInProgress", Some(7))
    );
    let done = result(&bench, 0, "2", None);
    assert_eq!(told(bench.tell_all(done)), ["ResizeCompleted"]);
    assert_eq!(shown(&bench), ("2".to_owned(), "2".to_owned()));
    assert_eq!(conditions(&mut bench), []);
    assert_eq!(bench.later(60), [], "nothing is left to do");
}

#[test]
fn the_wish_alone_changes_nothing() {
    let mut bench = running("NotRequired");
    let pending = |reason, generation| {
        Event::Resize(Verdict::Pending(Pending {
            reason,
            message: "no room".to_owned(),
            generation,
        }))
    };
    assert_eq!(bench.tell(pending(Reason::Deferred, Some(2))), []);
    let mut wish = pod(spec("9", "NotRequired"));
    wish.metadata.generation = Some(2);
    assert_eq!(bench.tell(Event::Updated(Arc::new(wish))), []);
    assert_eq!(shown(&bench), ("1".to_owned(), "1".to_owned()));
    let first = conditions(&mut bench).remove(0);
    assert_eq!(
        (
            first.type_.as_str(),
            first.reason.as_deref(),
            first.message.as_deref()
        ),
        ("PodResizePending", Some("Deferred"), Some("no room"))
    );
    bench.later(5);
    assert_eq!(conditions(&mut bench), std::slice::from_ref(&first));
    bench.tell(pending(Reason::Infeasible, Some(3)));
    let second = conditions(&mut bench).remove(0);
    assert_eq!(second.reason.as_deref(), Some("Infeasible"));
    assert_ne!(second.last_transition_time, first.last_transition_time);
    assert_eq!(bench.tell(Event::Resize(Verdict::Settled)), []);
    assert_eq!(conditions(&mut bench), []);
}

#[test]
fn a_container_restarts_where_its_policy_says_so() {
    let mut bench = running("RestartContainer");
    let actions = bench.tell_all(promise("2", 2));
    assert_eq!(told(actions.clone()), ["Killing"]);
    assert!(actions.contains(&terminate("c-0")), "{actions:?}");
    // Its group grows before the next run, which a good end does not prevent.
    let empty = Action::Resize { containers: vec![] };
    assert_eq!(bench.exit("c", 0, 0), [empty]);
    assert_eq!(bench.phase(), "Running");
    let grown = Event::Resized(Box::new(Resized {
        present: [].into(),
        group: of_pod(&bench.machine.pod, None),
        error: None,
    }));
    assert_eq!(bench.tell(grown), [pull("c")]);
    assert_eq!(conditions(&mut bench).len(), 1, "it is not through yet");
    bench.run("c", 1);
    assert_eq!(shown(&bench), ("2".to_owned(), "2".to_owned()));
    assert_eq!(conditions(&mut bench), []);
    let status = bench
        .status()
        .container_statuses
        .expect("statuses")
        .remove(0);
    assert_eq!(status.restart_count, 1);
    // The restart was no failure: the next one has no back-off to wait for.
    assert_eq!(bench.exit("c", 1, 1).last(), Some(&pull("c")));
}

#[test]
fn a_failed_try_is_told_and_made_again() {
    let mut bench = running("NotRequired");
    bench.tell(promise("100m", 2));
    let failed = result(&bench, 0, "1", Some("in use"));
    assert_eq!(told(bench.tell_all(failed)), ["ResizeError"]);
    let found = conditions(&mut bench).remove(0);
    assert_eq!(
        (found.reason.as_deref(), found.message.as_deref()),
        (Some("Error"), Some("in use"))
    );
    assert_eq!(shown(&bench), ("100m".to_owned(), "1".to_owned()));
    assert_eq!(
        bench.machine.wake_at(bench.now()),
        Some(Duration::from_secs(10_010))
    );
    assert_eq!(bench.later(9), []);
    assert_eq!(bench.later(1), [sizing(0, "1", "100m")]);
    let failed = result(&bench, 0, "1", Some("in use"));
    assert_eq!(told(bench.tell_all(failed)), [""; 0], "it was told before");
    // Something else is promised: at once, and the fault was not about that.
    assert_eq!(bench.tell(promise("2", 3)), [sizing(0, "1", "2")]);
    let found = conditions(&mut bench).remove(0);
    assert_eq!((found.reason, found.observed_generation), (None, Some(3)));
}

#[test]
fn a_new_promise_during_a_try_makes_another() {
    let mut bench = running("NotRequired");
    bench.tell(promise("2", 2));
    assert_eq!(bench.tell(promise("3", 3)), []);
    let outdated = result(&bench, 0, "2", Some("late"));
    assert_eq!(bench.tell(outdated), [sizing(0, "2", "3")]);
    assert_eq!(conditions(&mut bench)[0].reason, None);
}

#[test]
fn what_does_not_run_begins_with_the_new_size() {
    let mut bench = Bench::ready(spec("1", "NotRequired"));
    bench.sandbox();
    // The image is being pulled; no run may begin while the pod's group changes.
    let empty = Action::Resize { containers: vec![] };
    assert_eq!(bench.tell(promise("2", 2)), [empty]);
    let image = Event::ImageReady {
        container: "c".to_owned(),
        image: Box::default(),
        pulled: None,
    };
    assert_eq!(bench.tell(image), []);
    let done = Event::Resized(Box::new(Resized {
        present: [].into(),
        group: of_pod(&bench.machine.pod, None),
        error: None,
    }));
    assert_eq!(bench.tell(done), [pull("c")]);
    bench.run("c", 0);
    assert_eq!(shown(&bench), ("2".to_owned(), "2".to_owned()));
}

/// An agent that ended in the middle leaves a group that nobody knows, and a container of the old size.
#[test]
fn the_next_agent_goes_on() {
    let mut bench = running("NotRequired");
    bench.machine.resize.doubt_group();
    assert_eq!(bench.later(1), [Action::Resize { containers: vec![] }]);
    assert_eq!(conditions(&mut bench), [], "the pod has what it asks for");
    let done = result(&bench, 0, "500m", None);
    assert_eq!(bench.tell(done), [sizing(0, "500m", "1")]);
    assert_eq!(conditions(&mut bench).len(), 1);
}
