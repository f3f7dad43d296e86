//! The machine's exact actions for states and events, without any container.

mod resize;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::probing::ProbeKind;
use super::types::{Exit, Severity};
use super::{Action, Event, Now, PodMachine, status};
use crate::traits::ImageRecord;

/// A machine on a clock that tests move.
struct Bench {
    machine: PodMachine,
    seconds: u64,
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
    )
    .expect("a pod")
}

impl Bench {
    fn new(spec: Value) -> Self {
        let machine = PodMachine::new(
            Arc::new(pod(spec)),
            vec![[192, 0, 2, 1].into()],
            now_at(10_000),
        );
        Self {
            machine,
            seconds: 10_000,
        }
    }

    /// Past volumes and sandbox.
    fn ready(spec: Value) -> Self {
        let mut bench = Self::new(spec);
        assert_eq!(
            bench.tell(Event::Tick),
            [Action::SetupVolumes, Action::CreateSandbox]
        );
        assert_eq!(bench.tell(Event::VolumesReady), []);
        bench
    }

    fn now(&self) -> Now {
        now_at(self.seconds)
    }

    /// Actions without the events for people.
    fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.tell_all(event);
        actions
            .into_iter()
            .filter(|a| !matches!(a, Action::Report { .. }))
            .collect()
    }

    fn tell_all(&mut self, event: Event) -> Vec<Action> {
        self.machine.step(event, self.now())
    }

    fn later(&mut self, seconds: u64) -> Vec<Action> {
        self.seconds += seconds;
        self.tell(Event::Tick)
    }

    fn sandbox(&mut self) -> Vec<Action> {
        self.tell(Event::SandboxReady {
            ips: vec![[10, 0, 0, 1].into()],
        })
    }

    fn run(&mut self, name: &str, attempt: u32) -> Vec<Action> {
        let image = Box::new(ImageRecord::default());
        let event = Event::ImageReady {
            container: name.to_owned(),
            image: image.clone(),
            pulled: None,
        };
        let actions = self.tell(event);
        assert_eq!(
            actions,
            [Action::Start {
                container: name.to_owned(),
                attempt,
                image
            }]
        );
        let id = format!("{name}-{attempt}");
        self.tell(Event::Started {
            container: name.to_owned(),
            attempt,
            id,
            at: self.now().wall,
        })
    }

    fn exit(&mut self, name: &str, attempt: u32, exit_code: i32) -> Vec<Action> {
        let exit = Exit {
            exit_code,
            signal: None,
            oom_killed: false,
            started_at: Some(self.now().wall),
            finished_at: self.now().wall,
            start_error: None,
            lost: false,
            message: None,
        };
        let id = format!("{name}-{attempt}");
        self.tell(Event::Exited {
            container: name.to_owned(),
            attempt,
            id,
            exit,
        })
    }

    fn status(&self) -> PodStatus {
        status::render(&self.machine, self.now())
    }

    fn phase(&self) -> String {
        self.status().phase.expect("a phase")
    }

    fn waiting(&self, at: usize) -> Option<String> {
        let status = self.status().container_statuses?.remove(at);
        status.state?.waiting?.reason
    }

    fn delete(&mut self, grace: i64) -> Vec<Action> {
        let mut pod = (*self.machine.pod).clone();
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("time");
        self.tell(Event::Updated(Arc::new(pod)))
    }
}

fn now_at(seconds: u64) -> Now {
    let base: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
    let span = jiff::SignedDuration::from_secs(i64::try_from(seconds).expect("small"));
    Now {
        mono: Duration::from_secs(seconds),
        wall: base + span,
    }
}

fn pull(name: &str) -> Action {
    Action::PullImage {
        container: name.to_owned(),
    }
}

fn terminate(id: &str) -> Action {
    Action::Terminate {
        container: id.split('-').next().expect("a name").to_owned(),
        id: id.to_owned(),
    }
}

fn kill(id: &str) -> Action {
    Action::Kill {
        container: id.split('-').next().expect("a name").to_owned(),
        id: id.to_owned(),
    }
}

#[test]
fn comes_up_and_completes() {
    let mut bench = Bench::ready(
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}),
    );
    assert_eq!(bench.phase(), "Pending");
    assert_eq!(bench.sandbox(), [pull("c")]);
    assert_eq!(bench.run("c", 0), []);
    assert_eq!(bench.phase(), "Running");
    assert_eq!(
        bench.exit("c", 0, 0),
        [Action::RemoveSandbox, Action::TeardownVolumes]
    );
    assert_eq!(bench.phase(), "Succeeded");
    assert_eq!(bench.tell(Event::SandboxGone { error: None }), []);
    assert_eq!(bench.tell(Event::VolumesGone { error: None }), []);
    assert_eq!(bench.delete(30), [Action::Finish]);
    assert!(bench.machine.is_finished());
}

#[test]
fn crash_back_off_doubles() {
    let mut bench = Bench::ready(json!({"containers": [{"name": "c", "image": "i"}]}));
    bench.sandbox();
    bench.run("c", 0);
    assert_eq!(
        bench.exit("c", 0, 1),
        [pull("c")],
        "the first restart is immediate"
    );
    bench.run("c", 1);
    assert_eq!(bench.exit("c", 1, 1), []);
    assert_eq!(bench.waiting(0).as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(
        bench.machine.wake_at(bench.now()),
        Some(Duration::from_secs(10_010))
    );
    assert_eq!(bench.later(9), []);
    let remove = Action::Remove {
        container: "c".to_owned(),
        id: "c-0".to_owned(),
    };
    assert_eq!(bench.later(1), [remove, pull("c")]);
    bench.run("c", 2);
    assert_eq!(bench.exit("c", 2, 1), []);
    assert_eq!(
        bench.machine.wake_at(bench.now()),
        Some(Duration::from_secs(10_030))
    );
    assert_eq!(bench.phase(), "Running");
    let status = bench
        .status()
        .container_statuses
        .expect("statuses")
        .remove(0);
    assert_eq!(status.restart_count, 2);
    let last = status
        .last_state
        .and_then(|s| s.terminated)
        .expect("a last state");
    assert_eq!(
        (last.exit_code, last.container_id.as_deref()),
        (1, Some("corten://c-2"))
    );
}

#[test]
fn init_containers_gate_the_rest() {
    let mut bench = Bench::ready(json!({
        "restartPolicy": "OnFailure",
        "initContainers": [
            {"name": "one", "image": "i"},
            {"name": "side", "image": "i", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}},
        ],
        "containers": [{"name": "c", "image": "i"}],
    }));
    assert_eq!(bench.sandbox(), [pull("one")]);
    let init = bench
        .status()
        .init_container_statuses
        .expect("init containers");
    let waits = |at: usize| init[at].state.as_ref()?.waiting.as_ref()?.reason.clone();
    assert_eq!(waits(1).as_deref(), Some("PodInitializing"), "as upstream");
    bench.run("one", 0);
    assert_eq!(bench.exit("one", 0, 1), [pull("one")]);
    assert_eq!(bench.waiting(0).as_deref(), Some("PodInitializing"));
    bench.run("one", 1);
    assert_eq!(bench.exit("one", 1, 0), [pull("side")]);
    let actions = bench.run("side", 0);
    assert!(
        matches!(
            &actions[..],
            [Action::Probe {
                kind: ProbeKind::Startup,
                ..
            }]
        ),
        "{actions:?}"
    );
    let probed = Event::Probed {
        container: "side".to_owned(),
        attempt: 0,
        kind: ProbeKind::Startup,
        ok: true,
        output: String::new(),
    };
    assert_eq!(bench.tell(probed), [pull("c")]);
    bench.run("c", 0);
    assert_eq!(bench.phase(), "Running");
    // The app is done: only now is the sidecar told to stop.
    assert_eq!(bench.exit("c", 0, 0), [terminate("side-0")]);
    bench.exit("side", 0, 143);
    assert_eq!(bench.phase(), "Succeeded");
}

#[test]
fn a_failed_init_container_fails_the_pod() {
    let mut bench = Bench::ready(json!({
        "restartPolicy": "Never", "initContainers": [{"name": "one", "image": "i"}], "containers": [{"name": "c", "image": "i"}],
    }));
    bench.sandbox();
    bench.run("one", 0);
    assert_eq!(
        bench.exit("one", 0, 1),
        [Action::RemoveSandbox, Action::TeardownVolumes]
    );
    assert_eq!(bench.phase(), "Failed");
    assert_eq!(bench.waiting(0).as_deref(), Some("PodInitializing"));
}

#[test]
fn image_failures_back_off() {
    let mut bench = Bench::ready(json!({"containers": [{"name": "c", "image": "i"}]}));
    bench.sandbox();
    let failed = || Event::ImageFailed {
        container: "c".to_owned(),
        reason: "ErrImagePull",
        message: "no such image".to_owned(),
        backs_off: true,
    };
    assert_eq!(bench.tell(failed()), []);
    assert_eq!(bench.waiting(0).as_deref(), Some("ErrImagePull"));
    assert_eq!(bench.later(2), []);
    assert_eq!(bench.waiting(0).as_deref(), Some("ImagePullBackOff"));
    assert_eq!(bench.later(8), [pull("c")]);
    bench.tell(failed());
    assert_eq!(bench.later(19), []);
    assert_eq!(bench.later(1), [pull("c")]);
}

#[test]
fn deletion_is_graceful_then_not() {
    let spec = json!({"containers": [{"name": "c", "image": "i",
        "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}, {"name": "d", "image": "i"}]});
    let mut bench = Bench::ready(spec);
    bench.sandbox();
    bench.run("c", 0);
    bench.run("d", 0);
    let actions = bench.delete(30);
    assert!(
        matches!(&actions[0], Action::PreStop { timeout, .. } if timeout.as_secs() == 30),
        "{actions:?}"
    );
    assert_eq!(actions[1..], [terminate("d-0")]);
    bench.exit("d", 0, 0);
    let done = Event::PreStopDone {
        container: "c".to_owned(),
        attempt: 0,
        error: None,
    };
    assert_eq!(bench.tell(done), [terminate("c-0")]);
    assert_eq!(bench.later(29), []);
    assert_eq!(bench.later(1), [kill("c-0")]);
    assert_eq!(
        bench.exit("c", 0, 137),
        [Action::RemoveSandbox, Action::TeardownVolumes]
    );
    assert_eq!(bench.phase(), "Failed");
    bench.tell(Event::SandboxGone { error: None });
    assert_eq!(
        bench.tell(Event::VolumesGone { error: None }),
        [Action::Finish]
    );
}

#[test]
fn a_second_deletion_shortens_the_wait() {
    let mut bench = Bench::ready(json!({"containers": [{"name": "c", "image": "i"}]}));
    bench.sandbox();
    bench.run("c", 0);
    assert_eq!(bench.delete(300), [terminate("c-0")]);
    assert_eq!(bench.delete(0), [kill("c-0")]);
}

#[test]
fn a_pod_deleted_before_its_sandbox_is_up_leaves_nothing() {
    let mut bench = Bench::ready(json!({"containers": [{"name": "c", "image": "i"}]}));
    assert_eq!(bench.delete(30), [Action::TeardownVolumes]);
    assert_eq!(
        bench.sandbox(),
        [Action::RemoveSandbox],
        "a late sandbox is taken down, not used"
    );
}

#[test]
fn liveness_failure_restarts_and_readiness_does_not() {
    let probe = json!({"exec": {"command": ["x"]}, "failureThreshold": 1, "periodSeconds": 1});
    let spec = json!({"terminationGracePeriodSeconds": 5,
        "containers": [{"name": "c", "image": "i", "livenessProbe": probe, "readinessProbe": probe}]});
    let mut bench = Bench::ready(spec);
    bench.sandbox();
    assert_eq!(bench.run("c", 0).len(), 2);
    let probed = |kind, ok| Event::Probed {
        container: "c".to_owned(),
        attempt: 0,
        kind,
        ok,
        output: "bad".to_owned(),
    };
    bench.tell(probed(ProbeKind::Readiness, true));
    let ready = |bench: &Bench| bench.status().container_statuses.expect("statuses")[0].ready;
    assert!(ready(&bench));
    bench.later(1);
    let actions = bench.tell_all(probed(ProbeKind::Readiness, false));
    let unhealthy = Action::Report {
        severity: Severity::Warning,
        reason: "Unhealthy".into(),
        message: "Readiness probe failed: bad".to_owned(),
        container: Some("c".to_owned()),
    };
    assert_eq!(actions, [unhealthy]);
    assert!(!ready(&bench));
    assert_eq!(
        bench.tell(probed(ProbeKind::Liveness, false)),
        [terminate("c-0")]
    );
    assert_eq!(bench.exit("c", 0, 143), [pull("c")]);
}

#[test]
fn results_of_older_attempts_are_ignored() {
    let mut bench = Bench::ready(json!({"containers": [{"name": "c", "image": "i"}]}));
    bench.sandbox();
    bench.run("c", 0);
    bench.exit("c", 0, 1);
    bench.run("c", 1);
    assert_eq!(bench.exit("c", 0, 1), []);
    assert_eq!(bench.phase(), "Running");
    assert!(bench.machine.containers[0].run().is_some());
}

#[test]
fn the_deadline_counts_from_the_start() {
    let spec = json!({"activeDeadlineSeconds": 60, "terminationGracePeriodSeconds": 7, "containers": [{"name": "c", "image": "i"}]});
    let mut bench = Bench::ready(spec);
    bench.sandbox();
    bench.run("c", 0);
    assert_eq!(bench.later(59), []);
    assert_eq!(bench.later(1), [terminate("c-0")]);
    assert_eq!(
        (bench.phase().as_str(), bench.status().reason.as_deref()),
        ("Failed", Some("DeadlineExceeded"))
    );
    assert_eq!(bench.later(7), [kill("c-0")]);
}

#[test]
fn rejected_pods_fail_without_starting_anything() {
    let mut bench = Bench::new(json!({"containers": [{"name": "c", "image": "i"}]}));
    let event = Event::Rejected {
        reason: "OutOfcpu".to_owned(),
        message: "no".to_owned(),
    };
    assert_eq!(
        bench.tell(event),
        [Action::RemoveSandbox, Action::TeardownVolumes]
    );
    assert_eq!(
        (bench.phase().as_str(), bench.status().reason.as_deref()),
        ("Failed", Some("OutOfcpu"))
    );
}

#[test]
fn an_evicted_pod_ends_at_once_and_says_why() {
    let spec =
        json!({"terminationGracePeriodSeconds": 300, "containers": [{"name": "c", "image": "i"}]});
    let mut bench = Bench::ready(spec);
    bench.sandbox();
    bench.run("c", 0);
    let message = "low on memory".to_owned();
    assert_eq!(bench.tell(Event::Evicted { message }), [terminate("c-0")]);
    assert_eq!(bench.later(2), [kill("c-0")], "whatever its grace period");
    let status = bench.status();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("Evicted"))
    );
    let target = status
        .conditions
        .expect("conditions")
        .into_iter()
        .find(|c| c.type_ == "DisruptionTarget")
        .expect("DisruptionTarget");
    assert_eq!(
        (target.status.as_str(), target.reason.as_deref()),
        ("True", Some("TerminationByKubelet"))
    );
}

#[test]
fn a_probe_that_passes_can_warn() {
    let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 1});
    let mut bench =
        Bench::ready(json!({"containers": [{"name": "c", "image": "i", "readinessProbe": probe}]}));
    bench.sandbox();
    bench.run("c", 0);
    let told = bench.tell_all(Event::Probed {
        container: "c".to_owned(),
        attempt: 0,
        kind: ProbeKind::Readiness,
        ok: true,
        output: "moved".to_owned(),
    });
    let warning = Action::Report {
        severity: Severity::Warning,
        reason: "ProbeWarning".into(),
        message: "Readiness probe warning: moved".to_owned(),
        container: Some("c".to_owned()),
    };
    assert_eq!(told, [warning]);
    assert!(bench.status().container_statuses.expect("statuses")[0].ready);
}

#[test]
fn conditions_keep_their_transition_times() {
    let mut bench = Bench::ready(
        json!({"containers": [{"name": "c", "image": "i"}], "readinessGates": [{"conditionType": "x/y"}]}),
    );
    bench.sandbox();
    bench.run("c", 0);
    let first = bench.status();
    bench.machine.remember(&first);
    bench.seconds += 100;
    assert_eq!(bench.status(), first);
    let ready = first
        .conditions
        .expect("conditions")
        .into_iter()
        .find(|c| c.type_ == "Ready")
        .expect("Ready");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_deref()),
        ("False", Some("ReadinessGatesNotReady"))
    );
}
