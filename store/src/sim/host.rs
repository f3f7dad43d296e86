//! One simulated host: its machine, which outlives crashes, and the process of a member on it.
//!
//! Decides nothing about when things break. Invariant: a process that was killed does nothing any more, not even while it
//! is torn down; and between two ticks nothing of a host moves.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use super::disk::SimDisk;
use super::net::{Endpoint, HostId, Net};
use super::os;
use super::tables::{Platter, SimTables};
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::peer::dial::Dial;
use crate::peer::service::{Opened, PeerService};
use crate::raft::identity::Identity;
use crate::raft::log_store::LogStore;
use crate::raft::member::Member;
use crate::raft::replica::RaftReplica;
use crate::raft::state_machine::{Applier, Job};
use crate::raft::types::{LogId, Vote};
use crate::raft::wal::{Flusher, Wal, WalError, WalOptions};
use crate::server::start::{self, Handles, State};
use crate::server::{StoreError, listen, recover};
use crate::services;

/// Small, so that a run has many files.
const SEGMENT_BYTES: u64 = 32 << 10;
/// Small, so that entries are read back from files.
const CACHE_BYTES: usize = 8 << 10;
/// Times that a runtime goes idle in one round of a tick: timers fire in between.
const PARKS: u32 = 3;

/// A machine and what runs on it.
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) settings: Settings,
    pub(super) identity: Identity,
    pub(super) disk: SimDisk,
    pub(super) platter: Arc<Mutex<Platter>>,
    pub(super) rng: StdRng,
    pub(super) net: Net,
    pub(super) process: Option<Process>,
    /// Time since some start, as this host counts it.
    pub(super) local: Duration,
    /// Millionths by which its clock runs fast.
    pub(super) drift_ppm: i64,
    pub(super) wall: Duration,
    /// Stopped, but not dead.
    pub(super) paused: bool,
    /// No member any more; it never comes back.
    pub(super) retired: bool,
    /// One in so many ticks, the log is written.
    pub(super) disk_pace: u32,
}

/// Bounds, vote and entries of a log.
pub(super) type Log = ((Option<LogId>, Option<LogId>), Option<Vote>, Vec<LogId>);

/// A running member.
pub(super) struct Process {
    applier: Applier,
    flusher: Flusher,
    pub(super) served: Arc<OnceLock<Served>>,
    failed: Arc<Mutex<Option<String>>>,
    pulse: Arc<Pulse>,
    runtime: Runtime,
}

/// A member that serves clients.
pub(super) struct Served {
    pub(super) member: Arc<Member>,
    pub(super) routes: Routes,
}

impl Host {
    /// Starts the member.
    pub(super) fn boot(&mut self) -> Result<(), StoreError> {
        self.set_time();
        let pulse = Arc::new(Pulse::default());
        let beat = Arc::clone(&pulse);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .on_thread_park(move || beat.parked())
            .build()?;
        let entered = runtime.enter();
        let metrics = Metrics::default();
        let (wal, flusher) = Wal::prepare(self.wal_options())?;
        let tables = SimTables::open(Arc::clone(&self.platter), self.disk.clone())?;
        let state = State::open(&self.settings, Arc::new(tables), &metrics)?;
        let (handles, applier) = state.split();
        let life = Life {
            settings: self.settings.clone(),
            identity: self.identity,
            metrics,
            dialer: self.net.dialer(self.id),
            wal: Arc::new(wal),
            handles,
            incoming: ReceiverStream::new(self.net.listen(self.id)),
            served: Arc::default(),
        };
        let served = Arc::clone(&life.served);
        let failed = Arc::new(Mutex::new(None));
        let failure = Arc::clone(&failed);
        spawn("life", TaskKind::Background, async move {
            if let Err(error) = Box::pin(live(life)).await {
                *failure.lock() = Some(error.to_string());
            }
        });
        drop(entered);
        self.process = Some(Process {
            applier,
            flusher,
            served,
            failed,
            pulse,
            runtime,
        });
        Ok(())
    }

    /// What the log holds, as a start would find it: bounds, vote and entries.
    pub(super) fn read_log(&self) -> Result<Log, WalError> {
        let (wal, _) = Wal::prepare(self.wal_options())?;
        let entries = wal.read(0..u64::MAX, usize::MAX).unwrap_or_default();
        let ids = entries.iter().map(|entry| entry.log_id).collect();
        Ok((wal.bounds(), wal.vote(), ids))
    }

    fn wal_options(&self) -> WalOptions {
        WalOptions {
            disk: Arc::new(self.disk.clone()),
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: CACHE_BYTES,
            ..WalOptions::new(PathBuf::from("/wal"))
        }
    }

    /// The process ends at once; with `power`, so does the machine's memory.
    pub(super) fn crash(&mut self, power: bool) {
        self.disk.kill();
        self.net.gone(self.id, power && self.rng.random_bool(0.5));
        self.set_time();
        self.process = None;
        self.disk.restart(!power);
        self.platter.lock().crash(&mut self.rng);
        self.paused = false;
        self.disk_pace = 1;
    }

    /// Time passes, whether or not the process gets any of it.
    pub(super) fn pass(&mut self, time: Duration) {
        let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let local = nanos + nanos * self.drift_ppm / 1_000_000;
        let local = Duration::from_nanos(u64::try_from(local).unwrap_or_default());
        self.local += local;
        self.wall += local;
    }

    /// Runs the process until it waits for time or for others.
    pub(super) fn tick(&mut self) {
        self.set_time();
        let Some(process) = &mut self.process else {
            return;
        };
        if self.paused {
            return;
        }
        for _ in 0..2 {
            process.runtime.block_on(process.pulse.settle(PARKS));
            if self.rng.random_ratio(1, self.disk_pace) {
                process.flusher.turn();
            }
            while let Ok(Job::Run(job)) = process.applier.queue.try_recv() {
                let entered = process.runtime.enter();
                job(&mut process.applier.machine);
                drop(entered);
            }
        }
    }

    /// Runs `work` in the process when it serves clients.
    pub(super) fn enter<T>(&self, work: impl FnOnce(&Served) -> T) -> Option<T> {
        self.set_time();
        let process = self.process.as_ref()?;
        let _entered = process.runtime.enter();
        Some(work(process.served.get()?))
    }

    /// Why the process cannot go on, if so.
    pub(super) fn failure(&self) -> Option<String> {
        let process = self.process.as_ref()?;
        if let Some(error) = process.failed.lock().clone() {
            return Some(error);
        }
        let member = &process.served.get()?.member;
        let metrics = member.raft().metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .running_state
            .as_ref()
            .err()
            .map(ToString::to_string)
    }

    fn set_time(&self) {
        os::set_time(self.local, self.wall);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.disk.kill();
        self.set_time();
        self.process = None;
    }
}

/// What a process begins with.
struct Life {
    settings: Settings,
    identity: Identity,
    metrics: Metrics,
    dialer: Arc<dyn Dial>,
    wal: Arc<Wal>,
    handles: Handles,
    incoming: ReceiverStream<std::io::Result<Endpoint>>,
    served: Arc<OnceLock<Served>>,
}

/// As `server::start` and `Store::run` do it, without sockets.
async fn live(life: Life) -> Result<(), StoreError> {
    let stop = Shutdown::new();
    let opened = Opened::default();
    let routes = Routes::new(PeerService::server(Arc::clone(&opened)));
    spawn(
        "serve-peers",
        TaskKind::Critical,
        listen::serve(life.incoming, routes, listen::Wire::Members, stop.clone()),
    );
    let log = LogStore::new(Arc::clone(&life.wal));
    let member = start::agree(
        &life.settings,
        life.identity,
        &life.metrics,
        life.dialer,
        log,
        life.handles,
    );
    let member = Box::pin(member).await?;
    // Nobody else sets it.
    let _ = opened.set(Arc::clone(&member));
    if life.settings.config.initial_cluster_state == crate::config::ClusterState::New {
        start::found(&life.settings, &member).await?;
    }
    start::spawn_background(&life.settings, &member, life.wal, &life.metrics, &stop);
    recover(&member).await;
    let replica = Arc::new(RaftReplica::new(Arc::clone(&member)));
    let routes = services::routes(replica, services::Options::default());
    let _ = life.served.set(Served { member, routes });
    stop.wait().await;
    Ok(())
}

/// Tells when a runtime has nothing to do.
#[derive(Default)]
struct Pulse {
    parks: AtomicU32,
    waiting: Mutex<Option<Waker>>,
}

impl Pulse {
    fn parked(&self) {
        self.parks.fetch_add(1, Ordering::Relaxed);
        if let Some(waker) = self.waiting.lock().take() {
            waker.wake();
        }
    }

    /// Returns when the runtime has gone idle `times` times.
    async fn settle(&self, times: u32) {
        let until = self.parks.load(Ordering::Relaxed) + times;
        std::future::poll_fn(|cx| {
            if self.parks.load(Ordering::Relaxed) >= until {
                return Poll::Ready(());
            }
            *self.waiting.lock() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
