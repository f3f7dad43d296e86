//! One watch as it comes off the wire: raw events, errors as errors. It neither resumes nor remembers; `cache` does.

use std::time::Duration;

use bytes::Bytes;
use corten_proto::corten::api::v1 as wire;

use crate::client::{Client, ListOptions};
use crate::error::{Error, Result};
use crate::object::{Revision, Target};

/// How long the server may take to accept a watch. The stream itself has no limit.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// One change, its object still as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawEvent {
    /// The object appeared, or began to match the selectors, or is part of the initial state.
    Added(Bytes),
    /// The object changed.
    Modified(Bytes),
    /// The object went away or ceased to match; its last state, and the revision at which that happened.
    Deleted(Bytes, Revision),
    /// Nothing newer than this revision is missing. After the initial state, `initial_end` is set once.
    Bookmark {
        /// All changes up to here were sent.
        revision: Revision,
        /// The initial state is complete.
        initial_end: bool,
    },
}

/// An open watch.
#[derive(Debug)]
pub struct WatchStream {
    stream: tonic::Streaming<wire::WatchReply>,
}

impl WatchStream {
    pub(crate) async fn open(
        client: &Client,
        target: &Target,
        options: &ListOptions,
        from: Option<Revision>,
    ) -> Result<Self> {
        let request = wire::WatchRequest {
            target: Some(target.clone().in_namespace(&options.namespace).wire()),
            label_selector: options.label_selector.clone(),
            field_selector: options.field_selector.clone(),
            resource_version: from
                .map(|revision| revision.to_string())
                .unwrap_or_default(),
        };
        let mut watches = client.watches();
        let opened = tokio::time::timeout(OPEN_TIMEOUT, watches.watch(request))
            .await
            .map_err(|_| Error::timeout(format_args!("watch {target}")))??;
        Ok(Self {
            stream: opened.into_inner(),
        })
    }

    /// The next event; `None` when the server ended the stream in good order. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<RawEvent>> {
        let Some(reply) = self.stream.message().await? else {
            return Ok(None);
        };
        let object = reply.object;
        match wire::watch_reply::Type::try_from(reply.r#type) {
            Ok(wire::watch_reply::Type::Added) => Ok(Some(RawEvent::Added(object))),
            Ok(wire::watch_reply::Type::Modified) => Ok(Some(RawEvent::Modified(object))),
            Ok(wire::watch_reply::Type::Deleted) => {
                let revision = Revision::parse(&reply.resource_version);
                Ok(Some(RawEvent::Deleted(object, revision)))
            }
            Ok(wire::watch_reply::Type::Bookmark) => Ok(Some(RawEvent::Bookmark {
                revision: Revision::parse(&reply.resource_version),
                initial_end: reply.initial_events_end,
            })),
            Ok(wire::watch_reply::Type::Error) => {
                Err(
                    crate::raw::decode(&object, || "error event of a watch".to_owned())
                        .map_or_else(|error| error, Error::from_status),
                )
            }
            Ok(wire::watch_reply::Type::Unspecified) | Err(_) => Err(Error::Decode {
                what: "watch event".to_owned(),
                reason: format!("unknown type {}", reply.r#type),
            }),
        }
    }
}
