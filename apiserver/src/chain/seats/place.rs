//! One request's place: its seats from the moment it has them until its answer needs them no more.
//!
//! An answer that is whole gives them back at once. A list is made while it is sent, so it keeps them meanwhile; a watch keeps
//! them until its first state is out, that is, until it has nothing to send for a moment. A client that does not read must
//! not keep others waiting: an answer that does not move, or takes long, loses its seats and goes on without. Invariant: a
//! place holds seats no longer than the request or its answer lives.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use corten_api::status::Status;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::metrics::Route;
use super::work::{self, Reach};
use super::{Seat, Seats};
use crate::authn::User;
use crate::request::{Body, BoxError, RequestInfo};

/// How often answers are looked at. One that has not moved since the last look is its reader's affair.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// An answer that takes longer is bound by its reader, not by the server.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// See the module's words. Clones are the same place; gRPC methods find it in the request's extensions.
#[derive(Clone)]
pub(crate) struct Place(Arc<Inner>);

struct Inner {
    seats: Arc<Seats>,
    user: Arc<User>,
    route: OnceLock<Arc<Route>>,
    held: Mutex<Option<Seat>>,
    /// Whether the answer has moved since the last look.
    moved: AtomicBool,
}

impl Place {
    /// A place without seats.
    pub(in crate::chain) fn new(seats: &Arc<Seats>, user: &Arc<User>) -> Self {
        Self(Arc::new(Inner {
            seats: Arc::clone(seats),
            user: Arc::clone(user),
            route: OnceLock::new(),
            held: Mutex::new(None),
            moved: AtomicBool::new(false),
        }))
    }

    /// Waits for seats, or refuses.
    pub(crate) async fn enter(&self, info: &RequestInfo, reach: Reach) -> Result<(), Status> {
        let Inner { seats, user, .. } = &*self.0;
        let (flow, route) = seats.classify(user, info);
        // A request enters once.
        drop(self.0.route.set(Arc::clone(&route)));
        let wanted = work::seats(info, reach, &seats.objects);
        let seat = seats
            .enter(&flow, &route, wanted, info.is_read_only())
            .await?;
        let before = self.0.held.lock().replace(seat);
        drop(before);
        Ok(())
    }

    /// Gives the seats back, at once or while the answer is sent, and tells which way the request went.
    pub(in crate::chain) fn hand_on(&self, mut response: Response<Body>) -> Response<Body> {
        if let Some(route) = self.0.route.get() {
            route.label(response.headers_mut());
        }
        let body = response.body();
        if body.is_end_stream() || body.size_hint().exact().is_some() || !self.0.holds() {
            self.0.release();
            return response;
        }
        self.0.seats.handed_on.add(&self.0);
        let place = self.clone();
        response.map(|body| Followed { body, place }.boxed_unsync())
    }
}

impl Inner {
    fn holds(&self) -> bool {
        self.held.lock().is_some()
    }

    fn release(&self) {
        // Not under the lock: giving back takes another one.
        let seat = self.held.lock().take();
        drop(seat);
    }
}

/// The body of an answer that is made while it is sent.
struct Followed {
    body: Body,
    place: Place,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(_))) => self.place.0.moved.store(true, Ordering::Relaxed),
            Poll::Pending | Poll::Ready(None | Some(Err(_))) => self.place.0.release(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers that hold seats while they are sent. Bounded by the seats, but for those that ended since the last look.
#[derive(Default)]
pub(super) struct HandedOn(Mutex<VecDeque<Answer>>);

struct Answer {
    place: Weak<Inner>,
    since: Instant,
    look_at: Instant,
}

impl HandedOn {
    fn add(&self, place: &Arc<Inner>) {
        let since = Instant::now();
        self.0.lock().push_back(Answer {
            place: Arc::downgrade(place),
            since,
            look_at: since + LOOK_EVERY,
        });
    }

    /// Takes the seats of those that do not move.
    pub(super) fn look(&self) {
        let now = Instant::now();
        let due = {
            let mut answers = self.0.lock();
            // In the order of their times, as each is put at the end.
            let due = answers.partition_point(|answer| answer.look_at <= now);
            answers.drain(..due).collect::<Vec<_>>()
        };
        for answer in due {
            let Some(place) = answer.place.upgrade().filter(|place| place.holds()) else {
                continue;
            };
            let moves = place.moved.swap(false, Ordering::Relaxed);
            if !moves || now.duration_since(answer.since) >= HOLD_MAX {
                place.release();
                continue;
            }
            self.0.lock().push_back(Answer {
                look_at: now + LOOK_EVERY,
                ..answer
            });
        }
    }
}
