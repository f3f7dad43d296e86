//! What the loss of a sandbox means for containers: addresses and namespaces are new, so what init containers had set up may
//! be gone, and they run again. Pure.

use super::container::{ContainerMachine, State};
use super::machine::PodMachine;
use crate::spec::ContainerKind;

impl PodMachine {
    /// Takes it that the sandbox of the runs known so far is gone: init containers that were through wait for their next
    /// attempt. Nothing changes for pods that will not run again, and for those that never start anything twice.
    pub fn sandbox_lost(&mut self) {
        self.initialized = false;
        let stays = self.is_frozen()
            || self.is_complete()
            || self.is_deleted()
            || self.restart_policy() == "Never";
        if stays {
            return;
        }
        for container in &mut self.containers {
            if container.kind == ContainerKind::Init {
                container.run_again();
            }
        }
    }
}

impl ContainerMachine {
    /// An ended run becomes the one before the next, which waits for nothing.
    fn run_again(&mut self) {
        let fresh = Self::new(self.kind, self.spec.clone()).state;
        if let State::Ended(ended) = &self.state {
            self.last = Some(ended.clone());
            self.restart_count += 1;
            self.state = fresh;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::pod::types::{Exit, Now};

    fn now() -> Now {
        Now {
            mono: Duration::from_secs(10_000),
            wall: "2026-01-01T00:00:00Z".parse().expect("a time"),
        }
    }

    fn ended(machine: &mut PodMachine, at: usize, exit_code: i32) {
        let exit = Exit {
            exit_code,
            signal: None,
            oom_killed: false,
            started_at: None,
            finished_at: now().wall,
            start_error: None,
            lost: false,
            message: None,
        };
        machine.containers[at].exited("id".to_owned(), exit, now());
    }

    /// A pod whose init container is through and whose app container ended with this code.
    fn lost(policy: &str, app: i32) -> PodMachine {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"restartPolicy": policy,
                "initContainers": [{"name": "i", "image": "x"}],
                "containers": [{"name": "c", "image": "x"}]},
        }))
        .expect("a pod");
        let mut machine = PodMachine::new(Arc::new(pod), Vec::new(), now());
        machine.initialized = true;
        let at = |machine: &PodMachine, name| machine.position(name).expect("a container");
        let (init, main) = (at(&machine, "i"), at(&machine, "c"));
        ended(&mut machine, init, 0);
        ended(&mut machine, main, app);
        machine.sandbox_lost();
        machine
    }

    fn init(machine: &PodMachine) -> &ContainerMachine {
        &machine.containers[machine.position("i").expect("init")]
    }

    #[test]
    fn init_containers_run_again_when_the_sandbox_was_lost() {
        for (policy, app, again) in [
            ("Always", 137, true),
            ("OnFailure", 137, true),
            ("OnFailure", 0, false), // the pod is over
            ("Never", 137, false),
        ] {
            let machine = lost(policy, app);
            let init = init(&machine);
            assert!(!machine.initialized, "{policy} {app}");
            assert_eq!(init.restart_count, u32::from(again), "{policy} {app}");
            assert_eq!(init.ended().is_none(), again, "{policy} {app}");
            assert_eq!(init.last.is_some(), again, "{policy} {app}");
        }
    }
}
