//! What pods are like, one per node, failures, adoption, history, status.

use serde_json::json;

use super::super::*;
use super::fixtures::*;

#[test]
fn a_pod_is_made_for_its_node() {
    let spec = json!({"hostNetwork": true, "tolerations": [{"key": "own", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}}});
    let set = set(json!({
        "metadata": {"annotations": {"deprecated.daemonset.template.generation": "3"}},
        "spec": {"template": {"spec": spec}},
    }));
    let ssd = vec![node("n1", json!({"disk": "ssd"}), json!([]))];
    let plan = plan(set, ssd, vec![]);
    let mut created = plan.actions.iter().filter_map(|action| match action {
        Action::Create { target, object } if target.resource == "pods" => Some(object),
        _ => None,
    });
    let object = created.next().expect("a pod");
    assert_eq!(pinned(object), "n1");
    assert_eq!(object["metadata"]["generateName"], json!("agent-"));
    assert_eq!(
        object["metadata"]["labels"]["pod-template-generation"],
        json!("3")
    );
    assert!(object["metadata"]["labels"]["controller-revision-hash"].is_string());
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], json!("u"));
    let tolerated = object["spec"]["tolerations"].as_array();
    let keys: Vec<&str> = tolerated
        .into_iter()
        .flatten()
        .filter_map(|toleration| toleration["key"].as_str())
        .map(|key| key.trim_start_matches("node.kubernetes.io/"))
        .collect();
    assert_eq!(
        keys,
        [
            "own",
            "not-ready",
            "unreachable",
            "disk-pressure",
            "memory-pressure",
            "pid-pressure",
            "unschedulable",
            "network-unavailable"
        ]
    );
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    assert_eq!(events(&plan), [format!("Created pod: {name}")]);
}

#[test]
fn an_endless_toleration_takes_the_place_of_one_for_a_while() {
    let short = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
    let set = set(json!({"spec": {"template": {"spec": {"tolerations": short}}}}));
    let spec = set
        .spec
        .and_then(|spec| spec.template.spec)
        .expect("a spec");
    let all = pod::tolerations(&spec);
    assert_eq!(all.len(), 6);
    assert_eq!(all[0].toleration_seconds, None);
}

#[test]
fn of_several_pods_the_oldest_bound_one_stays() {
    let mut young = pod("a", "n", "h2", "up");
    let mut old = pod("b", "n", "h2", "up");
    let at = |text: &str| serde_json::from_value(json!(text)).expect("time");
    young.metadata.creation_timestamp = Some(at("2026-01-01T00:30:00Z"));
    old.metadata.creation_timestamp = Some(at("2026-01-01T00:10:00Z"));
    let mut unbound = pod("c", "n", "h2", "unbound");
    unbound.metadata.creation_timestamp = Some(at("2026-01-01T00:00:00Z"));
    let plan = plan(set(json!({})), nodes(&["n"]), vec![young, old, unbound]);
    assert_eq!(words(&plan), ["delete pods d/a", "delete pods d/c"]);
    assert_eq!(events(&plan), ["Deleted pod: a", "Deleted pod: c"]);
}

#[tokio::test(start_paused = true)]
async fn failed_pods_are_replaced_with_back_off() {
    let first = pod("p1", "n", "h2", "failed");
    let all = controller(
        set(json!({})),
        nodes(&["n"]),
        vec![first],
        vec![revision("h2", 2, "v2")],
    );
    let plan = plan_of(&all);
    assert_eq!(words(&plan), ["delete pods d/p1"]);
    assert_eq!(
        events(&plan)[0],
        "Found failed daemon pod d/p1 on node n, will try to kill it"
    );
    // Its successor fails at once.
    all.pods.remove_for_test("d", "p1").await;
    all.pods.put_for_test(pod("p2", "n", "h2", "failed")).await;
    let plan = plan_of(&all);
    assert_eq!(words(&plan), [""; 0]);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(1)));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(words(&plan_of(&all)), ["delete pods d/p2"]);
}

#[test]
fn a_pod_that_ended_well_is_replaced_too() {
    let plan = plan(
        set(json!({})),
        nodes(&["n"]),
        vec![pod("p", "n", "h2", "done")],
    );
    assert_eq!(words(&plan), ["delete pods d/p"]);
    assert_eq!(
        events(&plan)[0],
        "Found succeeded daemon pod d/p on node n, will try to delete it"
    );
}

#[test]
fn pods_are_adopted_and_released() {
    let mut free = pod("free", "n", "h2", "up");
    free.metadata.owner_references = None;
    let mut stray = pod("stray", "n", "h2", "up");
    stray.metadata.labels = None;
    let plan = plan(set(json!({})), nodes(&["n"]), vec![free, stray]);
    assert_eq!(
        words(&plan),
        [
            "patch pods d/stray",
            "expect daemonsets.apps d/agent",
            "patch pods d/free"
        ]
    );
}

#[test]
fn some_sets_are_left_alone() {
    let all = set(json!({"spec": {"selector": {"matchLabels": null}}}));
    let told = plan(all, nodes(&["n"]), vec![]);
    assert_eq!(
        events(&told),
        ["This daemon set is selecting all pods. A non-empty selector is required."]
    );
    let going = set(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:59:00Z"}}));
    assert!(plan(going, nodes(&["n"]), vec![]).actions.is_empty());
}

#[test]
fn equal_revisions_become_one() {
    let mut bare = revision("h0", 1, "v2");
    if let Some(labels) = &mut bare.metadata.labels {
        labels.remove("controller-revision-hash");
    }
    let pods = vec![pod("p", "n", "h0", "up")];
    let revisions = vec![bare, revision("h2", 2, "v2")];
    let plan = plan_of(&controller(set(json!({})), nodes(&["n"]), pods, revisions));
    assert_eq!(
        words(&plan),
        [
            "patch controllerrevisions.apps d/h0",
            "patch pods d/p",
            "delete controllerrevisions.apps d/h0"
        ]
    );
}

#[test]
fn the_history_keeps_what_pods_are_of() {
    let mut revisions: Vec<_> = (1..=4)
        .map(|number| revision(&format!("o{number}"), number, &format!("o{number}")))
        .collect();
    revisions.push(revision("h2", 5, "v2"));
    let pods = vec![pod("p", "n", "o1", "going")];
    let set = set(json!({"spec": {"revisionHistoryLimit": 1}}));
    let plan = plan_of(&controller(set, nodes(&["n"]), pods, revisions));
    assert_eq!(
        words(&plan),
        [
            "delete controllerrevisions.apps d/o2",
            "delete controllerrevisions.apps d/o3",
            "delete controllerrevisions.apps d/o4"
        ]
    );
}

#[test]
fn the_status_counts_nodes() {
    let mut all = nodes(&["a", "b", "c", "e"]);
    all.push(node(
        "x",
        json!({}),
        json!([{"key": "x", "effect": "NoSchedule"}]),
    ));
    let pods = vec![
        pod("pa", "a", "h2", "up"),
        pod("pb", "b", "h1", "fresh"),
        pod("pc", "c", "h2", "starting"),
        pod("px", "x", "h2", "up"),
    ];
    let plan = plan(set(json!({"spec": {"minReadySeconds": 10}})), all, pods);
    assert_eq!(
        status(&plan),
        json!({"desiredNumberScheduled": 4, "currentNumberScheduled": 3, "numberMisscheduled": 1, "numberReady": 2,
            "numberAvailable": 1, "numberUnavailable": 3, "updatedNumberScheduled": 2, "observedGeneration": 4})
    );
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(5)));
}

#[test]
fn a_settled_set_writes_nothing() {
    let pods = || vec![pod("p", "n", "h2", "up")];
    let first = status(&plan(set(json!({})), nodes(&["n"]), pods()));
    let settled = plan(set(json!({"status": first})), nodes(&["n"]), pods());
    assert!(settled.actions.is_empty(), "{settled:?}");
}

#[test]
fn failures_are_told() {
    use corten_client::Error;
    use corten_client::error::{Cause, Failure};

    let controller = controller(
        set(json!({})),
        nodes(&["n"]),
        vec![],
        vec![revision("h2", 1, "v2")],
    );
    let view = controller.view(&ObjectName::new("d", "agent"));
    let now = NOW.parse().expect("time");
    let tried = controller.plan(&view, now).actions.remove(0);
    let told = |cause: &str| {
        let cause = Cause {
            reason: cause.to_owned(),
            ..Cause::default()
        };
        let failure = Failure {
            message: "no".to_owned(),
            causes: vec![cause],
            ..Failure::default()
        };
        let failed = Failed {
            action: tried.to_string(),
            tried: tried.clone(),
            error: Error::Forbidden(Box::new(failure)),
        };
        events(&controller.after_failure(&view, &[failed], now))
    };
    assert_eq!(told(""), ["Error creating: forbidden: no"]);
    assert_eq!(told("NamespaceTerminating"), [""; 0]);
}
