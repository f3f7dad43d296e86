//! Watches as gRPC streams: always a streaming list, then changes.
//!
//! Invariant: a stream that cannot go on ends with an ERROR whose Status says why, and never silently skips an event.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::status::Status;
use corten_proto::corten::api::v1::{self as pb, watch_reply::Type};
use futures::Stream;

use crate::cache::{Delivery, EventType, Watch};
use crate::registry::{Registry, RevisionMatch, Target, WatchOptions};

pub(super) type Replies = Pin<Box<dyn Stream<Item = Result<pb::WatchReply, tonic::Status>> + Send>>;

/// Opens a watch as the message asks for it.
pub(super) async fn open(
    registry: &Arc<Registry>,
    target: Target,
    message: &pb::WatchRequest,
) -> Result<Replies, Status> {
    let from_state = message.resource_version.is_empty();
    let options = WatchOptions {
        label_selector: message.label_selector.clone(),
        field_selector: message.field_selector.clone(),
        resource_version: Some(message.resource_version.clone()),
        resource_version_match: from_state.then_some(RevisionMatch::NotOlderThan),
        send_initial_events: from_state.then_some(true),
        allow_bookmarks: true,
    };
    let watch = registry.watch(&target, &options).await?;
    let state = Some((watch, Arc::clone(registry), target));
    let replies = futures::stream::unfold(state, |state| async move {
        let (mut watch, registry, target) = state?;
        match watch.next().await {
            Some(delivery) => {
                let reply = reply(&registry, &target, &delivery);
                Some((Ok(reply), Some((watch, registry, target))))
            }
            None => Some((Ok(cut(&watch)), None)),
        }
    });
    Ok(Box::pin(replies))
}

/// The object in the version that the target asks for.
pub(super) fn object_bytes(registry: &Registry, target: &Target, stored: Bytes) -> Bytes {
    let cache = registry.caches().of(target.descriptor);
    if cache.is_none_or(|cache| std::ptr::eq(cache.descriptor, target.descriptor)) {
        return stored;
    }
    let Ok(mut object) = serde_json::from_slice(&stored) else {
        return stored;
    };
    target.descriptor.strategy.decode_from_storage(&mut object);
    corten_api::meta::set_gvk(&mut object, &target.named("").gvk());
    Bytes::from(object.to_string())
}

fn reply(registry: &Registry, target: &Target, delivery: &Delivery) -> pb::WatchReply {
    match delivery {
        Delivery::Initial(item) => pb::WatchReply {
            r#type: Type::Added.into(),
            object: object_bytes(registry, target, item.json.clone()),
            resource_version: item.revision.to_string(),
            initial_events_end: false,
        },
        Delivery::Event(kind, event) => pb::WatchReply {
            r#type: match kind {
                EventType::Added => Type::Added,
                EventType::Modified => Type::Modified,
                EventType::Deleted => Type::Deleted,
            }
            .into(),
            object: object_bytes(registry, target, event.object(*kind)),
            resource_version: event.revision.to_string(),
            initial_events_end: false,
        },
        Delivery::Bookmark {
            revision,
            initial_end,
        } => pb::WatchReply {
            r#type: Type::Bookmark.into(),
            object: Bytes::new(),
            resource_version: revision.to_string(),
            initial_events_end: *initial_end,
        },
    }
}

fn cut(watch: &Watch) -> pb::WatchReply {
    let status =
        Status::expired("the watch was too slow or the server started over; resume or list again");
    pb::WatchReply {
        r#type: Type::Error.into(),
        object: Bytes::from(status.to_json().to_string()),
        resource_version: watch.revision().to_string(),
        initial_events_end: false,
    }
}
