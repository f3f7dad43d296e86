//! Upstream's suite as the judge: a lab, a registry with the suite's images, the suite's own runner, and a table of every
//! test with what came of it.
//!
//! Knows nothing of what a test does. Invariant: a result in the table is one that the runner gave; a test that did not
//! run is not there as passed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use corten::lab::Shape;

use crate::cluster::{Cluster, step};

pub mod images;
pub mod report;
pub mod table;

use report::Outcome;

/// What the suite's clients send and ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Content {
    /// Protobuf where the kind has it, as client-go does by default.
    Protobuf,
    /// JSON only.
    Json,
}

impl Content {
    fn media_type(self) -> &'static str {
        match self {
            Content::Protobuf => "application/vnd.kubernetes.protobuf",
            Content::Json => "application/json",
        }
    }
}

/// What is to be run.
#[derive(Debug)]
pub struct Wish {
    /// Folder of e2e.test, ginkgo, kubectl and the images' programs.
    pub programs: PathBuf,
    /// The project's folder.
    pub project: PathBuf,
    /// Regular expression of names; empty for all.
    pub focus: String,
    /// Regular expression of names that are left out; empty for none.
    pub skip: String,
    /// How clients speak.
    pub content: Content,
    /// Tests at the same time.
    pub procs: u8,
    /// Store members.
    pub members: u8,
    /// Nodes.
    pub nodes: u8,
    /// Whether the table is written.
    pub keep: bool,
}

/// Which part of the suite.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Tests that can run beside each other.
    Parallel,
    /// Tests that want the cluster for themselves.
    Serial,
}

impl Part {
    fn labels(self) -> &'static str {
        match self {
            Part::Parallel => "Conformance && !Serial",
            Part::Serial => "Conformance && Serial",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Part::Parallel => "parallel",
            Part::Serial => "serial",
        }
    }
}

/// Runs what is wished for and writes the table.
pub fn run(wish: &Wish) -> Result<()> {
    let all = names(wish)?;
    step(&format!("the suite has {} conformance tests", all.len()));
    let shape = Shape {
        members: wish.members,
        nodes: wish.nodes,
        segments: 1,
    };
    let cluster = Cluster::prepare("judge", shape)?;
    images::push(&cluster, &wish.programs)?;
    let cluster = cluster.run()?;
    let mut outcomes = Vec::new();
    for part in [Part::Parallel, Part::Serial] {
        outcomes.extend(run_part(wish, &cluster, part)?);
    }
    let count = |state: &str| outcomes.iter().filter(|o| o.state == state).count();
    step(&format!(
        "{} ran: {} passed, {} failed",
        outcomes.len(),
        count("passed"),
        outcomes.len() - count("passed")
    ));
    for outcome in outcomes.iter().filter(|o| o.state != "passed") {
        step(&format!("{}: {}", outcome.state, outcome.name));
        step(&format!("    {}", outcome.reason));
    }
    if wish.keep {
        table::update(&wish.project, &all, &outcomes, wish.content)?;
    }
    Ok(())
}

/// The names of all tests, from the suite itself.
fn names(wish: &Wish) -> Result<Vec<String>> {
    let dir = tempdir("names")?;
    let report = dir.join("report.json");
    let out = Command::new(wish.programs.join("e2e.test"))
        .args([
            "--ginkgo.dry-run",
            "--ginkgo.label-filter=Conformance",
            "--ginkgo.silence-skips",
        ])
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .current_dir(&dir)
        .output()
        .context("e2e.test is missing")?;
    ensure!(
        out.status.success(),
        "e2e.test --ginkgo.dry-run: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let all = report::read(&report)?.into_iter();
    let chosen = all.filter(|outcome| outcome.state != "skipped");
    Ok(chosen.map(|outcome| outcome.name).collect())
}

fn tempdir(name: &str) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("corten-conformance-{name}"));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn run_part(wish: &Wish, cluster: &Cluster, part: Part) -> Result<Vec<Outcome>> {
    // It stays when the lab is gone: the log says more than the table.
    let dir = tempdir(part.name())?;
    let report = dir.join("report.json");
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    let log = std::fs::File::create(dir.join("log"))?;
    let procs = if part == Part::Serial { 1 } else { wish.procs };
    step(&format!(
        "{} tests; the runner's words go to {}",
        part.name(),
        dir.join("log").display()
    ));
    let mut command = cluster.lab().beside("env");
    command
        .arg(search_path(&wish.programs))
        .arg(wish.programs.join("ginkgo"))
        .args([
            "--timeout=12h",
            "--no-color",
            "--silence-skips",
            "--keep-going",
        ])
        .arg(format!("--procs={procs}"))
        .arg(format!("--label-filter={}", part.labels()))
        .arg(format!("--output-dir={}", dir.display()))
        .arg("--json-report=report.json");
    for (flag, expression) in [("focus", &wish.focus), ("skip", &wish.skip)] {
        if !expression.is_empty() {
            command.arg(format!("--{flag}={expression}"));
        }
    }
    command
        .arg(wish.programs.join("e2e.test"))
        .arg("--")
        .args(suite_args(wish, cluster))
        .env("HOME", cluster.dir())
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // The runner ends with an error when a test failed: the report tells.
    command.status().context("ginkgo is missing")?;
    let outcomes = report::read(&report)?;
    let ran = outcomes.into_iter().filter(|o| o.state != "skipped");
    Ok(ran.collect())
}

fn suite_args(wish: &Wish, cluster: &Cluster) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", cluster.lab().kubeconfig().display()),
        "--provider=local".to_owned(),
        format!("--kube-api-content-type={}", wish.content.media_type()),
        format!("--kubectl-path={}", wish.programs.join("kubectl").display()),
        "--dump-logs-on-failure=false".to_owned(),
        "--disable-log-dump=true".to_owned(),
    ]
}

/// Tests call kubectl by its name, too.
fn search_path(programs: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("PATH={}:{path}", programs.display())
}
