//! Service-account tokens of running pods: minted once, kept in memory, renewed when a fifth of their life is left or after
//! a day, as upstream does. A restart of the agent mints anew.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ServiceAccountTokenProjection;
use parking_lot::Mutex;

use crate::traits::{ObjectSource, VolumeRequest};

/// Upstream's default life of a projected token.
const EXPIRATION_DEFAULT_SECONDS: i64 = 3_600;
/// However long a token lives, it is renewed this often.
const AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

type Key = (String, String, usize);

struct Held {
    token: String,
    renew_at: Instant,
}

#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Key, Held>>);

impl Tokens {
    /// The token of one projection (volume name and index within it).
    pub(super) async fn get(
        &self,
        source: &dyn ObjectSource,
        request: &VolumeRequest,
        place: (&str, usize),
        projection: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        let key = (request.pod_ref.uid.clone(), place.0.to_owned(), place.1);
        if let Some(held) = self.0.lock().get(&key)
            && Instant::now() < held.renew_at
        {
            return Ok(held.token.clone());
        }
        let spec = request.pod.spec.as_ref();
        let account = spec
            .and_then(|s| s.service_account_name.as_deref())
            .unwrap_or("default");
        let audiences: Vec<String> = projection
            .audience
            .iter()
            .filter(|a| !a.is_empty())
            .cloned()
            .collect();
        let seconds = projection
            .expiration_seconds
            .unwrap_or(EXPIRATION_DEFAULT_SECONDS);
        let answer = source
            .service_account_token(&request.pod_ref, account, &audiences, seconds)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer
            .status
            .ok_or_else(|| "the API server answered without a token".to_owned())?;
        let life = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let renew_at = Instant::now() + (life * 4 / 5).min(AGE_MAX);
        self.0.lock().insert(
            key,
            Held {
                token: status.token.clone(),
                renew_at,
            },
        );
        Ok(status.token)
    }

    /// Drops a pod's tokens.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().retain(|(pod, _, _), _| pod != uid);
    }
}
