//! openraft's network over the peer service: a pipelined stream for the log, unary calls for the rest.
//!
//! Does not decide about retries or back-off: openraft does. Invariant: a call that did not get an answer is an error,
//! never a guess; pre-votes in particular are asked, not assumed.

use std::sync::Arc;
use std::time::Duration;

use corten_base::clock::{Clock as _, SystemClock};
use corten_proto::corten::store::v1 as pb;
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use prometheus_client::metrics::histogram::Histogram;

use super::codec;
use super::silence::Silence;
use super::snapshot::SnapshotDir;
use super::types::{MemberId, Node, TypeConfig, Vote};
use crate::metrics::Metrics;
use crate::peer::connect::{Client, Lane, Peers};
use crate::peer::transfer;

/// Answers to small calls; beyond this the member is as good as gone for this election.
const CALL_TIMEOUT_MIN: Duration = Duration::from_millis(250);

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Makes links to members.
pub(crate) struct NetworkFactory {
    peers: Arc<Peers>,
    metrics: Metrics,
    silence: Silence,
}

impl NetworkFactory {
    pub(crate) fn new(peers: Arc<Peers>, metrics: Metrics, silence: Silence) -> Self {
        Self {
            peers,
            metrics,
            silence,
        }
    }

    fn link(&self, target: MemberId, node: &Node, lane: Lane) -> Link {
        Link {
            client: self.peers.client(target, node, lane),
            lane,
            round_trips: self.metrics.round_trips_to(&target),
            silence: self.silence.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Link;

    async fn new_client(&mut self, target: MemberId, node: &Node) -> Link {
        self.link(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: MemberId, node: &Node) -> Link {
        self.link(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: MemberId, node: &Node) -> Link {
        self.link(target, node, Lane::Bulk)
    }
}

/// One lane to one member.
pub(crate) struct Link {
    client: Client,
    lane: Lane,
    round_trips: Histogram,
    silence: Silence,
}

impl NetBackoff<TypeConfig> for Link {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<TypeConfig> for Link {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.lane == Lane::Control {
            // A heartbeat is one message: a call of its own is cheaper than a stream of its own.
            let beat = Beat {
                client: self.client.clone(),
                input,
                option,
                round_trips: self.round_trips.clone(),
            };
            return Box::pin(async move { Ok(heartbeats(beat)) });
        }
        Box::pin(async move {
            let mut input = input;
            // openraft waits out its back-off when it is asked for a request: so ask before connecting, or a member
            // that is down would be dialled without a pause.
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(futures::stream::empty());
                return Ok(nothing);
            };
            if self.silence.is_kept() {
                let reason = "no quorum answers, so that the others must be left to elect another";
                return Err(RPCError::Unreachable(Unreachable::from_string(reason)));
            }
            let silence = self.silence.clone();
            let requests = futures::stream::once(std::future::ready(first)).chain(input);
            let requests = requests.take_while(move |_| std::future::ready(!silence.is_kept()));
            let requests = requests.map(|request| codec::append_request_to_pb(&request));
            let response = call(&option, self.client.append(requests)).await?;
            let results = response.map(|message| match message {
                Ok(message) => codec::append_result(&message).map_err(|error| network(&error)),
                Err(status) => Err(failed(&status)),
            });
            let results: BoxStream<'s, _> = Box::pin(results);
            Ok(results)
        })
    }
}

/// What a heartbeat needs, and the next one after it.
struct Beat<S> {
    client: Client,
    input: S,
    option: RPCOption,
    round_trips: Histogram,
}

fn heartbeats<S>(beat: Beat<S>) -> BoxStream<'static, Rpc<StreamAppendResult<TypeConfig>>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    Box::pin(futures::stream::unfold(Some(beat), |beat| async move {
        let mut beat = beat?;
        let request = codec::append_request_to_pb(&beat.input.next().await?);
        let began = SystemClock.now();
        let result = call(&beat.option, beat.client.heartbeat(request)).await;
        if result.is_ok() {
            let took = SystemClock.now().saturating_duration_since(began);
            beat.round_trips.observe(took.as_secs_f64());
        }
        let result = result
            .and_then(|message| codec::append_result(&message).map_err(|error| network(&error)));
        let next = matches!(result, Ok(Ok(_))).then_some(beat);
        Some((result, next))
    }))
}

impl NetVote<TypeConfig> for Link {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        vote_response(&call(&option, self.client.request_vote(vote_request(&rpc))).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        vote_response(&call(&option, self.client.pre_vote(vote_request(&rpc))).await?)
    }
}

impl NetSnapshot<TypeConfig> for Link {
    type SnapshotData = SnapshotDir;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        // No deadline for the whole: a big store takes as long as it takes. The connection's own keep-alive notices a
        // peer that is gone, and openraft cancels when it has something better to send.
        let sent = transfer::send(self.client.clone(), vote, snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            result = sent => match result {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(status) => Err(StreamingError::from(failed(&status))),
            },
        }
    }
}

impl NetTransferLeader<TypeConfig> for Link {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let request = pb::TransferLeaderRequest {
            from_leader: Some(codec::vote_to_pb(req.from_leader())),
            to: req.to_node_id().0,
            last_log_id: req.last_log_id().map(codec::log_id_to_pb),
        };
        let response = call(&option, self.client.transfer_leader(request)).await?;
        if response.accepted {
            return Ok(Ok(()));
        }
        Err(RPCError::Network(NetworkError::from_string(
            response.reason,
        )))
    }
}

fn vote_request(rpc: &VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(codec::vote_to_pb(&rpc.vote)),
        last_log_id: rpc.last_log_id.as_ref().map(codec::log_id_to_pb),
        leadership_transfer: rpc.leadership_transfer,
    }
}

fn vote_response(message: &pb::VoteResponse) -> Rpc<VoteResponse<TypeConfig>> {
    let vote = codec::required_vote(message.vote.as_ref()).map_err(|error| network(&error))?;
    let last = message.last_log_id.as_ref().map(codec::log_id);
    Ok(VoteResponse::new(vote, last, message.granted))
}

/// Runs one call with a deadline.
async fn call<T>(
    option: &RPCOption,
    future: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Rpc<T> {
    let deadline = option.soft_ttl().max(CALL_TIMEOUT_MIN);
    match tokio::time::timeout(deadline, future).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(&status)),
        Err(_) => Err(RPCError::Unreachable(Unreachable::from_string(format!(
            "no answer in {deadline:?}"
        )))),
    }
}

fn failed(status: &tonic::Status) -> RPCError<TypeConfig> {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::FailedPrecondition | tonic::Code::Unknown => {
            RPCError::Unreachable(Unreachable::from_string(status.to_string()))
        }
        _ => RPCError::Network(NetworkError::from_string(status.to_string())),
    }
}

fn network(error: &codec::CodecError) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(error.to_string()))
}
