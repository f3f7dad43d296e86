//! Raises the cluster's level once every member says that it understands a higher one.
//!
//! Not what a level means (`corten_store_core::level`). Invariant: the level is proposed for the leader's own term, with no
//! change of members under way, so nobody that does not know it is a member when it is agreed on; and whoever comes later
//! asks for the level before it joins.

use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
use corten_store_core::level;
use pb::raft_request::Command;

use super::Member;
use crate::raft::types::Node;

/// How often the leader looks. Short, since a new cluster refuses users and roles until then; it costs a few comparisons.
const LOOK: Duration = Duration::from_millis(200);

/// As leader: raises the level when all are ready. Runs until `shutdown`.
pub(crate) async fn raise_level(member: Arc<Member>, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            _ = tick.tick() => {}
        }
        if member.engine().store().level() >= level::KNOWN || !member.raft().is_leader() {
            continue;
        }
        member.raise_level_here().await;
    }
}

impl Member {
    async fn raise_level_here(&self) {
        let _turn = self.changes.lock().await;
        let Some(term) = self.leading_term() else {
            return;
        };
        let now = self.engine().store().level();
        let Some(wanted) = understood(self.membership().nodes().map(|(_, node)| node)) else {
            return;
        };
        let wanted = wanted.min(level::KNOWN);
        if wanted <= now {
            return;
        }
        let request = pb::RaftRequest {
            term,
            command: Some(Command::ClusterLevel(pb::ClusterLevel { level: wanted })),
            ..Default::default()
        };
        match self.propose(&request).await {
            Ok(_) => tracing::info!(from = now, to = wanted, "the cluster's level has risen"),
            Err(error) => tracing::debug!(%error, "cannot raise the cluster's level now"),
        }
    }
}

/// The highest level that all members, learners included, understand. One that has not started has said nothing yet.
fn understood<'a>(members: impl Iterator<Item = &'a Node>) -> Option<u32> {
    members
        .map(|node| if node.started { node.max_level } else { 0 })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(started: bool, max_level: u32) -> Node {
        Node {
            started,
            max_level,
            ..Node::default()
        }
    }

    #[test]
    fn the_least_of_all_members_counts() {
        let of = |nodes: &[Node]| understood(nodes.iter());
        assert_eq!(of(&[node(true, 2), node(true, 1), node(true, 2)]), Some(1));
        assert_eq!(
            of(&[node(true, 2), node(false, 2)]),
            Some(0),
            "a member that has not started may be any version"
        );
        assert_eq!(of(&[]), None);
    }
}
