//! One watch over a prefix of the store.
//!
//! It does not reconnect: the cache does, because only the cache knows from which revision. Invariant: changes arrive in
//! revision order, and [`Batch::Progress`] promises that everything up to its revision has been delivered.

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb::{self as pb, watch_request::RequestUnion};
use corten_proto::etcd::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Error, Revision, Store, number_of, prefix_end, revision_of};
use crate::crypt::CryptError;

/// Progress requests in flight; more would tell nothing new.
const REQUESTS_MAX: usize = 8;
/// Metadata by which the store ends the watch of a member that has lost its leader: such a member tells nothing new.
const REQUIRE_LEADER: (&str, &str) = ("hasleader", "true");

/// One changed key.
#[derive(Debug, Clone)]
pub struct Change {
    pub key: String,
    pub revision: Revision,
    /// None: the key was deleted. A value that cannot be decrypted is the reader's to skip: it must not end the watch.
    pub value: Option<Result<Bytes, CryptError>>,
}

/// What the store reports at once.
#[derive(Debug)]
pub enum Batch {
    /// Changes in revision order; never a part of one revision.
    Changes(Vec<Change>),
    /// Nothing has changed up to and including this revision beyond what was delivered.
    Progress(Revision),
}

/// An open watch.
pub struct Watcher {
    store: Store,
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    from: Revision,
}

impl Watcher {
    pub(super) async fn open(store: Store, prefix: &str, from: Revision) -> Result<Self, Error> {
        let create = pb::WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end: prefix_end(prefix).into(),
            start_revision: number_of(from),
            progress_notify: true,
            ..Default::default()
        };
        let first = pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let opened = store.inner.endpoints.opening(|member| {
            let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
            requests
                .try_send(first.clone())
                .expect("a fresh queue has room for one request");
            async move {
                let stream = leader_required(ReceiverStream::new(receiver));
                let responses = member.watch().watch(stream).await?.into_inner();
                Ok((requests, responses))
            }
        });
        let (requests, responses) = opened
            .await
            .map_err(|status| Error::from_status(status, from))?;
        Ok(Self {
            store,
            requests,
            responses,
            from,
        })
    }

    /// Where to ask the store for a progress report; full means that one is under way.
    pub fn progress_requests(&self) -> ProgressRequests {
        ProgressRequests {
            requests: self.requests.clone(),
        }
    }

    /// The next batch. Cancel-safe: the stream keeps what was not taken.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            let response = self
                .responses
                .message()
                .await
                .map_err(|status| Error::from_status(status, self.from))?
                .ok_or_else(|| Error::Unavailable {
                    source: tonic::Status::unavailable("the store ended the watch"),
                })?;
            if response.compact_revision != 0 {
                return Err(Error::Compacted {
                    revision: self.from,
                });
            }
            if response.canceled {
                return Err(Error::from_status(
                    tonic::Status::unavailable(response.cancel_reason),
                    self.from,
                ));
            }
            if !response.events.is_empty() {
                let changes = response.events.into_iter().map(|event| self.change(event));
                return Ok(Batch::Changes(changes.collect::<Result<_, _>>()?));
            }
            // The answer to the creation carries the revision of a member that may not have sent older events yet.
            if !response.created {
                let header = response.header.ok_or(Error::Malformed { what: "header" })?;
                return Ok(Batch::Progress(revision_of(header.revision)));
            }
        }
    }

    fn change(&self, event: corten_proto::etcd::mvccpb::Event) -> Result<Change, Error> {
        let deleted = event.r#type == i32::from(EventType::Delete);
        let kv = event.kv.ok_or(Error::Malformed { what: "key" })?;
        let revision = revision_of(kv.mod_revision);
        if deleted {
            return Ok(Change {
                key: String::from_utf8_lossy(&kv.key).into_owned(),
                revision,
                value: None,
            });
        }
        let (key, value) = match self.store.open(kv) {
            Ok(stored) => (stored.key, Ok(stored.value)),
            Err(unreadable) => (unreadable.key, Err(unreadable.source)),
        };
        Ok(Change {
            key,
            revision,
            value: Some(value),
        })
    }
}

fn leader_required<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let (name, value) = REQUIRE_LEADER;
    let value = tonic::metadata::MetadataValue::from_static(value);
    request.metadata_mut().insert(name, value);
    request
}

/// Asks the store how far the watch has come.
#[derive(Clone)]
pub struct ProgressRequests {
    requests: mpsc::Sender<pb::WatchRequest>,
}

impl ProgressRequests {
    /// Asks; the answer arrives in the watch as [`Batch::Progress`].
    pub fn ask(&self) {
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
        };
        // A full queue already holds the same question.
        let _ = self.requests.try_send(request);
    }
}
