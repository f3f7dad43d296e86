//! Asking the other members what they know, before one is made a cluster of its own.
//!
//! Decides nothing. Invariant: nothing that is asked here changes anything at the member asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_proto::corten::store::v1 as pb;
use tokio::time::timeout;

use crate::config::Settings;
use crate::peer::connect::{self, Client};
use crate::peer::dial::{Dial, HostNetwork};
use crate::raft::codec;
use crate::raft::types::{LogId, MemberId, Node};

/// How long one member may take for all its answers. A busy one must not be taken for a lost one.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing.
    Silent,
    /// It is at work, or starting, as a member of this cluster.
    There {
        /// It leads, and a quorum has just confirmed it.
        leads: bool,
        /// Its last entry, if it says.
        last: Option<LogId>,
    },
}

impl Answer {
    pub(super) fn leads(&self) -> bool {
        matches!(self, Self::There { leads: true, .. })
    }

    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::There { .. })
    }
}

/// All other members, with what they say.
pub(super) type Answers = BTreeMap<MemberId, (Node, Answer)>;

/// Asks all others at once.
pub(super) async fn all(
    settings: &Settings,
    cluster: u64,
    others: BTreeMap<MemberId, Node>,
) -> Answers {
    let tls = settings.peer_tls.as_ref().and_then(|files| {
        corten_base::tls::client_config(files)
            .map_err(|error| tracing::error!(%error, "cannot read the peer TLS files"))
            .ok()
    });
    let dialer: Arc<dyn Dial> = Arc::new(HostNetwork::new(tls));
    let asked = others.into_iter().map(|(id, node)| {
        let client = connect::client(cluster, id, &node.peer_urls, Arc::clone(&dialer));
        async move {
            let answer = timeout(PATIENCE, ask(client, cluster)).await;
            (id, (node, answer.unwrap_or(Answer::Silent)))
        }
    });
    futures::future::join_all(asked).await.into_iter().collect()
}

async fn ask(mut client: Client, cluster: u64) -> Answer {
    match client.members(pb::MembersRequest {}).await {
        // One that is starting knows no cluster yet.
        Ok(answer) if [0, cluster].contains(&answer.get_ref().cluster_id) => {}
        // Another cluster's member lives at that address now.
        Ok(_) => return Answer::Silent,
        Err(status) => {
            tracing::debug!(%status, "a member does not answer");
            return Answer::Silent;
        }
    }
    // Only a leader answers this, and only after a quorum has confirmed it.
    let leads = client
        .read_index(pb::ReadIndexRequest::default())
        .await
        .is_ok();
    // Asking for a vote in advance changes nothing; one of the lowest rank is refused, with what the other has.
    let question = pb::VoteRequest {
        vote: Some(pb::Vote::default()),
        ..Default::default()
    };
    let last = match client.pre_vote(question).await {
        Ok(answer) => answer.into_inner().last_log_id.as_ref().map(codec::log_id),
        Err(_) => None,
    };
    Answer::There { leads, last }
}
