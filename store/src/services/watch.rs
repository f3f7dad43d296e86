//! The Watch service: one task per stream, many watchers on each.
//! Not who gets which event; that is the hub's.
//! Invariant: on a stream, a watcher's `created` comes before its events, and nothing of it after its `canceled`.

use std::time::Duration;

use corten_base::tasks::{TaskKind, spawn};
use corten_proto::etcd::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType,
    watch_request::RequestUnion, watch_server,
};
use corten_store_core::hub::{self, Filters, Output};
use corten_store_core::{Error, Revision, Span};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::access::Origin;
use super::context::Context;
use crate::replica::watches::Subscription;

/// Answers that wait for the client's window. Small: what waits longer belongs in the hub, which is bounded.
const ANSWERS_MAX: usize = 8;
/// About the bytes taken from the hub at once.
const POLL_BYTES_MAX: usize = 1024 * 1024;
/// How often idle watchers that asked for it are told the revision. Upstream's API server relies on about this.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// How often a stream that requires a leader looks for one.
const LEADER_CHECK: Duration = Duration::from_secs(1);
/// Looks without a leader before such a stream ends; an election in between must not cut watches.
const LEADERLESS_CHECKS_MAX: u32 = 3;
/// The watch id in answers that concern no single watcher.
const NO_WATCH: i64 = -1;
/// Metadata by which a client asks that its stream ends when the leader is lost.
const REQUIRE_LEADER: &str = "hasleader";

pub(super) struct Watch(pub(super) Context);

#[tonic::async_trait]
impl watch_server::Watch for Watch {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let requires_leader = request
            .metadata()
            .get(REQUIRE_LEADER)
            .is_some_and(|value| value == "true");
        if requires_leader {
            self.0.require_leader()?;
        }
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let (origin, requests) = Origin::split(request);
        let stream = Stream {
            context: self.0.clone(),
            origin,
            subscription: self.0.replica().engine().watches().subscribe(),
            answers,
        };
        let requires_leader = requires_leader.then(|| tokio::time::interval(LEADER_CHECK));
        spawn(
            "watch-stream",
            TaskKind::Connection,
            stream.run(requests, requires_leader),
        );
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One client's stream.
struct Stream {
    context: Context,
    origin: Origin,
    subscription: Subscription,
    answers: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// The client has gone.
struct Gone;

impl Stream {
    async fn run(
        self,
        mut requests: Streaming<WatchRequest>,
        leader_check: Option<tokio::time::Interval>,
    ) {
        // Neither end is an error here: the client went, or the server tells it why it stops.
        let _: Result<(), Gone> = self.serve(&mut requests, leader_check).await;
    }

    async fn serve(
        &self,
        requests: &mut Streaming<WatchRequest>,
        mut leader_check: Option<tokio::time::Interval>,
    ) -> Result<(), Gone> {
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        let mut leaderless = 0;
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                // Each arm is cancel-safe: a message, a permit and a tick are taken whole or not at all.
                () = self.answers.closed() => return Err(Gone),
                request = requests.message(), if open => match request {
                    Ok(Some(request)) => self.handle(request).await?,
                    // The client sends no more but may still listen, as etcd's clients do not, but others may.
                    Ok(None) => open = false,
                    Err(_) => return Err(Gone),
                },
                () = self.subscription.ready() => self.deliver().await?,
                _ = progress.tick() => {
                    for output in self.subscription.idle_progress() {
                        self.send(self.answer(output)).await?;
                    }
                }
                () = tick(&mut leader_check) => {
                    let lost = self.context.require_leader();
                    leaderless = if lost.is_err() { leaderless + 1 } else { 0 };
                    if let (Err(status), true) = (lost, leaderless > LEADERLESS_CHECKS_MAX) {
                        return self.answers.send(Err(status)).await.map_err(|_| Gone);
                    }
                }
            }
        }
    }

    async fn handle(&self, request: WatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(&create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                if !self.subscription.cancel(cancel.watch_id) {
                    return Ok(());
                }
                let revision = self.subscription.revision();
                let response = self.response(cancel.watch_id, revision);
                self.send(WatchResponse {
                    canceled: true,
                    ..response
                })
                .await
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                self.subscription.request_progress();
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn create(&self, create: &WatchCreateRequest) -> Result<(), Gone> {
        let wanted = wanted(create);
        // At its creation alone, as in etcd: a watch under way outlives the permission.
        let permit = self.context.permit(&self.origin, |_, auth, caller| {
            auth.check_read(caller, &wanted.span)
        });
        if let Err(status) = permit.await {
            return self.refuse(denied(&status)).await;
        }
        match self.subscription.watch(create.watch_id, wanted) {
            Ok((watch, revision)) => {
                let response = self.response(watch, revision);
                self.send(WatchResponse {
                    created: true,
                    ..response
                })
                .await
            }
            Err(refused) => self.refuse(refused.to_string()).await,
        }
    }

    async fn refuse(&self, cancel_reason: String) -> Result<(), Gone> {
        let response = self.response(NO_WATCH, self.context.revision());
        self.send(WatchResponse {
            created: true,
            canceled: true,
            cancel_reason,
            ..response
        })
        .await
    }

    async fn deliver(&self) -> Result<(), Gone> {
        loop {
            let outputs = self.subscription.poll(POLL_BYTES_MAX);
            if outputs.is_empty() {
                return Ok(());
            }
            for output in outputs {
                self.send(self.answer(output)).await?;
            }
        }
    }

    fn answer(&self, output: Output) -> WatchResponse {
        match output {
            Output::Events {
                watch,
                revision,
                events,
                fragment,
            } => WatchResponse {
                events,
                fragment,
                ..self.response(watch, revision)
            },
            Output::Progress { watch, revision } => {
                self.response(watch.unwrap_or(NO_WATCH), revision)
            }
            Output::Compacted {
                watch,
                revision,
                compacted,
            } => WatchResponse {
                canceled: true,
                compact_revision: compacted.get(),
                cancel_reason: Error::Compacted.to_string(),
                ..self.response(watch, revision)
            },
        }
    }

    fn response(&self, watch_id: i64, revision: Revision) -> WatchResponse {
        WatchResponse {
            header: self.context.header(revision.get()),
            watch_id,
            ..Default::default()
        }
    }

    async fn send(&self, response: WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(response)).await.map_err(|_| Gone)
    }
}

/// A refusal as Go prints it: etcd's clients compare the whole text, and fetch a new token if that is what is wrong.
fn denied(status: &Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}

async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn wanted(create: &WatchCreateRequest) -> hub::Request {
    // An empty key means the first possible key.
    let key = if create.key.is_empty() {
        bytes::Bytes::from_static(&[0])
    } else {
        create.key.clone()
    };
    let mut filters = Filters::default();
    for filter in create.filters() {
        match filter {
            FilterType::Noput => filters.no_put = true,
            FilterType::Nodelete => filters.no_delete = true,
        }
    }
    hub::Request {
        span: Span::new(&key, &create.range_end),
        start: Revision::new(create.start_revision),
        filters,
        prev_kv: create.prev_kv,
        progress_notify: create.progress_notify,
        fragment: create.fragment,
    }
}
