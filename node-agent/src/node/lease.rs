//! The node's lease in kube-node-lease: proof of life every ten seconds.

use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_client::{Client, Error};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};

const NAMESPACE: &str = "kube-node-lease";
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(500);
/// How long the node counts as alive after its last sign, in seconds.
const DURATION_SECONDS: i32 = 40;

/// Renews until `shutdown`.
pub(super) async fn keep(client: &Client, node: &str, uid: &str, shutdown: Shutdown) {
    let mut held: Option<Lease> = None;
    loop {
        let pause = match renew(client, node, uid, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                RENEW
            }
            Err(error) => {
                tracing::warn!(%error, "the node's lease was not renewed");
                RETRY
            }
        };
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(
    client: &Client,
    node: &str,
    uid: &str,
    held: Option<Lease>,
) -> Result<Lease, Error> {
    let known = match held {
        Some(lease) => Some(lease),
        None => client.get_opt::<Lease>(NAMESPACE, node).await?,
    };
    match known {
        Some(mut lease) => {
            lease.spec = Some(spec(node));
            client.update(&lease).await
        }
        None => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(node.to_owned()),
                    namespace: Some(NAMESPACE.to_owned()),
                    owner_references: Some(vec![OwnerReference {
                        api_version: "v1".to_owned(),
                        kind: "Node".to_owned(),
                        name: node.to_owned(),
                        uid: uid.to_owned(),
                        ..OwnerReference::default()
                    }]),
                    ..ObjectMeta::default()
                },
                spec: Some(spec(node)),
            };
            client.create(&lease).await
        }
    }
}

fn spec(node: &str) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(jiff::Timestamp::now())),
        ..LeaseSpec::default()
    }
}
