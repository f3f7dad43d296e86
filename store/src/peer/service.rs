//! The peer service: what this member does when another one calls.
//!
//! Decides nothing about consensus; it hands messages to openraft and to the member. Invariant: nothing from another
//! cluster, and nothing meant for another member, gets past `check`.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use corten_base::tasks::{TaskKind, spawn};
use corten_proto::corten::store::v1 as pb;
use corten_proto::corten::store::v1::peer_server::{Peer, PeerServer};
use corten_store_core::LeaseId;
use futures::{Stream, StreamExt};
use openraft::errors::ClientWriteError;
use openraft::raft::{ClientWriteResult, TransferLeaderRequest, VoteRequest};
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::connect::{CLUSTER_KEY, MESSAGE_BYTES_MAX, TARGET_KEY};
use super::transfer;
use crate::raft::codec;
use crate::raft::member::{Member, TOGETHER_MAX, Word};
use crate::raft::types::{Callback, Command, LogId, MemberId, TypeConfig};

/// Forwarded commands of one follower that may be in flight here; more wait in its stream.
const FORWARDED_MAX: usize = 4096;
/// Results that go into one message when they are ready together.
const RESULT_BATCH: usize = 256;

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The member that is served, once it has been opened.
pub(crate) type Opened = Arc<OnceLock<Arc<Member>>>;

/// The service of one member. It listens before the member is opened, so that others can tell one that is starting from
/// one that is busy.
pub(crate) struct PeerService {
    opened: Opened,
}

impl PeerService {
    pub(crate) fn server(opened: Opened) -> PeerServer<PeerService> {
        PeerServer::new(PeerService { opened })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Refuses calls of another cluster, and calls meant for a member that lived at this address before.
    fn check<T>(&self, request: &Request<T>) -> Result<&Arc<Member>, Status> {
        let member = self
            .opened
            .get()
            .ok_or_else(|| Status::unavailable("this member is starting"))?;
        let expected = [
            (CLUSTER_KEY, member.cluster_id()),
            (TARGET_KEY, member.id().0),
        ];
        for (key, expected) in expected {
            let got = request
                .metadata()
                .get(key)
                .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            if got != Some(expected) {
                return Err(Status::failed_precondition(format!(
                    "{key} is {got:?}, here it is {expected}"
                )));
            }
        }
        Ok(member)
    }
}

fn bad(error: codec::CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this member has stopped: {error}"))
}

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = ResponseStream<pb::AppendResponse>;
    type ForwardStream = ResponseStream<pb::ForwardResponse>;
    type FetchSnapshotStream = ResponseStream<pb::SnapshotRequest>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let member = self.check(&request)?;
        // A broken stream and a message that does not parse both end the input; the leader opens a new one.
        let input = request.into_inner().map(|message| match message {
            Ok(message) => codec::append_request(message)
                .map_err(|error| tracing::warn!(%error, "bad append"))
                .ok(),
            Err(status) => {
                tracing::debug!(%status, "append stream ended");
                None
            }
        });
        let input = input
            .take_while(|message| std::future::ready(message.is_some()))
            .filter_map(std::future::ready);
        let results = member
            .raft()
            .stream_append(input)
            .map(|result| match result {
                Ok(result) => Ok(codec::append_result_to_pb(&result)),
                Err(fatal) => Err(stopped(fatal)),
            });
        Ok(Response::new(Box::pin(results)))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendResponse>, Status> {
        let member = self.check(&request)?;
        let message = codec::append_request(request.into_inner()).map_err(bad)?;
        let prev = message.prev_log_id;
        let last = message.entries.last().map(|entry| entry.log_id).or(prev);
        let answer = member
            .raft()
            .append_entries(message)
            .await
            .map_err(stopped)?;
        Ok(Response::new(codec::append_result_to_pb(
            &answer.into_stream_result(prev, last),
        )))
    }

    async fn request_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let member = self.check(&request)?;
        let answer = member
            .raft()
            .vote(vote_request(&request.into_inner())?)
            .await
            .map_err(stopped)?;
        Ok(Response::new(vote_response(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let member = self.check(&request)?;
        let answer = member
            .raft()
            .pre_vote(vote_request(&request.into_inner())?)
            .await
            .map_err(stopped)?;
        Ok(Response::new(vote_response(&answer)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotRequest>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let member = self.check(&request)?;
        let received = transfer::receive(request.into_inner(), member.incoming_dir()).await?;
        let snapshot = openraft::Snapshot {
            meta: received.meta,
            snapshot: received.dir,
        };
        let answer = member
            .raft()
            .install_full_snapshot(received.vote, snapshot)
            .await
            .map_err(stopped)?;
        Ok(Response::new(pb::SnapshotResponse {
            vote: Some(codec::vote_to_pb(&answer.vote)),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let member = self.check(&request)?;
        let message = request.into_inner();
        let from = codec::required_vote(message.from_leader.as_ref()).map_err(bad)?;
        let last = message.last_log_id.as_ref().map(codec::log_id);
        let request = TransferLeaderRequest::<TypeConfig>::new(from, MemberId(message.to), last);
        let answer = member
            .raft()
            .handle_transfer_leader(request)
            .await
            .map_err(stopped)?;
        let reason = answer
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        Ok(Response::new(pb::TransferLeaderResponse {
            accepted: answer.is_ok(),
            reason,
        }))
    }

    async fn forward(
        &self,
        request: Request<Streaming<pb::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let member = self.check(&request)?;
        let (results, ready) = mpsc::channel(FORWARDED_MAX);
        spawn(
            "forwarded",
            TaskKind::Connection,
            take_forwarded(Arc::clone(member), request.into_inner(), results),
        );
        let batches = ReceiverStream::new(ready).ready_chunks(RESULT_BATCH);
        Ok(Response::new(Box::pin(
            batches.map(|results| Ok(pb::ForwardResponse { results })),
        )))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let member = self.check(&request)?;
        let question = request.into_inner();
        let index = match &question.vote {
            Some(vote) => {
                let word = Word {
                    member: MemberId(question.member),
                    vote: codec::vote(vote),
                };
                member.confirm_leadership_with(&word).await
            }
            None => member.confirm_leadership().await,
        };
        let log_id = index.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(pb::ReadIndexResponse {
            log_id: Some(codec::log_id_to_pb(&log_id)),
        }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<pb::LeaseKeepAliveRequest>,
    ) -> Result<Response<pb::LeaseKeepAliveResponse>, Status> {
        let member = self.check(&request)?;
        let pb::LeaseKeepAliveRequest { id, more } = request.into_inner();
        if more.len() >= TOGETHER_MAX {
            return Err(Status::invalid_argument("too many leases in one call"));
        }
        let ids: Vec<LeaseId> = std::iter::once(id).chain(more).map(LeaseId).collect();
        let renewed = member.renew_here(&ids).await?;
        let mut ttls = ids.iter().map(|id| renewed.get(id).copied().unwrap_or(0));
        Ok(Response::new(pb::LeaseKeepAliveResponse {
            ttl: ttls.next().unwrap_or(0),
            more_ttls: ttls.collect(),
        }))
    }

    async fn lease_remaining(
        &self,
        request: Request<pb::LeaseRemainingRequest>,
    ) -> Result<Response<pb::LeaseRemainingResponse>, Status> {
        let member = self.check(&request)?;
        let ttl = member
            .lease_ttl_here(LeaseId(request.into_inner().id))
            .await?;
        Ok(Response::new(pb::LeaseRemainingResponse {
            found: ttl.is_some(),
            granted_ttl: ttl.map_or(0, |ttl| ttl.granted),
            remaining_ttl: ttl.map_or(0, |ttl| ttl.remaining),
        }))
    }

    async fn members(
        &self,
        request: Request<pb::MembersRequest>,
    ) -> Result<Response<pb::MembersResponse>, Status> {
        // Asked by members that do not know the cluster yet; the answer holds nothing secret to a peer certificate.
        drop(request);
        // One that is starting knows no cluster.
        let known = self.opened.get().map(|member| member.members_message());
        Ok(Response::new(known.unwrap_or_default()))
    }

    async fn change_member(
        &self,
        request: Request<pb::ChangeMemberRequest>,
    ) -> Result<Response<pb::ChangeMemberResponse>, Status> {
        let member = self.check(&request)?;
        let change = request
            .into_inner()
            .change
            .ok_or_else(|| Status::invalid_argument("no change"))?;
        Ok(Response::new(member.change_member_here(change).await?))
    }

    async fn repair(
        &self,
        request: Request<pb::RepairRequest>,
    ) -> Result<Response<pb::RepairResponse>, Status> {
        let member = self.check(&request)?;
        let id = member.repair_here(request.into_inner()).await?;
        Ok(Response::new(pb::RepairResponse { member: id.0 }))
    }

    async fn fetch_snapshot(
        &self,
        request: Request<pb::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let member = self.check(&request)?;
        let id = MemberId(request.into_inner().member);
        let (vote, snapshot) = member.snapshot_for(id).await?;
        let (parts, stream) = mpsc::channel(transfer::CHUNKS_AHEAD);
        spawn("snapshot-fetched", TaskKind::Connection, async move {
            if let Err(error) = transfer::send_parts(vote, snapshot, parts).await {
                tracing::warn!(member = %id, %error, "the state for a repair was not sent to its end");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream).map(Ok))))
    }

    async fn compare_member(
        &self,
        request: Request<pb::CompareMemberRequest>,
    ) -> Result<Response<pb::CompareMemberResponse>, Status> {
        let member = self.check(&request)?;
        let id = MemberId(request.into_inner().member);
        let agrees = member.compare_member_here(id).await?;
        Ok(Response::new(pb::CompareMemberResponse { agrees }))
    }

    async fn kv_hash(
        &self,
        request: Request<pb::KvHashRequest>,
    ) -> Result<Response<pb::KvHashResponse>, Status> {
        let member = self.check(&request)?;
        let pb::KvHashRequest { revision, index } = request.into_inner();
        let hash = member.kv_hash_here(revision, index).await?;
        Ok(Response::new(pb::KvHashResponse {
            hash: hash.hash,
            compacted: hash.compacted.get(),
        }))
    }
}

fn vote_request(message: &pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    let vote = codec::required_vote(message.vote.as_ref()).map_err(bad)?;
    let last: Option<LogId> = message.last_log_id.as_ref().map(codec::log_id);
    let mut request = VoteRequest::new(vote, last);
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

fn vote_response(answer: &openraft::raft::VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(codec::vote_to_pb(&answer.vote)),
        granted: answer.vote_granted,
        last_log_id: answer.last_log_id.as_ref().map(codec::log_id_to_pb),
    }
}

/// Proposes what a follower sends, as long as it sends; results go back in whatever order they come.
async fn take_forwarded(
    member: Arc<Member>,
    mut commands: Streaming<pb::ForwardRequest>,
    results: mpsc::Sender<pb::ForwardedResult>,
) {
    // As many permits as the result channel has places, so that a callback never finds it full.
    let slots = Arc::new(Semaphore::new(FORWARDED_MAX));
    while let Ok(Some(message)) = commands.message().await {
        for forwarded in message.commands {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let id = forwarded.id;
            // What cannot be read must not enter the log: no member could apply it, and all of them would stop.
            if let Err(error) = pb::RaftRequest::decode(forwarded.command.clone()) {
                tracing::warn!(%error, "a member forwards what is no command");
                return;
            }
            let sender = results.clone();
            let callback = Callback::new(move |result| {
                // The follower may be gone; it will have reported the outcome as unknown.
                let _ = sender.try_send(forwarded_result(id, result));
                drop(slot);
            });
            if member
                .propose_here(Command(forwarded.command), callback)
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

fn forwarded_result(id: u64, result: ClientWriteResult<TypeConfig>) -> pb::ForwardedResult {
    use pb::ForwardFailure::{NotLeader, UnknownOutcome};
    use pb::forwarded_result::Outcome;
    let (index, outcome) = match result {
        Ok(written) => {
            let reply = written.data.unwrap_or_default();
            (
                written.log_id.index,
                Outcome::Response(Bytes::from(reply.encode_to_vec())),
            )
        }
        Err(ClientWriteError::ForwardToLeader(_)) => (0, Outcome::Failure(NotLeader.into())),
        Err(_) => (0, Outcome::Failure(UnknownOutcome.into())),
    };
    pb::ForwardedResult {
        id,
        outcome: Some(outcome),
        index,
    }
}
