//! The Service `kubernetes` and the addresses behind it: every living API server, and no dead one.
//!
//! Each server renews a Lease of its own in kube-system and keeps its address in the Endpoints and the EndpointSlice; an address
//! whose lease has run out is removed by whoever sees it. It serves pods; components have their own list of servers.
//! Invariant: a server removes only addresses whose leases have expired, or its own when it stops.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use corten_api::status::{Reason, Status};
use corten_base::clock::Clock;
use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::chain::objects::{Objects, Resource};

const LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    name: "leases",
};
const SLICES: Resource = Resource {
    group: "discovery.k8s.io",
    name: "endpointslices",
};
const ENDPOINTS: Resource = Resource::core("endpoints");
const SERVICES: Resource = Resource::core("services");
const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
const LEASE_NAMESPACE: &str = "kube-system";
/// A dead server gets connections for at most this long.
const LEASE_SECONDS: i64 = 15;
const RENEW: Duration = Duration::from_secs(5);

/// What this server tells about itself.
#[derive(Debug, Clone)]
pub struct Advertised {
    /// Where pods reach this server.
    pub address: SocketAddr,
    /// The Service's address: the first of the service range.
    pub cluster_ip: IpAddr,
}

/// Keeps everything up to date until shutdown, then takes this server's address out.
pub fn start(
    objects: &Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    advertised: Advertised,
    shutdown: &Shutdown,
) {
    let keeper = Keeper {
        objects: Arc::clone(objects),
        clock,
        advertised,
    };
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
        let own = keeper.advertised.address.ip();
        // The server may be cut off already; the lease then runs out by itself.
        let without_own = keeper.write(|present| {
            present.remove(&own);
        });
        drop(tokio::time::timeout(Duration::from_secs(1), without_own).await);
    });
}

struct Keeper {
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    advertised: Advertised,
}

impl Keeper {
    async fn renew(&self) -> Result<(), Status> {
        self.renew_lease().await?;
        self.ensure_service().await?;
        let own = self.advertised.address.ip();
        let mut dead = BTreeSet::new();
        for ip in self.present().await? {
            if ip != own && !self.is_alive(ip).await? {
                dead.insert(ip);
            }
        }
        self.write(|present| {
            present.retain(|ip| !dead.contains(ip));
            present.insert(own);
        })
        .await
    }

    async fn renew_lease(&self) -> Result<(), Status> {
        let name = lease_name(self.advertised.address.ip());
        let now = self
            .clock
            .wall()
            .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
            .to_string();
        if let Some(mut lease) = self.objects.get(LEASES, LEASE_NAMESPACE, &name).await? {
            lease["spec"]["renewTime"] = now.into();
            lease["spec"]["leaseDurationSeconds"] = LEASE_SECONDS.into();
            return self
                .objects
                .update(LEASES, LEASE_NAMESPACE, lease)
                .await
                .map(drop);
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": name, "namespace": LEASE_NAMESPACE,
                "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver"},
            },
            "spec": {
                "holderIdentity": self.advertised.address.to_string(),
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": now,
            },
        });
        create(&*self.objects, LEASES, LEASE_NAMESPACE, lease).await
    }

    async fn is_alive(&self, ip: IpAddr) -> Result<bool, Status> {
        let lease = self
            .objects
            .get(LEASES, LEASE_NAMESPACE, &lease_name(ip))
            .await?;
        let renewed = lease
            .as_ref()
            .and_then(|lease| lease["spec"]["renewTime"].as_str());
        let renewed = renewed.and_then(|text| text.parse::<Timestamp>().ok());
        Ok(renewed
            .is_some_and(|at| at.as_second() + LEASE_SECONDS >= self.clock.wall().as_second()))
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

    /// The addresses that stand in the Endpoints.
    async fn present(&self) -> Result<BTreeSet<IpAddr>, Status> {
        let endpoints = self.objects.get(ENDPOINTS, NAMESPACE, NAME).await?;
        Ok(endpoints.as_ref().map(addresses_of).unwrap_or_default())
    }

    async fn write(&self, change: impl FnOnce(&mut BTreeSet<IpAddr>)) -> Result<(), Status> {
        let mut addresses = self.present().await?;
        change(&mut addresses);
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

fn addresses_of(endpoints: &Value) -> BTreeSet<IpAddr> {
    let subsets = endpoints["subsets"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let addresses = subsets
        .iter()
        .filter_map(|subset| subset["addresses"].as_array())
        .flatten();
    addresses
        .filter_map(|address| address["ip"].as_str()?.parse().ok())
        .collect()
}

/// Leases are named by address, so that a restarted server takes its own again.
fn lease_name(ip: IpAddr) -> String {
    format!("apiserver-{}", ip.to_string().replace([':', '.'], "-"))
}
