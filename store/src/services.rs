//! The etcd v3 gRPC services over any replica.
//! Not here: consensus, storage, sockets.
//! Invariant: every answer carries a header with cluster, member, revision and term; every refusal etcd's text and code.

mod access;
mod auth;
mod cluster;
mod context;
mod kv;
mod lease;
mod maintenance;
mod passwords;
mod quota;
pub(crate) mod tokens;
mod watch;

use std::sync::Arc;

use corten_proto::etcd::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
    lease_server::LeaseServer, maintenance_server::MaintenanceServer, watch_server::WatchServer,
};
use corten_store_core::check::REQUEST_BYTES_MAX;
use tonic::codegen::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::{Request, Status};

use crate::replica::{ProposeError, Replica};
pub use access::Options;
use context::Context;
pub(crate) use maintenance::{ETCD_VERSION, STORAGE_VERSION};

/// What a gRPC message may be beyond the request limit, so that a request just too large gets etcd's text.
const MESSAGE_SLACK_BYTES: usize = 512 * 1024;
pub(crate) const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + MESSAGE_SLACK_BYTES;

/// All services of a replica, to be mounted on a server.
pub fn routes(replica: Arc<dyn Replica>, options: Options) -> Routes {
    let context = Context::new(replica, options);
    // What shows data or takes it. Status, alarms, members and backups go on: they are how one finds out.
    let sound = Sound(context.clone());
    let kv = KvServer::new(kv::Kv(context.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let kv = InterceptedService::new(kv, sound.clone());
    let watch = WatchServer::new(watch::Watch(context.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let watch = InterceptedService::new(watch, sound.clone());
    let lease =
        LeaseServer::new(lease::Lease(context.clone())).max_encoding_message_size(usize::MAX);
    let lease = InterceptedService::new(lease, sound);
    let cluster = ClusterServer::new(cluster::Cluster(context.clone()));
    let maintenance = MaintenanceServer::new(maintenance::Maintenance(context.clone()));
    Routes::new(kv)
        .add_service(watch)
        .add_service(lease)
        .add_service(cluster)
        .add_service(maintenance)
        .add_service(AuthServer::new(auth::Auth(context)))
}

/// Refuses calls while this replica's data is known to be wrong.
#[derive(Clone)]
struct Sound(Context);

impl Interceptor for Sound {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.0.replica().is_corrupt() {
            return Err(ProposeError::Corrupt.into());
        }
        Ok(request)
    }
}
