//! The ServiceCIDR `kubernetes`: the server's own range, as an object that people can read.
//!
//! Invariant: it is made when it is missing and never changed; one that says another range stays, with a warning in the log,
//! since Services may have addresses of it.

use corten_api::kinds::networking::GROUP;
use corten_api::meta;
use corten_api::status::Status;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::create_if_missing;
use crate::chain::objects::{Objects, Resource};

/// The name that upstream gives it.
const NAME: &str = "kubernetes";
const RESOURCE: Resource = Resource {
    group: GROUP,
    name: "servicecidrs",
};

pub(super) async fn ensure(objects: &dyn Objects, range: Ipv4Net) -> Result<(), Status> {
    let Some(present) = objects.get(RESOURCE, "", NAME).await? else {
        let wanted = object(range, Timestamp::now());
        return create_if_missing(objects, RESOURCE, "", NAME, wanted).await;
    };
    let ranges = &present["spec"]["cidrs"];
    if *ranges != json!([range]) {
        tracing::warn!(%ranges, %range, "the ServiceCIDR kubernetes has another range than this server; both are used");
    }
    Ok(())
}

/// It is ready at once: the server itself gives addresses from it.
fn object(range: Ipv4Net, now: Timestamp) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": NAME},
        "spec": {"cidrs": [range]},
        "status": {"conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": meta::format_time(now),
        }]},
    })
}
