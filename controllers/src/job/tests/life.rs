//! Whole lives of Jobs, on a server that is made of maps: whenever the process ends between two writes, each pod is
//! counted once.

use std::collections::BTreeMap;

use super::*;

struct World {
    job: Job,
    pods: BTreeMap<String, Pod>,
    now: Timestamp,
    /// How pods ended that had our finalizer when they did: (succeeded, failed).
    ended: (i32, i32),
    random: u64,
}

impl World {
    fn new(spec: Value, seed: u64) -> Self {
        let mut job = job(spec, json!({}));
        job.status = None;
        Self {
            job,
            pods: BTreeMap::new(),
            now: now(),
            ended: (0, 0),
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % 1_000_003).unwrap_or(0) % end.max(1)
    }

    /// One run of a new process, which ends after some of its writes.
    fn run(&mut self) {
        let controller = controller(
            vec![self.job.clone()],
            self.pods.values().cloned().collect(),
        );
        let plan = controller.plan(&controller.view(&Key::Job(name("j"))), self.now);
        let writes = match self.below(3) {
            0 => self.below(plan.actions.len() + 1),
            _ => plan.actions.len(),
        };
        for action in plan.actions.iter().take(writes) {
            self.apply(action);
        }
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Update { object, .. } => {
                self.job = serde_json::from_value(object.clone()).expect("job");
            }
            Action::Create { object, .. } => {
                let mut pod: Pod = serde_json::from_value(object.clone()).expect("pod");
                let name = pod.metadata.name.clone().expect("name");
                pod.metadata.uid = Some(name.clone());
                pod.status.get_or_insert_default().phase = Some("Running".to_owned());
                self.pods.insert(name, pod);
            }
            Action::Delete { target, .. } => {
                let time = serde_json::from_value(json!(self.now.to_string())).expect("time");
                let pod = self.pods.get_mut(&target.name).expect("pod");
                pod.metadata.deletion_timestamp.get_or_insert(time);
                self.collect(&target.name);
            }
            Action::Patch { target, .. } => {
                let pod = self.pods.get_mut(&target.name).expect("pod");
                pod.metadata.finalizers = None;
                self.collect(&target.name);
            }
            Action::Expect { .. } | Action::Event { .. } => {}
        }
    }

    /// A pod that ended, is to go and has no finalizer goes.
    fn collect(&mut self, name: &str) {
        let pod = &self.pods[name];
        if pod.metadata.deletion_timestamp.is_some()
            && pods::is_finished(pod)
            && !has_finalizer(pod)
        {
            self.pods.remove(name);
        }
    }

    /// What nodes do.
    fn nodes(&mut self, failing: usize) {
        let names: Vec<String> = self.pods.keys().cloned().collect();
        for name in names {
            let (ends, fails) = (self.below(2) == 0, self.below(10) < failing);
            let pod = self.pods.get_mut(&name).expect("pod");
            let going = pod.metadata.deletion_timestamp.is_some();
            if pods::is_finished(pod) || !ends {
                continue;
            }
            let fails = fails || going;
            if has_finalizer(pod) && !going {
                match fails {
                    true => self.ended.1 += 1,
                    false => self.ended.0 += 1,
                }
            }
            let phase = if fails { "Failed" } else { "Succeeded" };
            pod.status.get_or_insert_default().phase = Some(phase.to_owned());
            self.collect(&name);
        }
    }

    fn counters(&self) -> (i32, i32) {
        let status = self.job.status.clone().unwrap_or_default();
        (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
    }

    fn live(&mut self, failing: usize) -> String {
        for _ in 0..400 {
            if let Some(end) = finished(&self.job) {
                return end.type_.clone();
            }
            self.run();
            self.nodes(failing);
            self.now += Duration::from_secs(700);
        }
        panic!("no end: {:?}", self.job.status);
    }
}

#[test]
fn each_pod_is_counted_once() {
    for seed in 1..=40 {
        let spec = json!({"parallelism": 4, "completions": 10, "backoffLimit": 1000});
        let mut world = World::new(spec, seed);
        assert_eq!(world.live(3), "Complete", "seed {seed}");
        // Pods that a process made twice may have succeeded beyond what was asked for: they were counted, too.
        assert_eq!(world.counters(), world.ended, "seed {seed}");
        assert!(
            world.pods.values().all(|pod| !has_finalizer(pod)),
            "seed {seed}"
        );
    }
}

#[test]
fn each_index_succeeds_once() {
    for seed in 1..=40 {
        let spec = json!({"completionMode": "Indexed", "parallelism": 4, "completions": 10, "backoffLimit": 1000});
        let mut world = World::new(spec, seed);
        assert_eq!(world.live(3), "Complete", "seed {seed}");
        assert_eq!(world.counters(), (10, world.ended.1), "seed {seed}");
        let indexes = world.job.status.expect("status").completed_indexes;
        assert_eq!(indexes.as_deref(), Some("0-9"), "seed {seed}");
    }
}

#[test]
fn indexes_that_fail_are_given_up_one_by_one() {
    for seed in 1..=40 {
        let spec = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 6, "backoffLimit": null,
                          "backoffLimitPerIndex": 1});
        let mut world = World::new(spec, seed);
        let end = world.live(5);
        let status = world.job.status.clone().expect("status");
        let failed = status.failed_indexes.unwrap_or_default();
        assert_eq!(
            end,
            if failed.is_empty() {
                "Complete"
            } else {
                "Failed"
            },
            "seed {seed}"
        );
        assert_eq!(status.failed.unwrap_or(0), world.ended.1, "seed {seed}");
    }
}

#[test]
fn a_failing_job_comes_to_its_end() {
    for seed in 1..=20 {
        let spec = json!({"parallelism": 3, "completions": 9, "backoffLimit": 2});
        let mut world = World::new(spec, seed);
        assert_eq!(world.live(10), "Failed", "seed {seed}");
        assert!(world.counters().1 > 2, "seed {seed}");
        assert!(
            world.pods.values().all(|pod| !has_finalizer(pod)),
            "seed {seed}"
        );
    }
}
