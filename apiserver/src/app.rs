//! The server as a whole: settings in, a running API out.
//!
//! It wires the parts and keeps their order of start and stop; it has no logic of its own. Invariant: readiness is only
//! claimed when the caches are loaded, the authorizer knows its rules and the system objects exist.

mod creators;
mod tasks;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_base::admin::AdminServer;
use corten_base::clock::SystemClock;
use corten_base::config::ConfigError;
use corten_base::shutdown::Shutdown;
use corten_base::tls::{self, ClientAuth, TlsError};
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::admission::Admission;
use crate::allocators::Allocators;
use crate::authn::{Authenticator, User, bearer::StaticTokens};
use crate::authz::live::Live;
use crate::bootstrap::endpoints::Advertised;
use crate::cache::Caches;
use crate::chain::objects::Objects;
use crate::chain::{Edge, Load, Parts, grpc_handler};
use crate::config::{Checked, Config};
use crate::crypt::{Crypt, CryptError};
use crate::registry::Registry;
use crate::rest::{self, Api};
use crate::storage::{ConnectError, Endpoints, Store};
use crate::streaming::{Agents, Streaming};
use crate::tokens::{KeyError, Keys, Tokens};
use crate::{audit, server};

/// Why the server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the store cannot be reached this way")]
    Store(#[from] ConnectError),
    #[error("TLS files cannot be used")]
    Tls(#[from] TlsError),
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is no encryption key")]
    EncryptionKey { path: PathBuf, source: CryptError },
    #[error("{path} is no key for service-account tokens")]
    TokenKey { path: PathBuf, source: KeyError },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
}

/// A server that is bound to its port but does nothing yet.
pub struct Server {
    registry: Arc<Registry>,
    caches: Arc<Caches>,
    authorizer: Arc<Live>,
    edge: Arc<Edge>,
    admin: AdminServer,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    advertised: Advertised,
    /// Authority of clients' certificates.
    client_ca: PathBuf,
    /// Ends everything that was started while building.
    inner: Shutdown,
}

impl Server {
    /// Builds a server on the store's endpoints from the settings.
    pub async fn build(config: &Config) -> Result<Self, BuildError> {
        let checked = config.check()?;
        let endpoints = Endpoints::connect(&config.store_endpoints, checked.store_tls.as_ref())?;
        Self::assemble(config, checked, endpoints).await
    }

    /// Builds a server on a store within this process.
    pub async fn build_on(config: &Config, store: Channel) -> Result<Self, BuildError> {
        let checked = config.check()?;
        Self::assemble(config, checked, Endpoints::in_process(store)).await
    }

    async fn assemble(
        config: &Config,
        checked: Checked,
        endpoints: Endpoints,
    ) -> Result<Self, BuildError> {
        let inner = Shutdown::new();
        let store = Store::new(endpoints, encryption(config)?);
        let caches = Caches::with_limits(store.clone(), checked.cache);
        let allocators = Allocators {
            service_cidr: checked.service_cidr,
            node_ports: checked.node_ports,
        };
        let registry = Registry::new(store, Arc::clone(&caches), Admission::default(), allocators);
        let registry = Arc::new(registry);
        let objects: Arc<dyn Objects> = Arc::clone(&registry) as Arc<dyn Objects>;
        let authorizer = Live::new();
        registry.set_authorizer(Arc::clone(&authorizer));
        let tokens = tokens(config, &checked, &objects)?;
        let authenticator = Arc::new(Authenticator {
            tokens,
            static_tokens: StaticTokens::default(),
        });
        creators::register(&registry, &authorizer, &authenticator);
        let admin = AdminServer::new("apiserver");
        caches.register(&admin);
        let agents = checked.agents.as_ref().map(Agents::new).transpose()?;
        let api = Api {
            registry: Arc::clone(&registry),
        };
        let routes = crate::grpc::routes(Arc::clone(&registry), Arc::clone(&authorizer) as Arc<_>);
        let audit = audit_log(config, &inner);
        let edge = Edge::new(Parts {
            authenticator,
            authorizer: Arc::clone(&authorizer),
            audit,
            admin: admin.clone(),
            rest: Arc::new(move |request| {
                let api = api.clone();
                Box::pin(async move { rest::handle(&api, request).await })
            }),
            grpc: grpc_handler(routes),
            streaming: Streaming {
                objects,
                authorizer: Arc::clone(&authorizer),
                agents,
            },
            load: load(&checked, &caches),
        });
        tasks::readiness(&admin, &caches, &authorizer, &edge);
        let tls = tls::server_config(&checked.serving, ClientAuth::Optional)?;
        let (listener, advertised) = listen(&checked).await?;
        Ok(Self {
            registry,
            caches,
            authorizer,
            edge,
            admin,
            listener,
            tls,
            advertised,
            client_ca: checked.serving.ca.clone(),
            inner,
        })
    }

    /// Where the server listens; the port is known even if it was asked for as 0.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A gRPC channel into this server without a socket, acting as `user`. It works once the server runs.
    pub fn channel(&self, user: User) -> Channel {
        server::local_channel(&self.edge, user, &self.inner)
    }

    /// The verbs, for embedders and tests.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Health checks and metrics of this server.
    pub fn admin(&self) -> &AdminServer {
        &self.admin
    }

    /// Serves until shutdown, then drains.
    pub async fn run(self, shutdown: Shutdown) -> std::io::Result<()> {
        tasks::start(&self);
        let inner = self.inner.clone();
        let serving = server::serve(self.edge, self.listener, self.tls, inner.clone());
        tokio::pin!(serving);
        tokio::select! {
            biased;
            () = shutdown.wait() => {}
            ended = &mut serving => {
                inner.trigger();
                return ended;
            }
        }
        inner.trigger();
        serving.await
    }
}

fn load(checked: &Checked, caches: &Arc<Caches>) -> Load {
    let Some(seats) = checked.seats else {
        return Load::Fixed(checked.inflight);
    };
    let caches = Arc::clone(caches);
    let objects = move |group: &str, resource: &str| {
        let cache = caches.named(group, resource);
        cache.map_or(0, |cache| cache.objects())
    };
    Load::Fair {
        seats,
        objects: Arc::new(objects),
    }
}

/// Takes the port, and says where this server is then reached.
async fn listen(checked: &Checked) -> Result<(TcpListener, Advertised), BuildError> {
    let fault = |source| BuildError::Listen {
        address: checked.listen,
        source,
    };
    let listener = TcpListener::bind(checked.listen).await.map_err(fault)?;
    let port = listener.local_addr().map_err(fault)?.port();
    let first = u32::from(checked.service_cidr.network()) + 1;
    let advertised = Advertised {
        address: SocketAddr::new(checked.advertise, port),
        cluster_ip: Ipv4Addr::from(first).into(),
    };
    Ok((listener, advertised))
}

fn audit_log(config: &Config, shutdown: &Shutdown) -> audit::Log {
    match &config.audit_log_path {
        Some(path) => audit::Log::start(audit::Settings::at(path.clone()), shutdown),
        None => audit::Log::off(),
    }
}

fn encryption(config: &Config) -> Result<Option<Crypt>, BuildError> {
    let Some(path) = &config.encryption_key_file else {
        return Ok(None);
    };
    let key = Crypt::from_base64(&read(path)?);
    key.map(Some).map_err(|source| BuildError::EncryptionKey {
        path: path.clone(),
        source,
    })
}

fn tokens(
    config: &Config,
    checked: &Checked,
    objects: &Arc<dyn Objects>,
) -> Result<Option<Arc<Tokens>>, BuildError> {
    let Some(path) = &config.service_account_signing_key_file else {
        return Ok(None);
    };
    let public = config
        .service_account_key_file
        .iter()
        .map(|path| read(path));
    let public = public.collect::<Result<Vec<_>, _>>()?;
    let keys = Keys::new(&read(path)?, &public).map_err(|source| BuildError::TokenKey {
        path: path.clone(),
        source,
    })?;
    let clock = Arc::new(SystemClock);
    Ok(Some(Arc::new(Tokens::new(
        keys,
        &checked.issuer,
        &config.api_audiences,
        Arc::clone(objects),
        clock,
    ))))
}

fn read(path: &Path) -> Result<String, BuildError> {
    std::fs::read_to_string(path).map_err(|source| BuildError::Read {
        path: path.to_owned(),
        source,
    })
}
