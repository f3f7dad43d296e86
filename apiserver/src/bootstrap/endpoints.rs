//! The Service `kubernetes` and the addresses behind it: every living API server, and no dead one.
//!
//! Each server announces itself in the store under a lease, and writes the addresses of all announced servers into the
//! Endpoints and the EndpointSlice. It serves pods; components have their own list of servers. Invariant: whether a server
//! lives is decided by the store's leases alone, never by comparing clocks of hosts.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use corten_api::status::{Reason, Status};
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use serde_json::{Value, json};

use crate::chain::objects::{Objects, Resource};
use crate::storage::Store;

const SLICES: Resource = Resource {
    group: "discovery.k8s.io",
    name: "endpointslices",
};
const ENDPOINTS: Resource = Resource::core("endpoints");
const SERVICES: Resource = Resource::core("services");
const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
/// A dead server gets connections for at most this long.
const LIVES_FOR: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);

/// What this server tells about itself.
#[derive(Debug, Clone)]
pub struct Advertised {
    /// Where pods reach this server.
    pub address: SocketAddr,
    /// The Service's address: the first of the service range.
    pub cluster_ip: IpAddr,
}

/// Which servers live.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Says that the server at this address lives, for a while.
    async fn announce(&self, ip: IpAddr) -> Result<(), Status>;
    /// Takes it back.
    async fn withdraw(&self, ip: IpAddr) -> Result<(), Status>;
    /// All that live.
    async fn living(&self) -> Result<BTreeSet<IpAddr>, Status>;
}

#[async_trait]
impl Presence for Store {
    async fn announce(&self, ip: IpAddr) -> Result<(), Status> {
        // The form that upstream's servers write and read.
        let value = json!({
            "kind": "Endpoints", "apiVersion": "v1", "metadata": {}, "subsets": [{"addresses": [{"ip": ip}]}],
        });
        let value = Bytes::from(value.to_string());
        Ok(Self::announce(self, ip, value, LIVES_FOR).await?)
    }

    async fn withdraw(&self, ip: IpAddr) -> Result<(), Status> {
        Ok(Self::withdraw(self, ip).await?)
    }

    async fn living(&self) -> Result<BTreeSet<IpAddr>, Status> {
        Ok(self.announced().await?)
    }
}

/// Keeps everything up to date until shutdown, then takes this server's address out.
pub fn start(
    objects: &Arc<dyn Objects>,
    presence: Arc<dyn Presence>,
    advertised: Advertised,
    shutdown: &Shutdown,
) {
    let keeper = Keeper {
        objects: Arc::clone(objects),
        presence,
        advertised,
    };
    if keeper.is_local() {
        tracing::warn!(
            address = %keeper.advertised.address.ip(),
            "the kubernetes Service gets no endpoints: the advertised address is a loopback address, which means another host in \
             every pod; set --advertise-address to an address of this host"
        );
    }
    let shutdown = shutdown.clone();
    spawn("kubernetes-service", TaskKind::Background, async move {
        let mut complaint = String::new();
        while !shutdown.is_triggered() {
            // Said once for each cause: a person has to mend an address that no Endpoints may hold.
            let outcome = keeper.renew().await.map_err(|error| error.to_string());
            if let Err(error) = &outcome
                && *error != complaint
            {
                tracing::warn!(
                    error,
                    "the kubernetes Service is not up to date, will try again"
                );
            }
            complaint = outcome.err().unwrap_or_default();
            tokio::select! {
                biased;
                () = shutdown.wait() => {}
                () = tokio::time::sleep(RENEW) => {}
            }
        }
        // The server may be cut off already; the lease then runs out by itself.
        drop(tokio::time::timeout(Duration::from_secs(1), keeper.leave()).await);
    });
}

struct Keeper {
    objects: Arc<dyn Objects>,
    presence: Arc<dyn Presence>,
    advertised: Advertised,
}

impl Keeper {
    /// Whether nobody but this host could use the address; no Endpoints may hold it.
    fn is_local(&self) -> bool {
        self.advertised.address.ip().is_loopback()
    }

    async fn renew(&self) -> Result<(), Status> {
        self.ensure_service().await?;
        if self.is_local() {
            return Ok(());
        }
        self.presence.announce(self.advertised.address.ip()).await?;
        let living = self.presence.living().await?;
        self.write(&living).await
    }

    async fn leave(&self) -> Result<(), Status> {
        if self.is_local() {
            return Ok(());
        }
        let own = self.advertised.address.ip();
        self.presence.withdraw(own).await?;
        let mut living = self.presence.living().await?;
        living.remove(&own);
        self.write(&living).await
    }

    async fn ensure_service(&self) -> Result<(), Status> {
        if self.objects.get(SERVICES, NAMESPACE, NAME).await?.is_some() {
            return Ok(());
        }
        let ip = self.advertised.cluster_ip;
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": NAME, "namespace": NAMESPACE,
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
                "ipFamilies": [family], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "ports": [{
                    "name": "https", "protocol": "TCP", "port": 443,
                    "targetPort": self.advertised.address.port(),
                }],
            },
        });
        create(&*self.objects, SERVICES, NAMESPACE, service).await
    }

    async fn write(&self, addresses: &BTreeSet<IpAddr>) -> Result<(), Status> {
        let port =
            json!([{"name": "https", "port": self.advertised.address.port(), "protocol": "TCP"}]);
        let listed: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let subsets = match listed.is_empty() {
            true => json!([]),
            false => json!([{"addresses": listed, "ports": port}]),
        };
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": NAME, "namespace": NAMESPACE,
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": subsets,
        });
        self.ensure(ENDPOINTS, endpoints, &["subsets"]).await?;
        let family = if self.advertised.address.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        };
        let ready: Vec<Value> = addresses
            .iter()
            .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
            .collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": NAME, "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": NAME},
            },
            "addressType": family, "endpoints": ready, "ports": port,
        });
        self.ensure(SLICES, slice, &["endpoints", "ports"]).await
    }

    async fn ensure(
        &self,
        resource: Resource,
        wanted: Value,
        fields: &[&str],
    ) -> Result<(), Status> {
        let Some(mut present) = self.objects.get(resource, NAMESPACE, NAME).await? else {
            return create(&*self.objects, resource, NAMESPACE, wanted).await;
        };
        let mut changed = false;
        for field in fields {
            let empty =
                |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            let same = present[field] == wanted[field]
                || (empty(&present[field]) && empty(&wanted[field]));
            if !same {
                present[field] = wanted[field].clone();
                changed = true;
            }
        }
        if !changed {
            return Ok(());
        }
        self.objects
            .update(resource, NAMESPACE, present)
            .await
            .map(drop)
    }
}

async fn create(
    objects: &dyn Objects,
    resource: Resource,
    namespace: &str,
    object: Value,
) -> Result<(), Status> {
    match objects.create(resource, namespace, object).await {
        Err(error) if !error.is(&Reason::AlreadyExists) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
