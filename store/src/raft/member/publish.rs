//! Tells the cluster what only the member itself knows: its name, where clients reach it, which cluster levels it
//! understands, and that it has started.
//!
//! Runs once per start. Invariant: it changes nothing when the membership says the same already.

use std::sync::Arc;
use std::time::Duration;

use corten_base::backoff::Backoff;
use corten_base::shutdown::Shutdown;
use corten_proto::corten::store::v1 as pb;
use pb::change_member_request::Change;

use super::Member;

/// Publishes until it is in the membership, or `shutdown`.
pub(crate) async fn publish_self(
    member: Arc<Member>,
    name: String,
    client_urls: Vec<String>,
    max_level: u32,
    shutdown: Shutdown,
) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    loop {
        let known = member.membership().get_node(&member.id()).cloned();
        let is_published = |node: crate::raft::types::Node| {
            node.started
                && node.name == name
                && node.client_urls == client_urls
                && node.max_level == max_level
        };
        if known.is_some_and(is_published) {
            return;
        }
        let node = pb::MemberNode {
            id: member.id().0,
            name: name.clone(),
            client_urls: client_urls.clone(),
            max_level,
            ..Default::default()
        };
        if let Err(error) = Box::pin(member.change(Change::Publish(node))).await {
            tracing::debug!(%error, "cannot publish this member's URLs yet");
        }
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}
