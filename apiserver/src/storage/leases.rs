//! Leases for objects that expire, such as Events.
//!
//! It does not keep leases alive. Invariant: an object lives at least as long as asked and at most a sixtieth (but up to a
//! second) longer; a lease per object would cost the store as much as the object itself.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use corten_proto::etcd::etcdserverpb as pb;
use parking_lot::Mutex;

use super::{Endpoints, Error, Revision};

/// Objects created within this time share a lease.
fn shared_for(ttl: Duration) -> Duration {
    (ttl / 60).clamp(Duration::from_secs(1), Duration::from_secs(60))
}

/// The current lease per time to live.
#[derive(Default)]
pub(super) struct Buckets {
    current: Mutex<HashMap<Duration, (Instant, i64)>>,
}

impl Buckets {
    /// A lease that lives at least `ttl` from now.
    pub(super) async fn get(&self, endpoints: &Endpoints, ttl: Duration) -> Result<i64, Error> {
        let now = Instant::now();
        let shared = self.current.lock().get(&ttl).copied();
        if let Some((granted, id)) = shared
            && now.duration_since(granted) < shared_for(ttl)
        {
            return Ok(id);
        }
        let seconds = (ttl + shared_for(ttl)).as_secs();
        let request = pb::LeaseGrantRequest {
            ttl: i64::try_from(seconds).unwrap_or(i64::MAX),
            id: 0,
        };
        let response = endpoints
            .retrying(|member| async move {
                Ok(member.lease().lease_grant(request).await?.into_inner())
            })
            .await
            .map_err(|status| Error::from_status(status, Revision::default()))?;
        self.current.lock().insert(ttl, (now, response.id));
        Ok(response.id)
    }

    /// Forgets leases that the store no longer knows.
    pub(super) fn forget(&self, id: i64) {
        self.current.lock().retain(|_, (_, known)| *known != id);
    }
}
