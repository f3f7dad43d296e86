//! The store's current revision for consistent reads: readers that arrive while a request is under way share the next one.
//!
//! It never answers from a request that started before the reader arrived: that answer could miss a write that the
//! reader has already seen acknowledged. Invariant: a revision handed out was current at some moment after the call began, and
//! a failure is shared like an answer: readers that waited for one failed request do not each try in turn, which without a
//! quorum would take the patience of all of them together.

use std::sync::Arc;

use corten_proto::etcd::etcdserverpb as pb;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::endpoints::PATIENCE;
use super::{Endpoints, Error, Revision};

/// A key that never exists: only the answer's header is of interest.
const PROBE: &str = "/corten/read-index";

type Flight = Arc<OnceCell<Result<Revision, Failure>>>;

/// Why a shared request failed: as [`Error`], which cannot be shared.
#[derive(Debug, Clone)]
enum Failure {
    Status(tonic::Status),
    NoHeader,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Status(status) => Self::from_status(status, Revision::default()),
            Failure::NoHeader => Self::Malformed { what: "header" },
        }
    }
}

/// Collects readers into shared requests.
#[derive(Default)]
pub(super) struct ReadIndex {
    /// Readers wait here until the request before theirs has been answered; then all of them share one.
    waiting: Mutex<Option<Flight>>,
    /// Held by the request that is under way.
    turn: tokio::sync::Mutex<()>,
}

impl ReadIndex {
    /// The current revision of the store.
    pub(super) async fn read(&self, endpoints: &Endpoints) -> Result<Revision, Error> {
        let flight = Arc::clone(self.waiting.lock().get_or_insert_default());
        let answered = flight.get_or_init(|| async {
            let _turn = self.turn.lock().await;
            self.depart(&flight);
            request(endpoints).await
        });
        // The turn before may take all of its patience: nobody waits for two.
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(answer) => Ok(answer.clone()?),
            Err(_) => Err(Error::Unavailable {
                source: tonic::Status::deadline_exceeded("no store member answered in time"),
            }),
        }
    }

    /// From here on newcomers need a request of their own: this one is about to be sent.
    fn depart(&self, flight: &Flight) {
        let mut waiting = self.waiting.lock();
        if waiting
            .as_ref()
            .is_some_and(|mine| Arc::ptr_eq(mine, flight))
        {
            *waiting = None;
        }
    }
}

async fn request(endpoints: &Endpoints) -> Result<Revision, Failure> {
    let probe = pb::RangeRequest {
        key: PROBE.into(),
        count_only: true,
        ..Default::default()
    };
    let response = endpoints
        .retrying(|member| {
            let probe = probe.clone();
            async move { Ok(member.kv().range(probe).await?.into_inner()) }
        })
        .await
        .map_err(Failure::Status)?;
    let header = response.header.ok_or(Failure::NoHeader)?;
    Ok(super::revision_of(header.revision))
}
