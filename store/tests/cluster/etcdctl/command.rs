//! Running etcdctl: once to its end, or for as long as it watches.
//!
//! Knows nothing of what the commands mean. Invariant: whatever it printed is in the message of a failing test.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::harness::{DEADLINE, wait_for};
use crate::process::Processes;

/// Debian's package under its own name, and those built from Go modules.
const BINARIES: [&str; 3] = ["etcdctl", "etcdctl-3.5", "etcdctl-3.6"];

/// One etcdctl with the members it talks to.
#[derive(Clone)]
pub(super) struct Etcdctl {
    binary: &'static str,
    /// The 4 of 3.4.
    pub(super) minor: u32,
    endpoints: String,
}

/// What a command that ended has said.
pub(super) struct Said {
    pub(super) ok: bool,
    pub(super) out: String,
    pub(super) err: String,
}

impl Etcdctl {
    /// Every version, talking to all members.
    pub(super) async fn all(processes: &Processes) -> Vec<Etcdctl> {
        let endpoints: Vec<_> = (0..processes.client_ports.len())
            .map(|i| processes.client_url(i))
            .collect();
        let mut all = Vec::new();
        for binary in BINARIES {
            let mut etcdctl = Etcdctl {
                binary,
                minor: 0,
                endpoints: endpoints.join(","),
            };
            let version = etcdctl.ok(&["version"]).await;
            let version = version
                .lines()
                .find_map(|line| line.strip_prefix("etcdctl version: 3."))
                .unwrap_or_else(|| panic!("{binary} tells no version: {version}"));
            let minor = version.split('.').next().map(str::parse);
            etcdctl.minor = minor.expect("a number").expect("a number");
            all.push(etcdctl);
        }
        let newest = all.iter().map(|etcdctl| etcdctl.minor).max();
        assert!(newest >= Some(6), "etcdctl 3.6 is not among them");
        all
    }

    /// The same, talking to other endpoints.
    pub(super) fn at(&self, endpoints: &str) -> Etcdctl {
        Etcdctl {
            endpoints: endpoints.to_owned(),
            ..self.clone()
        }
    }

    /// A name that no other version's run uses.
    pub(super) fn name(&self, name: &str) -> String {
        format!("v{}/{}/{name}", self.minor, self.binary)
    }

    fn command(&self, args: &[&str]) -> Command {
        // What runs in the background of a script has Ctrl-C ignored, and its children inherit that.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(self.binary)
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", &self.endpoints)
            // The default of 5 s is for machines that do nothing else.
            .args(["--command-timeout=30s", "--dial-timeout=10s"])
            .args(args)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(super) async fn run(&self, args: &[&str], input: &str) -> Said {
        let child = self.command(args).spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!(
                "{} does not run ({error}): see xtask/setup/etcdctl.sh",
                self.binary
            )
        });
        let mut stdin = child.stdin.take().expect("piped");
        // A command that reads nothing may have gone already.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = timeout(DEADLINE, child.wait_with_output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("{} {args:?} does not end", self.binary))
            .expect("an outcome");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        Said {
            ok: output.status.success(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Runs a command that must succeed; gives what it printed.
    pub(super) async fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "").await
    }

    /// The same with an input.
    pub(super) async fn ok_with(&self, args: &[&str], input: &str) -> String {
        let said = self.run(args, input).await;
        assert!(
            said.ok,
            "{} {args:?} fails:\n{}\n{}",
            self.binary, said.out, said.err
        );
        said.out
    }

    /// Runs a command that must fail; gives what it complained.
    pub(super) async fn refused(&self, args: &[&str]) -> String {
        let said = self.run(args, "").await;
        assert!(!said.ok, "{} {args:?} succeeds: {}", self.binary, said.out);
        format!("{}\n{}", said.out, said.err)
    }

    /// Runs a command that must succeed and print exactly these lines.
    pub(super) async fn prints(&self, args: &[&str], lines: &[&str]) {
        let out = self.ok(args).await;
        let got: Vec<&str> = out.lines().collect();
        assert_eq!(got, lines, "{} {args:?}", self.binary);
    }

    /// Runs a command that must succeed with `-w fields`; gives the value of a field.
    pub(super) async fn field(&self, args: &[&str], field: &str) -> String {
        let args = [args, &["-w", "fields"]].concat();
        let out = self.ok(&args).await;
        let name = format!("\"{field}\" : ");
        out.lines()
            .find_map(|line| line.strip_prefix(&name))
            .unwrap_or_else(|| panic!("{} {args:?} has no field {field}: {out}", self.binary))
            .trim_matches('"')
            .to_owned()
    }

    /// The revision of the store.
    pub(super) async fn revision(&self) -> i64 {
        let revision = self.field(&["get", "no-such-key"], "Revision").await;
        revision.parse().expect("a number")
    }

    /// Starts a command that goes on by itself.
    pub(super) fn start(&self, args: &[&str]) -> Going {
        let mut child = self.command(args).spawn().expect("it ran before");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Going {
            child,
            lines,
            what: format!("{} {args:?}", self.binary),
        }
    }
}

/// A command under way; dropping it kills it.
pub(super) struct Going {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    what: String,
}

impl Going {
    /// The next line it prints.
    pub(super) async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.lines.next_line()).await;
        line.unwrap_or_else(|_| panic!("{} prints nothing", self.what))
            .expect("readable")
            .unwrap_or_else(|| panic!("{} has ended", self.what))
    }

    /// Reads lines that must be these.
    pub(super) async fn prints(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line().await, *line, "{}", self.what);
        }
    }

    /// Whether it prints nothing more for a moment.
    pub(super) async fn is_silent(&mut self) -> bool {
        const MOMENT: Duration = Duration::from_millis(500);
        timeout(MOMENT, self.lines.next_line()).await.is_err()
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has.
    pub(super) async fn interrupt(mut self) {
        let pid = self.child.id().expect("running");
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid"));
        rustix::process::kill_process(pid.expect("not zero"), rustix::process::Signal::INT)
            .expect("signalled");
        let child = &mut self.child;
        wait_for("the command to end", async || {
            child.try_wait().expect("a status")
        })
        .await;
    }
}
