//! Members as processes of their own, to be killed without warning.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_proto::etcd::etcdserverpb as etcd;
use etcd::kv_client::KvClient;
use etcd::maintenance_client::MaintenanceClient;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::harness::{free_port, wait_for};
use super::wires::Wires;

pub(crate) struct Processes {
    root: tempfile::TempDir,
    pub(crate) client_ports: Vec<u16>,
    peer_ports: Vec<u16>,
    /// What stands between the members, if anything does.
    wires: Option<Wires>,
    children: Vec<Option<Child>>,
    /// Members that founded the cluster; those after them joined.
    founders: usize,
    args: Vec<String>,
}

impl Processes {
    pub(crate) fn start(size: usize) -> Processes {
        Self::start_with(size, &[])
    }

    /// Starts members with more arguments.
    pub(crate) fn start_with(size: usize, args: &[&str]) -> Processes {
        Self::start_in(size, args, |_| {})
    }

    /// Starts members that reach each other over wires which can be cut.
    pub(crate) async fn start_wired(size: usize) -> Processes {
        let peer_ports: Vec<_> = (0..size).map(|_| free_port()).collect();
        let wires = Wires::start(&peer_ports).await;
        let mut processes = Self::unborn(size, &[]);
        (processes.peer_ports, processes.wires) = (peer_ports, Some(wires));
        for i in 0..size {
            processes.spawn(i);
        }
        processes
    }

    /// Starts members with more arguments, each after its data folder was prepared.
    pub(crate) fn start_in(
        size: usize,
        args: &[&str],
        prepare: impl Fn(&std::path::Path),
    ) -> Processes {
        let mut processes = Self::unborn(size, args);
        for i in 0..size {
            prepare(&processes.root.path().join(format!("m{i}")));
            processes.spawn(i);
        }
        processes
    }

    fn unborn(size: usize, args: &[&str]) -> Processes {
        let ports = |_| free_port();
        Processes {
            founders: size,
            args: args.iter().map(ToString::to_string).collect(),
            root: tempfile::tempdir().expect("temp dir"),
            client_ports: (0..size).map(ports).collect(),
            peer_ports: (0..size).map(ports).collect(),
            wires: None,
            children: (0..size).map(|_| None).collect(),
        }
    }

    /// What stands between the members.
    pub(crate) fn wires(&self) -> &Wires {
        self.wires.as_ref().expect("started with wires")
    }

    /// Starts a member that was added to the cluster with this peer port; gives its number.
    pub(crate) fn join(&mut self, name: &str, peer_port: u16) -> usize {
        let i = self.children.len();
        self.client_ports.push(free_port());
        self.peer_ports.push(peer_port);
        self.children.push(None);
        let cluster = format!("{},{name}=http://127.0.0.1:{peer_port}", self.founding());
        self.launch(i, name, &cluster, &["--initial-cluster-state=existing"]);
        i
    }

    pub(crate) fn spawn(&mut self, i: usize) {
        let cluster = self.founding();
        self.launch(i, &format!("m{i}"), &cluster, &[]);
    }

    fn founding(&self) -> String {
        let members: Vec<_> = (0..self.founders)
            .map(|i| format!("m{i}={}", self.peer_url(i)))
            .collect();
        members.join(",")
    }

    fn launch(&mut self, i: usize, name: &str, cluster: &str, more: &[&str]) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(i))
            .expect("log file");
        let child = Command::new(env!("CARGO_BIN_EXE_corten-store"))
            .arg(format!("--name={name}"))
            .arg(format!(
                "--data-dir={}",
                self.root.path().join(format!("m{i}")).display()
            ))
            .arg(format!(
                "--listen-client-urls=http://127.0.0.1:{}",
                self.client_ports[i]
            ))
            .arg(format!(
                "--listen-peer-urls=http://127.0.0.1:{}",
                self.peer_ports[i]
            ))
            .arg(format!(
                "--initial-advertise-peer-urls={}",
                self.peer_url(i)
            ))
            .arg(format!("--initial-cluster={cluster}"))
            .args(["--snapshot-count=500", "--snapshot-catchup-entries=100"])
            .args(&self.args)
            .args(more)
            .stdout(log.try_clone().expect("clone"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the built binary runs");
        if let Some(wires) = &self.wires {
            wires.born(i, child.id());
        }
        self.children[i] = Some(child);
    }

    /// The configuration of a member as far as it is about its data.
    pub(crate) fn config(&self, i: usize) -> corten_store::Config {
        corten_store::Config {
            name: format!("m{i}"),
            data_dir: self.root.path().join(format!("m{i}")),
            listen_peer_urls: vec![format!("http://127.0.0.1:{}", self.peer_ports[i])],
            ..corten_store::Config::default()
        }
    }

    /// Starts a member of a cluster that the others are not in, or join.
    pub(crate) fn spawn_joining(&mut self, i: usize, members: &[usize]) {
        let cluster: Vec<_> = members
            .iter()
            .map(|i| format!("m{i}=http://127.0.0.1:{}", self.peer_ports[*i]))
            .collect();
        let state = ["--initial-cluster-state=existing"];
        self.launch(i, &format!("m{i}"), &cluster.join(","), &state);
    }

    /// Where the others reach a member.
    pub(crate) fn peer_url(&self, i: usize) -> String {
        let port = match &self.wires {
            Some(wires) => wires.port(i),
            None => self.peer_ports[i],
        };
        format!("http://127.0.0.1:{port}")
    }

    /// What a member has said in all its lives.
    pub(crate) fn said(&self, i: usize) -> String {
        std::fs::read_to_string(self.log(i)).unwrap_or_default()
    }

    fn log(&self, i: usize) -> PathBuf {
        self.root.path().join(format!("m{i}.log"))
    }

    pub(crate) fn data_dir(&self, i: usize) -> PathBuf {
        self.root.path().join(format!("m{i}"))
    }

    /// Starts a member with more arguments than the others have.
    pub(crate) fn spawn_with(&mut self, i: usize, more: &[&str]) {
        let cluster = self.founding();
        self.launch(i, &format!("m{i}"), &cluster, more);
    }

    /// Loses a member's data while it is down.
    pub(crate) fn wipe(&self, i: usize) {
        std::fs::remove_dir_all(self.root.path().join(format!("m{i}"))).expect("wiped");
    }

    /// Waits for a member to end by itself; gives whether it ended well.
    pub(crate) async fn ended(&mut self, i: usize) -> bool {
        let child = self.children[i].as_mut().expect("running");
        let status = wait_for("the process to end", async || {
            child.try_wait().expect("a status")
        })
        .await;
        self.children[i] = None;
        status.success()
    }

    /// Sends a signal to a running member.
    pub(crate) fn signal(&self, i: usize, signal: rustix::process::Signal) {
        let child = self.children[i].as_ref().expect("running");
        let pid = i32::try_from(child.id()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    /// SIGKILL, and reaped.
    pub(crate) fn kill(&mut self, i: usize) {
        let mut child = self.children[i].take().expect("running");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    pub(crate) fn client_url(&self, i: usize) -> String {
        format!("http://127.0.0.1:{}", self.client_ports[i])
    }

    /// The id that a member has in the cluster.
    pub(crate) async fn member_id(&self, i: usize) -> u64 {
        wait_for("a member's id", async || {
            let mut maintenance = MaintenanceClient::new(self.channel(i));
            let status = maintenance.status(etcd::StatusRequest {}).await.ok()?;
            Some(status.into_inner().header?.member_id)
        })
        .await
    }

    pub(crate) fn channel(&self, i: usize) -> Channel {
        Endpoint::from_shared(self.client_url(i))
            .expect("a URL")
            .connect_timeout(Duration::from_millis(200))
            .tcp_nodelay(true)
            .connect_lazy()
    }

    pub(crate) fn kv(&self, i: usize) -> KvClient<Channel> {
        KvClient::new(self.channel(i))
    }

    pub(crate) async fn leader(&self) -> usize {
        wait_for("a leader", async || {
            for (i, child) in self.children.iter().enumerate() {
                if child.is_none() {
                    continue;
                }
                let mut maintenance = MaintenanceClient::new(self.channel(i));
                let call = maintenance.status(etcd::StatusRequest {});
                if let Ok(Ok(status)) = timeout(Duration::from_secs(1), call).await {
                    let status = status.into_inner();
                    if status.leader != 0
                        && status.leader == status.header.expect("header").member_id
                    {
                        return Some(i);
                    }
                }
            }
            None
        })
        .await
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // Best effort at the end of a test.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for i in 0..self.children.len() {
                let log = std::fs::read_to_string(self.log(i)).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!(
                    "--- m{i}\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
        }
    }
}
