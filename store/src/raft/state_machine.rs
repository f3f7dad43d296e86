//! openraft's state machine interface, run by one dedicated thread so that no table write ever holds up the network.
//!
//! Does not know what it applies. Invariant: the thread does one thing at a time, so a checkpoint, an installation and
//! an apply never overlap.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot};
use tokio::sync::oneshot;

use super::machine::Machine;
use super::snapshot::SnapshotDir;
use super::tables::Tables;
use super::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::offload::offload;

/// Entries in one table write: enough to make writes rare, few enough that replies do not wait for a huge batch.
const APPLY_MAX: usize = 1024;
/// Likewise in bytes of commands.
const APPLY_BYTES_MAX: usize = 4 << 20;
/// openraft gives one command at a time, and a repair is one more: neither waits for a place.
const JOBS: usize = 2;

/// What the apply thread is to do.
pub(crate) enum Job {
    Run(Box<dyn FnOnce(&mut Machine) + Send>),
    /// The thread ends, whoever still holds a handle.
    Stop,
}

/// The machine and what it is to do, for one thread.
pub(crate) struct Applier {
    pub(crate) machine: Machine,
    pub(crate) queue: mpsc::Receiver<Job>,
    jobs: mpsc::SyncSender<Job>,
}

impl Applier {
    /// Starts the thread, which ends when all handles are dropped.
    pub(crate) fn start(self) -> io::Result<ApplyThread> {
        let Applier {
            mut machine,
            queue,
            jobs,
        } = self;
        let thread = std::thread::Builder::new()
            .name("apply".to_owned())
            .spawn(move || {
                while let Ok(Job::Run(job)) = queue.recv() {
                    job(&mut machine);
                }
            })?;
        Ok(ApplyThread { jobs, thread })
    }
}

/// The thread itself, to be stopped once openraft has.
pub(crate) struct ApplyThread {
    jobs: mpsc::SyncSender<Job>,
    thread: std::thread::JoinHandle<()>,
}

impl ApplyThread {
    /// Ends the thread, which flushes the state; blocks until it has.
    pub(crate) fn stop(self) -> std::thread::Result<()> {
        // An error says that it has ended already.
        let _ = self.jobs.send(Job::Stop);
        self.thread.join()
    }
}

/// Handle on the apply thread, as openraft has it.
pub(crate) struct StateMachine {
    jobs: Jobs,
}

/// What else may be done on the apply thread, between two things that openraft asks for.
#[derive(Clone)]
pub(crate) struct Jobs {
    queue: mpsc::SyncSender<Job>,
    tables: Arc<dyn Tables>,
}

impl StateMachine {
    /// A handle, and what its thread is to run.
    pub(crate) fn new(machine: Machine, tables: Arc<dyn Tables>) -> (Self, Applier) {
        let (jobs, queue) = mpsc::sync_channel::<Job>(JOBS);
        let applier = Applier {
            machine,
            queue,
            jobs: jobs.clone(),
        };
        let jobs = Jobs {
            queue: jobs,
            tables,
        };
        (Self { jobs }, applier)
    }

    /// Another handle.
    pub(crate) fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }
}

impl Jobs {
    /// The tables themselves.
    pub(crate) fn tables(&self) -> &Arc<dyn Tables> {
        &self.tables
    }

    /// Runs one thing on the thread. Only one may be asked for besides openraft's, so that the queue has room.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Machine) -> T + Send + 'static,
    ) -> io::Result<T> {
        let gone = || io::Error::other("the apply thread has ended");
        let (answer, answered) = oneshot::channel();
        let job = Job::Run(Box::new(move |machine: &mut Machine| {
            // The caller waits below, unless openraft itself was stopped.
            let _ = answer.send(work(machine));
        }));
        self.queue.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;
    type SnapshotBuilder = Flusher;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let meta = self.jobs.run(|machine| machine.meta()).await?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            if let openraft::EntryPayload::Normal(command) = &item.0.payload {
                bytes += command.0.len();
            }
            batch.push(item);
            if batch.len() == APPLY_MAX || bytes >= APPLY_BYTES_MAX {
                bytes = 0;
                let full = std::mem::take(&mut batch);
                self.jobs.run(move |machine| machine.apply(full)).await??;
            }
        }
        self.jobs.run(move |machine| machine.apply(batch)).await?
    }

    async fn get_snapshot_builder(&mut self) -> Flusher {
        let meta = self.jobs.run(|machine| machine.meta()).await;
        Flusher {
            meta,
            tables: Arc::clone(&self.jobs.tables),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> io::Result<()> {
        let meta = meta.clone();
        self.jobs
            .run(move |machine| machine.install(&meta, &snapshot))
            .await?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<OwnSnapshot>> {
        let made = self.jobs.run(Machine::checkpoint).await??;
        Ok(made.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

type OwnSnapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>;

/// "Builds a snapshot" by making the applied state durable, which is all that log purging needs. The files to send are
/// made when a member asks for them, so that idle snapshots hold no disk space.
pub(crate) struct Flusher {
    meta: io::Result<SnapshotMeta>,
    tables: Arc<dyn Tables>,
}

impl RaftSnapshotBuilder<TypeConfig> for Flusher {
    type SnapshotData = SnapshotDir;

    async fn build_snapshot(&mut self) -> io::Result<OwnSnapshot> {
        let meta = match &self.meta {
            Ok(meta) => meta.clone(),
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let tables = Arc::clone(&self.tables);
        let flushed = offload(move || tables.flush()).await;
        flushed
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        // openraft keeps only the meta of what is built.
        let snapshot = SnapshotDir::new(std::path::PathBuf::new());
        snapshot.keep();
        Ok(Snapshot { meta, snapshot })
    }
}
