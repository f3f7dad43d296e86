//! What stands between members that are processes: connections that can be cut, in one direction or both, as a network is
//! cut. Bytes wait, connections stay open, and nobody is told.
//!
//! Not lost or reordered bytes: TCP would send them again. Invariant: what was held back arrives whole and in order once the
//! wire is mended.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use corten_base::tasks::{TaskKind, spawn};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// From whom, to whom.
type Way = (usize, usize);

/// Which ways of a member are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It hears nobody, and nobody hears it.
    Off,
    /// It hears nobody.
    Deaf,
    /// Nobody hears it.
    Mute,
}

/// The wires between all members of a cluster.
pub(crate) struct Wires {
    ports: Vec<u16>,
    cut: watch::Sender<BTreeSet<Way>>,
    /// Of the members' processes.
    pids: Arc<Mutex<Vec<Option<u32>>>>,
}

impl Wires {
    /// A wire in front of each of these peer ports.
    pub(crate) async fn start(peer_ports: &[u16]) -> Wires {
        let (cut, _) = watch::channel(BTreeSet::new());
        let pids = Arc::new(Mutex::new(vec![None; peer_ports.len()]));
        let mut ports = Vec::new();
        for (to, target) in peer_ports.iter().enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
            ports.push(listener.local_addr().expect("an address").port());
            let (cut, pids) = (cut.subscribe(), Arc::clone(&pids));
            let accept = accept(listener, to, *target, cut, pids);
            spawn("wire", TaskKind::Background, accept);
        }
        Wires { ports, cut, pids }
    }

    /// Where others reach a member.
    pub(crate) fn port(&self, member: usize) -> u16 {
        self.ports[member]
    }

    /// A member has a new process.
    pub(crate) fn born(&self, member: usize, pid: u32) {
        self.pids.lock()[member] = Some(pid);
    }

    /// Cuts a member off from all others.
    pub(crate) fn cut(&self, member: usize, how: Cut) {
        let others = (0..self.ports.len()).filter(|other| *other != member);
        self.cut.send_modify(|ways| {
            for other in others {
                if how != Cut::Mute {
                    ways.insert((other, member));
                }
                if how != Cut::Deaf {
                    ways.insert((member, other));
                }
            }
        });
    }

    /// Mends everything.
    pub(crate) fn mend(&self) {
        self.cut.send_modify(BTreeSet::clear);
    }
}

type Cuts = watch::Receiver<BTreeSet<Way>>;

async fn accept(
    listener: TcpListener,
    to: usize,
    target: u16,
    cut: Cuts,
    pids: Arc<Mutex<Vec<Option<u32>>>>,
) {
    let own = listener.local_addr().expect("an address").port();
    loop {
        let Ok((caller, address)) = listener.accept().await else {
            return;
        };
        let all = pids.lock().clone();
        // One that has died since has nothing to say.
        let Some(from) = owner(address.port(), own, &all) else {
            continue;
        };
        let Ok(callee) = TcpStream::connect(("127.0.0.1", target)).await else {
            continue;
        };
        for stream in [&caller, &callee] {
            stream.set_nodelay(true).expect("set");
        }
        let (hears, says) = caller.into_split();
        let (heard, said) = callee.into_split();
        let there = carry(hears, said, (from, to), cut.clone());
        let back = carry(heard, says, (to, from), cut.clone());
        spawn("wire-there", TaskKind::Background, there);
        spawn("wire-back", TaskKind::Background, back);
    }
}

/// Carries bytes one way until there are no more.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    mut cut: Cuts,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        // An end is not heard of over a wire that is cut, either. Without the other half the test is over.
        if cut.wait_for(|ways| !ways.contains(&way)).await.is_err() {
            return;
        }
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            // It may be gone already.
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// Which of these processes has the connection from one port to another.
fn owner(from: u16, to: u16, pids: &[Option<u32>]) -> Option<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let port = |field: &str| u16::from_str_radix(field.split_once(':')?.1, 16).ok();
    let inode = table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
        (local == from && remote == to).then(|| fields.nth(6).map(str::to_owned))?
    })?;
    let socket = format!("socket:[{inode}]");
    let has = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
        let mut files = files.flatten().flatten();
        files.any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&socket)))
    };
    pids.iter().position(|pid| pid.is_some_and(has))
}
