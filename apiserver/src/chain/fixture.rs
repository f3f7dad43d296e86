//! What a chain in a test consists of where the test does not care.

use std::sync::Arc;

use corten_base::admin::AdminServer;

use super::objects::fake::Fake;
use super::{Handler, Load, Parts};
use crate::audit;
use crate::authn::Authenticator;
use crate::authn::bearer::StaticTokens;
use crate::authz::live::Live;
use crate::streaming::Streaming;

/// Knows no token, no object and no agent, and has the same handler behind both faces.
pub(crate) fn parts(authorizer: Arc<Live>, handler: Handler) -> Parts {
    Parts {
        authenticator: Arc::new(Authenticator {
            tokens: None,
            static_tokens: StaticTokens::default(),
        }),
        authorizer: Arc::clone(&authorizer),
        audit: audit::Log::off(),
        admin: AdminServer::new("test"),
        rest: Arc::clone(&handler),
        grpc: handler,
        streaming: Streaming {
            objects: Fake::with(&[]),
            authorizer,
            agents: None,
        },
        load: Load::Fair {
            seats: 600,
            objects: Arc::new(|_, _| 0),
        },
    }
}
