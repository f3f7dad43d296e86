//! The leader's state, beside a member's own.
//!
//! Does not put it in the place of anything. Invariant: what `fetch` gives arrived whole, and every row of it was read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_proto::corten::store::v1 as pb;
use corten_store_core::Store;
use corten_store_core::backend::{Backend, BackendError};
use tokio::time::timeout;

use super::Refusal;
use crate::offload::offload;
use crate::peer::connect::Client;
use crate::peer::transfer;
use crate::raft::snapshot;
use crate::raft::tables::Tables as _;
use crate::raft::types::{LogId, MemberId};
use crate::rocks::{Rocks, RocksOptions};

/// Where it is put, within the data folder. What is there at a start is of no use to anybody.
const FOLDER: &str = "repair";

/// The leader reads its own rows and asks the others for theirs before it sends anything.
const VOUCHED: Duration = Duration::from_secs(30 * 60);

/// Tables that came from the leader.
pub(crate) struct Fetched {
    /// A folder as `Rocks` opens it.
    pub(crate) tables: PathBuf,
    /// The position that they stand at.
    pub(crate) at: LogId,
}

/// Clears away what a repair has left.
pub(crate) async fn clear(data_dir: &Path) -> Result<(), Refusal> {
    let dir = data_dir.join(FOLDER);
    on_disk(&dir, |dir| match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    })
    .await
}

/// Does something with a path, which may take long.
async fn on_disk<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let own = path.to_owned();
    let done = offload(move || work(&own)).await;
    done.map_err(|error| Refusal::Later(error.to_string()))?
        .map_err(Refusal::disk(path))
}

/// Fetches the leader's state as it is now.
pub(crate) async fn fetch(
    mut leader: Client,
    member: MemberId,
    data_dir: &Path,
) -> Result<Fetched, Refusal> {
    let dir = data_dir.join(FOLDER);
    on_disk(&dir, snapshot::clear).await?;
    let request = pb::FetchSnapshotRequest { member: member.0 };
    let stream = timeout(VOUCHED, leader.fetch_snapshot(request)).await;
    let stream = stream.map_err(|_| Refusal::NoLeader)?;
    let stream = stream.map_err(|status| Refusal::from_leader(&status))?;
    let received = transfer::receive(stream.into_inner(), &dir)
        .await
        .map_err(|status| Refusal::Later(status.message().to_owned()))?;
    let at = received
        .meta
        .last_log_id
        .ok_or_else(|| Refusal::Unusable("nothing is applied in it".to_owned()))?;
    let tables = dir.join("state");
    let arrived = received.dir;
    on_disk(&tables, move |tables| Rocks::make_of(tables, &arrived)).await?;
    tracing::info!(index = at.index, "the leader's state has arrived; reads it");
    let checked = tables.clone();
    offload(move || check(&checked, at))
        .await
        .map_err(|error| Refusal::Later(error.to_string()))?
        .map_err(|error| Refusal::Unusable(error.to_string()))?;
    Ok(Fetched { tables, at })
}

/// Reads every row, with the checksums of every block.
fn check(tables: &Path, at: LogId) -> Result<(), BackendError> {
    let rocks = Arc::new(Rocks::open(tables, RocksOptions::default())?);
    let read = || {
        let (store, writer) = Store::open(Arc::clone(&rocks) as Arc<dyn Backend>)?;
        let applied = writer.applied().map(|at| (at.term, at.index));
        if applied != Some((at.leader_id.term, at.index)) {
            return Err(BackendError::corrupt(format!(
                "it stands at {applied:?} and not at {at}"
            )));
        }
        let hashed = store.hash();
        hashed.map(drop).map_err(|error| match error {
            corten_store_core::Error::Backend(error) => error,
            other => BackendError::new("read all rows", other),
        })
    };
    let result = read();
    rocks.close();
    result
}
