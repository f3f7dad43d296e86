//! Helm 3 and Helm 4: install, test, upgrade, a failing upgrade, rollback, history, uninstall, with hooks, on a chart that has one
//! object of each common kind and on one with hundreds of objects.

use anyhow::{Context, Result, ensure};
use corten_e2e::cluster::{Cluster, step};
use serde_json::Value;

use crate::{client, has, said};

/// Objects per kind in the large chart; it has four kinds.
const EACH: usize = 100;

pub(crate) fn run(cluster: &Cluster) -> Result<()> {
    for program in ["helm-3", "helm-4"] {
        let helm = Helm { cluster, program };
        step(&format!("{program}: a chart with everything"));
        helm.everything()?;
        step(&format!("{program}: a chart with {} objects", 4 * EACH));
        helm.large()?;
    }
    Ok(())
}

struct Helm<'a> {
    cluster: &'a Cluster,
    program: &'static str,
}

impl Helm<'_> {
    /// The namespace of the releases, by the program's name.
    fn call(&self, args: &[&str]) -> Result<String> {
        let mut command = client(self.cluster, self.program);
        command.args(["-n", self.program]).args(args);
        said(command)
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster
            .kubectl(&[&["-n", self.program][..], args].concat())
    }

    fn everything(&self) -> Result<()> {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/everything");
        let waiting = ["--wait", "--wait-for-jobs", "--timeout=120s"];
        let install = ["install", "all", chart, "--create-namespace"];
        has(
            &self.call(&[&install[..], &waiting].concat())?,
            &["STATUS: deployed", "all runs version 1."],
        )?;
        self.hooks_ran(&["pre-install", "post-install"], "1")?;
        has(
            &self.call(&["test", "all", "--logs"])?,
            &["Succeeded", "1 all-"],
        )?;
        let upgrade = ["upgrade", "all", chart, "--set", "version=2"];
        has(
            &self.call(&[&upgrade[..], &waiting].concat())?,
            &["STATUS: deployed", "all runs version 2."],
        )?;
        self.hooks_ran(&["pre-upgrade", "post-upgrade"], "2")?;
        has(&self.call(&["test", "all", "--logs"])?, &["2 all-"])?;
        self.a_failing_upgrade(chart)?;
        let rollback = ["rollback", "all", "1"];
        has(
            &self.call(&[&rollback[..], &waiting].concat())?,
            &["Rollback was a success"],
        )?;
        has(&self.call(&["test", "all", "--logs"])?, &["1 all-"])?;
        let history: Value = serde_json::from_str(&self.call(&["history", "all", "-o", "json"])?)?;
        let states: Vec<&str> = history
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["status"].as_str())
            .collect();
        ensure!(
            states == ["superseded", "superseded", "failed", "deployed"],
            "{states:?}"
        );
        has(
            &self.call(&["uninstall", "all", "--wait", "--timeout=120s"])?,
            &["release \"all\" uninstalled"],
        )?;
        self.hooks_ran(&["pre-delete", "post-delete"], "1")?;
        self.nothing_is_left("app.kubernetes.io/instance=all")
    }

    /// An image that is not there: the upgrade fails in its time, and what ran goes on running. The Deployment's only: a StatefulSet
    /// waits for a pod that never becomes ready, also when it is rolled back, here as upstream.
    fn a_failing_upgrade(&self, chart: &str) -> Result<()> {
        let failed = self.call(&[
            "upgrade",
            "all",
            chart,
            "--set",
            "web=registry.test/none",
            "--no-hooks",
            "--wait",
            "--timeout=10s",
        ]);
        ensure!(failed.is_err(), "an upgrade to no image went well");
        let ready = self.kubectl(&[
            "get",
            "deploy",
            "all",
            "-o",
            "jsonpath={.status.readyReplicas}",
        ])?;
        ensure!(
            ready == "2",
            "{ready} pods are ready after the failed upgrade"
        );
        Ok(())
    }

    /// Each hook's pod or Job has ended well, in the version that it is of.
    fn hooks_ran(&self, hooks: &[&str], version: &str) -> Result<()> {
        for hook in hooks {
            let kind = if hook.starts_with("post") {
                "job"
            } else {
                "pod"
            };
            let log = self.kubectl(&["logs", &format!("{kind}/all-{hook}")])?;
            ensure!(log == format!("{hook} of {version}\n"), "{hook}: {log}");
        }
        Ok(())
    }

    fn nothing_is_left(&self, selector: &str) -> Result<()> {
        let kinds = self
            .cluster
            .kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
        let kinds: Vec<&str> = kinds
            .lines()
            .filter(|kind| !kind.starts_with("events"))
            .collect();
        let args = ["get", &kinds.join(","), "-A", "-l", selector, "-o", "name"];
        // Pods may still have their second of grace.
        corten_e2e::wait::until("all is gone", std::time::Duration::from_secs(30), || {
            let left = self.cluster.kubectl(&args).map_err(|e| e.to_string())?;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
    }

    fn large(&self) -> Result<()> {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/large");
        let each = format!("each={EACH}");
        let size = ["--set", &each];
        // Helm holds itself back to five requests a second after the first hundred: that would be all that is measured.
        let free = ["--wait", "--qps=200", "--burst-limit=400"];
        let timed = |args: &[&str]| -> Result<()> {
            let start = std::time::Instant::now();
            self.call(&[args, &free].concat())?;
            step(&format!(
                "{} {}: {:.1} s",
                self.program,
                args[0],
                start.elapsed().as_secs_f64()
            ));
            Ok(())
        };
        timed(&[&["install", "big", chart, "--wait"][..], &size].concat())?;
        timed(
            &[
                &["upgrade", "big", chart, "--wait", "--set", "word=bye"][..],
                &size,
            ]
            .concat(),
        )?;
        self.words("bye")?;
        timed(&["rollback", "big", "1"])?;
        self.words("hello")?;
        timed(&["uninstall", "big"])?;
        let left = self.kubectl(&["get", "cm,secret,svc,deploy", "-o", "name"])?;
        ensure!(!left.contains("big-"), "{left}");
        Ok(())
    }

    /// Each object holds this word.
    fn words(&self, word: &str) -> Result<()> {
        let path = "jsonpath={.items[?(@.data.word)].data.word}";
        let maps = self.kubectl(&["get", "cm", "-o", path])?;
        let count = maps.split(' ').filter(|found| *found == word).count();
        ensure!(count == EACH, "{count} ConfigMaps say {word}");
        let deployments: Value =
            serde_json::from_str(&self.kubectl(&["get", "deploy", "-o", "json"])?)?;
        let labels = deployments["items"]
            .as_array()
            .context("no list")?
            .iter()
            .filter(|one| one["spec"]["template"]["metadata"]["labels"]["word"] == word)
            .count();
        ensure!(labels == EACH, "{labels} Deployments say {word}");
        Ok(())
    }
}
