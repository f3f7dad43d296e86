//! Keeps the file that says where the other members are (`crate::repair::peers`) as the membership is.
//!
//! Invariant: what is written is the membership of one moment; what is not written is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;

use super::Member;
use crate::offload::offload;
use crate::repair::peers::{self, Peers};

/// How often it is looked at: members change seldom, and the file matters only to a later start.
const LOOK: Duration = Duration::from_secs(1);

/// Writes the file whenever the membership differs from it. Runs until `shutdown`.
pub(crate) async fn note_peers(member: Arc<Member>, data_dir: PathBuf, shutdown: Shutdown) {
    let mut noted: Option<Peers> = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = member.other_peers();
        // A learner that has heard nothing yet knows less than the file.
        if now.is_empty() && noted.is_none() || noted.as_ref() == Some(&now) {
            continue;
        }
        let (dir, peers) = (data_dir.clone(), now.clone());
        match offload(move || peers::note(&dir, &peers)).await {
            Ok(Ok(())) => noted = Some(now),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot write down where the other members are");
            }
            Err(error) => tracing::warn!(%error, "cannot write down where the other members are"),
        }
    }
}

impl Member {
    fn other_peers(&self) -> Peers {
        let membership = self.membership();
        let others = membership.nodes().filter(|(id, _)| **id != self.id());
        others.map(|(_, node)| node.peer_urls.clone()).collect()
    }
}
