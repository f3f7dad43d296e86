//! Cluster DNS, answered on every node from the watch: no pod, no cache to go stale. Names of the cluster are answered
//! here, all others are passed to the node's resolvers as they came.

mod forward;
mod server;
mod zone;

pub use forward::{Upstreams, system_resolvers};
pub use server::serve;
pub use zone::{Answer, BY_ADDRESS, BY_CLUSTER_IP, Zone, addresses_of, cluster_ip_of};
