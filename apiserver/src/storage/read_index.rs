//! The store's current revision for consistent reads: readers that arrive while a request is under way share the next one.
//!
//! It never answers from a request that started before the reader arrived: that answer could miss a write that the
//! reader has already seen acknowledged. Invariant: a revision handed out was current at some moment after the call began.

use std::sync::Arc;

use corten_proto::etcd::etcdserverpb as pb;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{Endpoints, Error, Revision};

/// A key that never exists: only the answer's header is of interest.
const PROBE: &str = "/corten/read-index";

type Flight = Arc<OnceCell<Revision>>;

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
        let revision = flight
            .get_or_try_init(|| async {
                let _turn = self.turn.lock().await;
                self.depart(&flight);
                request(endpoints).await
            })
            .await?;
        Ok(*revision)
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

async fn request(endpoints: &Endpoints) -> Result<Revision, Error> {
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
        .map_err(|status| Error::from_status(status, Revision::default()))?;
    let header = response.header.ok_or(Error::Malformed { what: "header" })?;
    Ok(super::revision_of(header.revision))
}
