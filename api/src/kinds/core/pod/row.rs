//! The table row of a pod. Its Status column folds phase, conditions and container states into one word.

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::duration;
use crate::kinds::value::Get;

/// Restarts so far, and when the last one was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status.int("restartCount").unwrap_or(0);
        let finished = duration::parse(status.at("lastState").at("terminated").at("finishedAt"));
        self.last = self.last.max(finished);
    }

    fn text(self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!(
                    "{} ({} ago)",
                    self.count,
                    duration::human(now.as_second() - last.as_second())
                )
            }
            _ => self.count.to_string(),
        }
    }
}

/// What the init containers came to.
struct Init {
    /// The status word, while they are not done.
    reason: Option<String>,
    /// Restarts of all of them that were looked at.
    restarts: Restarts,
    /// Restarts of the sidecars among them, which go on counting later.
    sidecar_restarts: Restarts,
    /// Sidecars that are ready.
    ready: usize,
}

/// The cells of a pod.
pub(super) fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (meta, spec, status) = (pod.at("metadata"), pod.at("spec"), pod.at("status"));
    let init = init_containers(spec, status);
    let sidecars = spec
        .list("initContainers")
        .iter()
        .filter(|c| is_sidecar(c))
        .count();
    let total = spec.list("containers").len() + sidecars;
    let mut reason = base_reason(status);
    let mut restarts = init.restarts;
    let mut ready = init.ready;
    let initializing = init.reason.is_some();
    if let Some(init_reason) = init.reason {
        reason = init_reason;
    }
    if !initializing || condition(status, "Initialized") {
        restarts = init.sidecar_restarts;
        let (word, running) = containers(status, &mut restarts, &mut ready);
        reason = word.unwrap_or(reason);
        // Some have ended well, but others are at work.
        if reason == "Completed" && running {
            reason = if condition(status, "Ready") {
                "Running"
            } else {
                "NotReady"
            }
            .to_owned();
        }
    }
    if meta.has("deletionTimestamp") {
        if status.text("reason") == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !matches!(status.text("phase"), "Succeeded" | "Failed") {
            reason = "Terminating".to_owned();
        }
    }
    let mut cells: Vec<Value> = vec![
        meta.text("name").into(),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.text(now).into(),
        duration::age(meta.at("creationTimestamp"), now).into(),
    ];
    cells.extend(wide(spec, status));
    cells
}

fn wide(spec: &Value, status: &Value) -> [Value; 4] {
    let or_none = |text: &str| {
        if text.is_empty() {
            Value::from("<none>")
        } else {
            Value::from(text)
        }
    };
    let ip = status
        .list("podIPs")
        .first()
        .map_or(status.text("podIP"), |ip| ip.text("ip"));
    let gates = spec.list("readinessGates");
    let passed = gates
        .iter()
        .filter(|gate| condition(status, gate.text("conditionType")))
        .count();
    let gates = if gates.is_empty() {
        String::new()
    } else {
        format!("{passed}/{}", gates.len())
    };
    [
        or_none(ip),
        or_none(spec.text("nodeName")),
        or_none(status.text("nominatedNodeName")),
        or_none(&gates),
    ]
}

fn base_reason(status: &Value) -> String {
    let gated =
        |c: &Value| c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated";
    if status.list("conditions").iter().any(gated) {
        return "SchedulingGated".to_owned();
    }
    match status.text("reason") {
        "" => status.text("phase").to_owned(),
        reason => reason.to_owned(),
    }
}

fn condition(status: &Value, kind: &str) -> bool {
    status
        .list("conditions")
        .iter()
        .any(|c| c.text("type") == kind && c.text("status") == "True")
}

fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}

fn init_containers(spec: &Value, status: &Value) -> Init {
    let specs = spec.list("initContainers");
    let mut init = Init {
        reason: None,
        restarts: Restarts::default(),
        sidecar_restarts: Restarts::default(),
        ready: 0,
    };
    for (i, container) in status.list("initContainerStatuses").iter().enumerate() {
        let sidecar = specs
            .iter()
            .any(|c| c.text("name") == container.text("name") && is_sidecar(c));
        init.restarts.add(container);
        if sidecar {
            init.sidecar_restarts.add(container);
        }
        let state = container.at("state");
        let (waiting, terminated) = (state.at("waiting"), state.opt("terminated"));
        if terminated.is_some_and(|t| t.int("exitCode").unwrap_or(0) == 0) {
            continue;
        }
        if sidecar && container.flag("started") {
            init.ready += usize::from(container.flag("ready"));
            continue;
        }
        init.reason = Some(match terminated {
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !matches!(waiting.text("reason"), "" | "PodInitializing") => {
                format!("Init:{}", waiting.text("reason"))
            }
            None => format!("Init:{i}/{}", specs.len()),
        });
        break;
    }
    init
}

/// Goes through the containers from last to first, so that the first one has the last word.
fn containers(
    status: &Value,
    restarts: &mut Restarts,
    ready: &mut usize,
) -> (Option<String>, bool) {
    let mut word = None;
    let mut running = false;
    for container in status.list("containerStatuses").iter().rev() {
        restarts.add(container);
        let state = container.at("state");
        let waiting = state.at("waiting").text("reason");
        if !waiting.is_empty() {
            word = Some(waiting.to_owned());
        } else if let Some(terminated) = state.opt("terminated") {
            word = Some(ended(terminated));
        } else if container.flag("ready") && state.has("running") {
            running = true;
            *ready += 1;
        }
    }
    (word, running)
}

fn ended(terminated: &Value) -> String {
    match (
        terminated.text("reason"),
        terminated.int("signal").unwrap_or(0),
    ) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(spec: Value, status: Value) -> (String, String, String) {
        let now: Timestamp = "2024-01-01T00:01:00Z".parse().expect("a timestamp");
        let row = row(
            &json!({"metadata": {"name": "p"}, "spec": spec, "status": status}),
            now,
        );
        let text = |i: usize| row[i].as_str().unwrap_or("").to_owned();
        (text(1), text(2), text(3))
    }

    fn check(spec: Value, status: Value, expected: (&str, &str, &str)) {
        let (ready, reason, restarts) = cells(spec, status);
        assert_eq!(
            (ready.as_str(), reason.as_str(), restarts.as_str()),
            expected
        );
    }

    #[test]
    fn running_and_restarted() {
        let finished = json!({"terminated": {"finishedAt": "2024-01-01T00:00:55Z"}});
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}}, "lastState": finished},
            {"name": "b", "ready": false, "restartCount": 0, "state": {"running": {}}}]});
        check(
            json!({"containers": [{}, {}]}),
            status,
            ("1/2", "Running", "2 (5s ago)"),
        );
    }

    #[test]
    fn waiting_and_ended_containers_have_the_word() {
        let one = || json!({"containers": [{}]});
        let with_state = |phase: &str, state: Value| json!({"phase": phase, "containerStatuses": [{"state": state}]});
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(
            one(),
            with_state("Running", crash),
            ("0/1", "CrashLoopBackOff", "0"),
        );
        let done = json!({"terminated": {"reason": "Completed", "exitCode": 0}});
        check(
            one(),
            with_state("Succeeded", done),
            ("0/1", "Completed", "0"),
        );
        let killed = json!({"terminated": {"signal": 9}});
        check(
            one(),
            with_state("Failed", killed),
            ("0/1", "Signal:9", "0"),
        );
        let exited = json!({"terminated": {"exitCode": 3}});
        check(
            one(),
            with_state("Failed", exited),
            ("0/1", "ExitCode:3", "0"),
        );
        check(
            one(),
            json!({"phase": "Failed", "reason": "Evicted"}),
            ("0/1", "Evicted", "0"),
        );
        let gated = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]});
        check(one(), gated, ("0/1", "SchedulingGated", "0"));
    }

    #[test]
    fn one_done_one_at_work() {
        let statuses = json!([
            {"ready": false, "state": {"terminated": {"reason": "Completed"}}},
            {"ready": true, "state": {"running": {}}}]);
        let status = json!({"phase": "Running", "containerStatuses": statuses});
        check(
            json!({"containers": [{}, {}]}),
            status.clone(),
            ("1/2", "NotReady", "0"),
        );
        let mut ready = status;
        ready["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        check(
            json!({"containers": [{}, {}]}),
            ready,
            ("1/2", "Running", "0"),
        );
    }

    #[test]
    fn init_containers_are_counted() {
        let spec = || json!({"containers": [{}], "initContainers": [{"name": "i"}, {"name": "j"}]});
        let status = |state: Value| {
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": state}],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]})
        };
        check(
            spec(),
            status(json!({"waiting": {"reason": "PodInitializing"}})),
            ("0/1", "Init:1/2", "0"),
        );
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(spec(), status(crash), ("0/1", "Init:CrashLoopBackOff", "0"));
        check(
            spec(),
            status(json!({"terminated": {"exitCode": 1}})),
            ("0/1", "Init:ExitCode:1", "0"),
        );
        let failed = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        check(spec(), status(failed), ("0/1", "Init:Error", "0"));
    }

    #[test]
    fn sidecars_count_as_containers() {
        let spec = json!({"containers": [{}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
        let status = json!({"phase": "Running",
            "initContainerStatuses": [
                {"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
            "containerStatuses": [{"ready": true, "state": {"running": {}}}]});
        check(spec, status, ("2/2", "Running", "1"));
    }

    #[test]
    fn deletion_has_the_last_word_while_it_runs() {
        let pod = |phase: &str, reason: &str| {
            json!({"metadata": {"name": "p", "deletionTimestamp": "2024-01-01T00:00:00Z"},
                   "status": {"phase": phase, "reason": reason}})
        };
        let word = |pod: Value| row(&pod, Timestamp::UNIX_EPOCH)[2].clone();
        assert_eq!(word(pod("Running", "")), "Terminating");
        assert_eq!(word(pod("Running", "NodeLost")), "Unknown");
        assert_eq!(word(pod("Succeeded", "")), "Succeeded");
    }

    #[test]
    fn wide_cells() {
        let spec = json!({"nodeName": "n1", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]});
        let status = json!({"podIP": "10.0.0.9", "conditions": [{"type": "a", "status": "True"}]});
        assert_eq!(
            wide(&spec, &status),
            ["10.0.0.9", "n1", "<none>", "1/2"].map(Value::from)
        );
    }
}
