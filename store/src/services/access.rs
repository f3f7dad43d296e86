//! Who asks, and whether it may: the same few steps for every service.
//!
//! Not the rules (`corten_store_core::auth`). Writes are only marked with who asks here; they are judged when they are
//! applied. Invariant: while auth is off a request costs one load more, and once it is on no write and no linearizable read
//! gets past without a judgement on a state at least as new as the request.
//!
//! A member may lag behind the change that made a user, so a token that is not known is looked at once more after a read
//! barrier; it may lag behind the enabling of auth, so what was refused as nobody's is asked once more with its sender; and
//! a request that was judged at an old revision is judged anew, a few times.

use std::time::Duration;

use corten_base::clock::{Clock as _, SystemClock};
use corten_base::tls;
use corten_proto::corten::store::v1::{RaftRequest, raft_reply, raft_request::Command};
use corten_store_core::auth::{Auth, Caller};
use corten_store_core::{Error, Store};
use tonic::metadata::MetadataMap;
use tonic::transport::CertificateDer;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Extensions, Request, Status};

use super::context::{Context, refused};
use super::tokens;

/// Where clients put their token: etcd's own, and those that come through its gateway.
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];
/// Attempts while users and roles keep changing.
const ATTEMPTS: usize = 3;

/// What users need of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a token is good.
    pub token_ttl: Duration,
    /// Cost of bcrypt.
    pub bcrypt_cost: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token_ttl: Duration::from_secs(300),
            bcrypt_cost: 10,
        }
    }
}

/// What a request said about its sender besides its message.
pub(super) struct Origin {
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Origin {
    pub(super) fn split<T>(request: Request<T>) -> (Self, T) {
        let (metadata, extensions, message) = request.into_parts();
        let origin = Self {
            metadata,
            extensions,
        };
        (origin, message)
    }

    fn token(&self) -> Option<&str> {
        TOKEN_KEYS
            .iter()
            .find_map(|key| self.metadata.get(*key)?.to_str().ok())
    }

    /// Cheap, and no promise that the name is known.
    fn names_somebody(&self) -> bool {
        let over_tcp = || self.extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
        self.token().is_some() || over_tcp().is_some_and(|info| info.peer_certs().is_some())
    }

    /// The common name of the client's certificate, which the handshake has verified.
    fn common_name(&self) -> Option<String> {
        let over_tcp = self.extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = over_tcp.and_then(TlsConnectInfo::peer_certs)?;
        let leaf: &CertificateDer<'_> = certificates.first()?;
        let name = tls::peer_identity(leaf).ok()?.common_name;
        (!name.is_empty()).then_some(name)
    }
}

/// Who asks; nobody while auth is off.
#[derive(Debug, Default)]
pub(super) struct Asker {
    pub(super) user: String,
    revision: u64,
}

impl Asker {
    pub(super) fn caller(&self) -> Caller<'_> {
        Caller {
            user: &self.user,
            revision: self.revision,
        }
    }
}

/// The auth revision at which a read was allowed; none: auth was off.
#[must_use = "a read that was allowed must be confirmed once it is done"]
pub(super) struct Permit(Option<u64>);

impl Context {
    /// Whether a request may be answered from here. `check` may be asked several times.
    pub(super) async fn permit(
        &self,
        origin: &Origin,
        check: impl Fn(&Store, &Auth, Caller<'_>) -> Result<(), Error> + Send + Sync,
    ) -> Result<Permit, Status> {
        if !self.store().auth_enabled() {
            return Ok(Permit(None));
        }
        Box::pin(self.judge(origin, check)).await
    }

    async fn judge(
        &self,
        origin: &Origin,
        check: impl Fn(&Store, &Auth, Caller<'_>) -> Result<(), Error> + Send + Sync,
    ) -> Result<Permit, Status> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let asker = self.asker(origin).await?;
            let auth = self.store().auth();
            match check(self.store(), &auth, asker.caller()) {
                Ok(()) => return Ok(Permit(auth.is_enabled().then_some(auth.revision()))),
                Err(Error::AuthOldRevision) if left > 0 => {}
                Err(error) => return Err(refused(error)),
            }
        }
    }

    /// To be asked after what was permitted has been read: a permission revoked meanwhile may have come first.
    pub(super) fn confirm(&self, permit: Permit) -> Result<(), Status> {
        let enabled = self.store().auth_enabled();
        match permit.0 {
            None if !enabled => Ok(()),
            Some(revision) if self.store().auth().revision() == revision => Ok(()),
            _ => Err(refused(Error::AuthOldRevision)),
        }
    }

    /// Passes root.
    pub(super) async fn permit_root(&self, origin: &Origin) -> Result<(), Status> {
        let permit = self.permit(origin, |_, auth, caller| auth.check_root(caller));
        permit.await.map(drop)
    }

    /// Passes whoever has said who it is.
    pub(super) async fn permit_known(&self, origin: &Origin) -> Result<(), Status> {
        let permit = self.permit(origin, |_, auth, caller| auth.check_known(caller));
        permit.await.map(drop)
    }

    /// Proposes what a client wants, marked with who that is. Applying judges it.
    pub(super) async fn propose_for(
        &self,
        origin: &Origin,
        command: Command,
    ) -> Result<(i64, raft_reply::Result), Status> {
        if self.store().auth_enabled() {
            return Box::pin(self.propose_marked(origin, command)).await;
        }
        if !origin.names_somebody() {
            return self.propose(command).await;
        }
        match self.propose(command.clone()).await {
            // Auth was on, and this member had yet to learn it. Certainly without effect, and now it knows.
            Err(status) if self.unmarked(&status) => {
                Box::pin(self.propose_marked(origin, command)).await
            }
            result => result,
        }
    }

    /// Was something refused because nobody was said to want it?
    fn unmarked(&self, status: &Status) -> bool {
        self.store().auth_enabled() && status.message() == refused(Error::UserEmpty).message()
    }

    async fn propose_marked(
        &self,
        origin: &Origin,
        command: Command,
    ) -> Result<(i64, raft_reply::Result), Status> {
        let old = refused(Error::AuthOldRevision);
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let asker = self.asker(origin).await?;
            let request = RaftRequest {
                user: asker.user,
                auth_revision: asker.revision,
                command: Some(command.clone()),
                ..Default::default()
            };
            match self.propose_request(request).await {
                // Certainly without effect; and the entry is applied here, so what made it old is known here as well.
                Err(status) if left > 0 && status.message() == old.message() => {}
                result => return result,
            }
        }
    }

    /// Finds out who asks: by token, or else by certificate.
    pub(super) async fn asker(&self, origin: &Origin) -> Result<Asker, Status> {
        let auth = self.store().auth();
        if !auth.is_enabled() {
            return Ok(Asker::default());
        }
        let named = |user: String, auth: &Auth| Asker {
            user,
            revision: auth.revision(),
        };
        let Some(token) = origin.token() else {
            let name = origin.common_name();
            return Ok(name.map_or_else(Asker::default, |name| named(name, &auth)));
        };
        if let Some(user) = tokens::check(&auth, token, now()) {
            return Ok(named(user, &auth));
        }
        self.read_barrier().await?;
        let auth = self.store().auth();
        match tokens::check(&auth, token, now()) {
            Some(user) => Ok(named(user, &auth)),
            None if !auth.is_enabled() => Ok(Asker::default()),
            None => Err(refused(Error::InvalidAuthToken)),
        }
    }

    /// A token for a user, if the password is its.
    pub(super) async fn login(&self, name: &str, password: String) -> Result<String, Status> {
        // Whoever was told that a user is there must be able to log in as it, at any member.
        self.read_barrier().await?;
        let auth = self.store().auth();
        if !auth.is_enabled() {
            return Err(refused(Error::AuthNotEnabled));
        }
        let user = auth.user(name).ok_or_else(|| refused(Error::AuthFailed))?;
        if user.no_password {
            return Err(refused(Error::NoPasswordUser));
        }
        let hash = user.password_hash.clone();
        self.passwords().verify(password, hash).await?;
        // Of the state that the password was compared with: if it has changed meanwhile, the token is void from the start.
        let ttl = self.options().token_ttl;
        tokens::give(&auth, name, now(), ttl).ok_or_else(|| refused(Error::AuthFailed))
    }
}

fn now() -> i64 {
    SystemClock.wall().as_second()
}
