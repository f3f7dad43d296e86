//! The way of every request: who is it, may they, is there room, and then to the part that answers.
//!
//! [`Edge::pass`] is the filter chain and reads top to bottom, with a reason wherever the order matters. It answers nothing
//! about objects itself; `rest`, `grpc` and `streaming` do. Invariant: nothing behind `dispatch` runs without an
//! authenticated and authorised [`Caller`] in the request's extensions (gRPC methods authorise each call themselves, as only
//! they see what it is about).

mod compress;
mod dispatch;
#[cfg(test)]
pub(crate) mod fixture;
mod frames;
mod leftover;
mod limits;
mod metrics;
pub mod objects;
pub mod respond;
mod seats;
#[cfg(test)]
mod tests;
mod version;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_api::status::Status;
use corten_base::admin::AdminServer;
use corten_base::trace;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tower::Service;
use tracing::Instrument;

use crate::audit;
use crate::authn::{Authenticator, GROUP_MASTERS, Peer, User, bearer, impersonation};
use crate::authz::live::Live;
use crate::authz::{self, Attributes};
use crate::request::{self, Body, Caller, RequestInfo};
use crate::streaming::Streaming;
pub(crate) use compress::{accepts_gzip, whole as gzip};
pub(crate) use dispatch::not_modified;
use leftover::Leftover;
pub use limits::InFlight;
use limits::{Limits, Slot};
use metrics::Metrics;
pub use seats::{Count, Seats};
pub(crate) use seats::{Place, Reach};

/// A request that is not a watch or a stream and takes longer is answered with 504.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Where the audit id is told to the client.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Something that answers requests that have passed the chain.
pub type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Makes a handler out of tonic's services.
pub fn grpc_handler(routes: tonic::service::Routes) -> Handler {
    Arc::new(move |request: Request<Body>| {
        let mut routes = routes.clone();
        Box::pin(async move {
            let answered = routes.call(request.map(tonic::body::Body::new)).await;
            let response = answered.unwrap_or_else(|never| match never {});
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        })
    })
}

/// What an edge is made of.
pub struct Parts {
    /// Who is asking.
    pub authenticator: Arc<Authenticator>,
    /// What they may do.
    pub authorizer: Arc<Live>,
    /// Where it is written down.
    pub audit: audit::Log,
    /// Health checks and metrics of this process.
    pub admin: AdminServer,
    /// Objects over REST.
    pub rest: Handler,
    /// Objects over gRPC.
    pub grpc: Handler,
    /// Logs, exec, attach, port-forward.
    pub streaming: Streaming,
    /// How many requests are worked on at once.
    pub load: Load,
}

/// By what it is decided whether there is room for a request.
pub enum Load {
    /// Priority and fairness.
    Fair {
        /// Of the whole server.
        seats: u32,
        /// By which the work of lists is estimated.
        objects: Count,
    },
    /// One bound for reads and one for writes.
    Fixed(InFlight),
}

enum Gate {
    Fair(Arc<Seats>),
    Fixed(Box<Limits>),
}

/// The pipeline's outside. Connections hold it in an `Arc`.
pub struct Edge {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Live>,
    audit: audit::Log,
    admin: AdminServer,
    rest: Handler,
    grpc: Handler,
    streaming: Streaming,
    gate: Gate,
    metrics: Metrics,
}

/// What is remembered of a request for audit and metrics.
struct Record {
    id: Arc<str>,
    info: Arc<RequestInfo>,
    uri: String,
    user_agent: Arc<str>,
    grpc: bool,
    user: Option<Arc<User>>,
    impersonated: Option<Arc<User>>,
    slot: audit::Slot,
    place: Option<Place>,
    received: Timestamp,
    started: Instant,
}

impl Record {
    fn of(request: &Request<Body>) -> Self {
        let grpc = is_grpc(request);
        let mut info = RequestInfo::resolve(request.method(), request.uri());
        if grpc {
            // The method's name says whether it reads, for limits and metrics.
            info.verb = info
                .path
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
        }
        Self {
            id: uuid::Uuid::new_v4().to_string().into(),
            info: Arc::new(info),
            uri: request
                .uri()
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            user_agent: request::user_agent(request.headers()).into(),
            grpc,
            user: None,
            impersonated: None,
            slot: audit::Slot::default(),
            place: None,
            received: Timestamp::now(),
            started: Instant::now(),
        }
    }

    fn is_long_running(&self) -> bool {
        self.info.is_long_running() || (self.grpc && self.info.verb == "watch")
    }

    /// Terminals, logs and the like, which may do nothing for hours. Watches are no such thing: they begin with work.
    fn is_stream(&self) -> bool {
        self.info.is_long_running() && self.info.verb != "watch"
    }
}

impl Edge {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let metrics = Metrics::register(&parts.admin);
        let gate = match parts.load {
            Load::Fair { seats, objects } => {
                Gate::Fair(Seats::new(seats, objects, &parts.admin, &metrics))
            }
            Load::Fixed(sizes) => Gate::Fixed(Box::new(Limits::new(sizes, &metrics))),
        };
        Arc::new(Self {
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            audit: parts.audit,
            admin: parts.admin,
            rest: parts.rest,
            grpc: parts.grpc,
            streaming: parts.streaming,
            gate,
            metrics,
        })
    }

    /// The fair queues, unless they are switched off. Somebody has to start them.
    pub fn seats(&self) -> Option<&Arc<Seats>> {
        match &self.gate {
            Gate::Fair(seats) => Some(seats),
            Gate::Fixed(_) => None,
        }
    }

    /// Answers a request, whatever happens inside.
    pub async fn handle(&self, peer: &Peer, request: Request<Body>) -> Response<Body> {
        let mut record = Record::of(&request);
        let leftover = Leftover::default();
        // Streams and gRPC have ends of their own.
        let request = match record.is_long_running() || record.grpc {
            true => request,
            false => request.map(|body| leftover.watch(body)),
        };
        let span = trace::request(
            "api",
            request.method().as_str(),
            &record.info.path,
            request.headers(),
        );
        // A panic costs its request a 500, not the connection's other streams their lives.
        let outcome = AssertUnwindSafe(self.pass(peer, request, &mut record))
            .catch_unwind()
            .instrument(span.clone())
            .await;
        let answer = outcome.unwrap_or_else(|_| {
            self.metrics.panicked();
            tracing::error!(uri = record.uri, "request handler panicked");
            Err(Status::internal(
                "the request could not be completed because of a fault in the server",
            ))
        });
        let mut response = answer.unwrap_or_else(|status| match record.grpc {
            true => respond::grpc_status(&status),
            false => respond::status(&status),
        });
        if let Some(place) = record.place.take() {
            response = place.hand_on(response);
        }
        leftover.read().await;
        if let Ok(id) = HeaderValue::from_str(&record.id) {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        trace::answered(&span, respond::code_of(&response));
        self.finish(peer, &record, respond::code_of(&response));
        response
    }

    async fn pass(
        &self,
        peer: &Peer,
        mut request: Request<Body>,
        record: &mut Record,
    ) -> Result<Response<Body>, Status> {
        let info = Arc::clone(&record.info);
        let deadline = tokio::time::Instant::now() + REQUEST_TIMEOUT;

        // Identity first: every later step, the refusals included, belongs to somebody.
        let proved = self
            .authenticator
            .authenticate(peer, request.headers(), &info.path)
            .await;
        let user = proved.map_err(|error| {
            self.metrics.unauthenticated();
            tracing::debug!(%error, uri = record.uri, "not authenticated");
            Status::unauthorized()
        })?;
        record.user = Some(Arc::clone(&user));
        // Nothing behind this line may see the secret, a node agent that a stream goes to least of all.
        request.headers_mut().remove(AUTHORIZATION);
        bearer::strip(request.headers_mut());

        // Impersonation before authorization, so that the request is judged as the user it acts for.
        let acting =
            impersonation::resolve(request.headers(), &user, &*self.authorizer)?.map(Arc::new);
        impersonation::strip(request.headers_mut());
        record.impersonated.clone_from(&acting);
        let user = acting.unwrap_or(user);

        // Load before authorization and work, after identity, which decides how much of the server somebody may have.
        let _slot = self.admit(&user, &mut request, record).await?;

        // Health stays open even while the rules are still being loaded.
        if !record.grpc && !is_health(&info.path) {
            authz::require(&*self.authorizer, &Attributes::of_request(&user, &info))?;
        }

        let caller = Caller {
            user,
            info,
            user_agent: Arc::clone(&record.user_agent),
            request_id: Arc::clone(&record.id),
        };
        request.extensions_mut().insert(caller.clone());
        request.extensions_mut().insert(record.slot.clone());
        let answer = self.dispatch(caller, request, record.grpc);
        if record.is_long_running() {
            return answer.await;
        }
        // gRPC clients may send deadlines of their own, but need not: this one ends what holds seats.
        let timed = tokio::time::timeout_at(deadline, answer).await;
        timed.unwrap_or_else(|_| {
            Err(Status::timeout(
                "request did not complete within the allotted timeout",
                0,
            ))
        })
    }

    /// Waits until there is room, or refuses.
    async fn admit(
        &self,
        user: &Arc<User>,
        request: &mut Request<Body>,
        record: &mut Record,
    ) -> Result<Option<Slot<'_>>, Status> {
        let info = &record.info;
        let seats = match &self.gate {
            Gate::Fair(seats) => seats,
            Gate::Fixed(limits) => {
                // Administrators and health checks must come through when everything else is stuck.
                let exempt = record.is_long_running()
                    || is_health(&info.path)
                    || user.in_group(GROUP_MASTERS);
                return match exempt {
                    true => Ok(None),
                    false => limits.enter(info.is_read_only()).await.map(Some),
                };
            }
        };
        let place = Place::new(seats, user);
        record.place = Some(place.clone());
        if record.grpc {
            // Only the method knows what it is about, and so which level it belongs to: it enters by itself.
            request.extensions_mut().insert(place);
        } else if !record.is_stream() {
            let reach = Reach::of_query(info, request.uri().query().unwrap_or_default());
            place.enter(info, reach).await?;
        }
        Ok(None)
    }

    fn finish(&self, peer: &Peer, record: &Record, code: u16) {
        let told = record.slot.get();
        let info = told.as_ref().unwrap_or(&record.info);
        self.metrics.observe(info, code, record.started.elapsed());
        self.audit.record(&audit::Event {
            id: &record.id,
            info,
            uri: &record.uri,
            user: record.user.as_deref(),
            impersonated: record.impersonated.as_deref(),
            source: peer.address.map(|address| address.ip()),
            user_agent: &record.user_agent,
            code,
            long_running: record.is_long_running(),
            received: record.received,
        });
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Paths that answer without authorization.
fn is_health(path: &str) -> bool {
    ["/livez", "/readyz", "/healthz"].iter().any(|health| {
        path.strip_prefix(health)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
