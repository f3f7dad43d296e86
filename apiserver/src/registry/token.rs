//! Continue tokens: where a paged list goes on, and at which revision.
//!
//! Opaque to clients and readable by every API server over the same store. Invariant: a token leads back into the key
//! range of the request it came from, or is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_api::status::Status;
use serde::{Deserialize, Serialize};

use crate::storage::Revision;

const VERSION: &str = "meta.k8s.io/v1";
/// Written as revision when the list may go on at any later state.
const ANY: i64 = -1;

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

/// A decoded token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// None: the first revision is gone, and the client chose to go on with a later one.
    pub(super) revision: Option<Revision>,
    /// The first key of the next page, behind the resource's prefix.
    pub(super) start: String,
}

impl Token {
    pub(super) fn encode(&self) -> String {
        let rv = self
            .revision
            .map_or(ANY, |revision| i64::try_from(revision.get()).unwrap_or(ANY));
        let wire = Wire {
            v: VERSION.to_owned(),
            rv,
            start: self.start.clone(),
        };
        let json = serde_json::to_vec(&wire).expect("two strings and a number always encode");
        URL_SAFE_NO_PAD.encode(json)
    }

    pub(super) fn decode(text: &str, namespace: Option<&str>) -> Result<Self, Status> {
        let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| invalid("it is not base64"))?;
        let wire: Wire =
            serde_json::from_slice(&bytes).map_err(|_| invalid("it is not a token"))?;
        if wire.v != VERSION {
            return Err(invalid(
                "the server does not recognize this encoded version",
            ));
        }
        if let Some(namespace) = namespace
            && !wire.start.starts_with(&format!("{namespace}/"))
        {
            return Err(invalid("it belongs to another namespace"));
        }
        let revision = match wire.rv {
            ANY => None,
            rv => Some(Revision::new(
                u64::try_from(rv)
                    .ok()
                    .filter(|rv| *rv > 0)
                    .ok_or_else(|| invalid("it has no revision"))?,
            )),
        };
        Ok(Self {
            revision,
            start: wire.start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_nonsense() {
        let token = Token {
            revision: Some(Revision::new(7)),
            start: "a/b\0".to_owned(),
        };
        assert_eq!(Token::decode(&token.encode(), Some("a")).unwrap(), token);
        assert_eq!(Token::decode(&token.encode(), None).unwrap(), token);
        assert!(Token::decode(&token.encode(), Some("b")).is_err());
        assert!(Token::decode("%%%", None).is_err());
        let any = Token {
            revision: None,
            start: "x".to_owned(),
        };
        assert_eq!(Token::decode(&any.encode(), None).unwrap(), any);
    }
}
