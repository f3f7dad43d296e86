//! A follower's proposals on their way to the leader: one stream per leader, many commands in flight on it.
//!
//! Does not retry. Invariant: a command whose fate is not known is answered as such; only a command that certainly
//! never left this member is reported as safe to try again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1 as pb;
use futures::StreamExt;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::types::{MemberId, Node};
use crate::peer::connect::{Client, Lane, Peers};

/// Commands that go into one message when they are ready together.
const BATCH: usize = 256;
/// Commands waiting to be put on the stream; proposals are bounded before they come here.
const QUEUE: usize = 1024;

/// Why a single attempt to propose gave no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Certainly not proposed.
    NotProposed,
    /// Perhaps proposed; perhaps applied, now or later.
    Unknown,
    /// Certainly not proposed: the leader is overloaded.
    Busy,
    /// This member is going down.
    Stopped,
}

/// What applying answered at the leader, and the index of the entry.
pub(crate) type Answer = Result<(u64, pb::RaftReply), Attempt>;

/// The way to the leader of the moment.
pub(crate) struct Forwarder {
    peers: Arc<Peers>,
    session: Mutex<Option<Arc<Session>>>,
}

/// One stream to one leader.
pub(crate) struct Session {
    leader: MemberId,
    queue: mpsc::Sender<pb::ForwardedCommand>,
    next_id: AtomicU64,
    pending: Mutex<Pending>,
    /// The stream to the leader has taken at least one command.
    started: AtomicBool,
}

#[derive(Default)]
struct Pending {
    /// In the order they came, which is the order they are answered in when the stream breaks.
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

impl Forwarder {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self {
            peers,
            session: Mutex::new(None),
        }
    }

    /// The stream to `leader`, opened when there is none.
    pub(crate) fn session(&self, leader: MemberId, node: &Node) -> Arc<Session> {
        let mut current = self.session.lock();
        if let Some(session) = &*current
            && session.leader == leader
            && !session.pending.lock().closed
        {
            return Arc::clone(session);
        }
        let (queue, commands) = mpsc::channel(QUEUE);
        let session = Arc::new(Session {
            leader,
            queue,
            next_id: AtomicU64::new(1),
            pending: Mutex::default(),
            started: AtomicBool::new(false),
        });
        let client = self.peers.client(leader, node, Lane::Forward);
        // A replaced session drains by itself: its queue closes with its last caller.
        spawn(
            "forward",
            TaskKind::Connection,
            run(Arc::downgrade(&session), client, commands),
        );
        *current = Some(Arc::clone(&session));
        session
    }
}

impl Session {
    /// Sends `command` and waits for what applying it answered. The caller sets the deadline.
    pub(crate) async fn propose(&self, command: Bytes) -> Answer {
        let (answer, answered) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        {
            let mut pending = self.pending.lock();
            if pending.closed {
                return Err(Attempt::NotProposed);
            }
            pending.waiting.insert(id, answer);
        }
        // When the caller gives up, the entry must not stay behind.
        let _forget = Forget { session: self, id };
        if self
            .queue
            .send(pb::ForwardedCommand { id, command })
            .await
            .is_err()
        {
            return Err(Attempt::NotProposed);
        }
        answered.await.unwrap_or(Err(Attempt::Unknown))
    }
}

struct Forget<'a> {
    session: &'a Session,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.session.pending.lock().waiting.remove(&self.id);
    }
}

/// Carries one session's stream until it breaks or nobody uses the session.
async fn run(
    session: std::sync::Weak<Session>,
    mut client: Client,
    commands: mpsc::Receiver<pb::ForwardedCommand>,
) {
    let marker = session.clone();
    let requests = ReceiverStream::new(commands)
        .ready_chunks(BATCH)
        .map(move |commands| {
            if let Some(session) = marker.upgrade() {
                session.started.store(true, Ordering::Release);
            }
            pb::ForwardRequest { commands }
        });
    let error = match client.forward(requests).await {
        Ok(response) => receive(&session, response.into_inner()).await,
        Err(status) => Some(status),
    };
    let Some(session) = session.upgrade() else {
        return;
    };
    if let Some(status) = error {
        tracing::debug!(leader = %session.leader, %status, "forwarding stream ended");
    }
    let left = if session.started.load(Ordering::Acquire) {
        Attempt::Unknown
    } else {
        Attempt::NotProposed
    };
    let waiting = {
        let mut pending = session.pending.lock();
        pending.closed = true;
        std::mem::take(&mut pending.waiting)
    };
    for (_, answer) in waiting {
        // A caller that gave up does not mind.
        let _ = answer.send(Err(left));
    }
}

async fn receive(
    session: &std::sync::Weak<Session>,
    mut responses: tonic::Streaming<pb::ForwardResponse>,
) -> Option<tonic::Status> {
    loop {
        let message = match responses.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return None,
            Err(status) => return Some(status),
        };
        let session = session.upgrade()?;
        for result in message.results {
            let answer = session.pending.lock().waiting.remove(&result.id);
            if let Some(answer) = answer {
                let _ = answer.send(decode(result));
            }
        }
    }
}

fn decode(result: pb::ForwardedResult) -> Answer {
    use pb::forwarded_result::Outcome;
    match result.outcome {
        Some(Outcome::Response(bytes)) => match pb::RaftReply::decode(bytes) {
            Ok(reply) => Ok((result.index, reply)),
            Err(_) => Err(Attempt::Unknown),
        },
        Some(Outcome::Failure(failure)) => Err(match pb::ForwardFailure::try_from(failure) {
            Ok(pb::ForwardFailure::NotLeader) => Attempt::NotProposed,
            Ok(pb::ForwardFailure::Busy) => Attempt::Busy,
            _ => Attempt::Unknown,
        }),
        None => Err(Attempt::Unknown),
    }
}
