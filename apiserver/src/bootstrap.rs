//! What the API needs to be usable by anybody but its administrators: default roles and bindings, default priority levels, and
//! the `kubernetes` Service with the addresses of the API servers, and the range of Services.
//!
//! System namespaces and priority classes are the registry's own affair. Everything is created through the registry, like any other write, and reconciled at each start: what an operator added stays,
//! what is missing comes back, unless its autoupdate annotation says `false`. Invariant: running it twice, or on two servers at
//! once, changes nothing the second time.

pub mod aggregate;
pub mod client_ca;
pub mod endpoints;
mod flow_control;
mod roles;
mod service_range;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use corten_api::kinds::flowcontrol::{self, mandatory};
use corten_api::status::{Reason, Status};
use corten_base::shutdown::Shutdown;
use futures::TryStreamExt as _;
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::authz::live::Live;
use crate::authz::policy::{Rule, rules_of};
use crate::chain::objects::{Objects, Resource};

/// Annotation by which an operator keeps a default object as he changed it.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// The store may still be electing a leader when the server starts.
const RETRY: Duration = Duration::from_millis(500);

/// Runs until everything is in place or the server stops. The server is ready only after it.
pub async fn run(objects: &Arc<dyn Objects>, services: Ipv4Net, shutdown: &Shutdown) {
    loop {
        let outcome = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            outcome = reconcile(&**objects, services) => outcome,
        };
        match outcome {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "default objects are not in place yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One pass over everything. `services` is the range that Services get their addresses from.
pub async fn reconcile(objects: &dyn Objects, services: Ipv4Net) -> Result<(), Status> {
    // Roles first: a binding without its role grants nothing and looks like a mistake.
    ensure_all(objects, roles::roles(), merge_role).await?;
    ensure_all(objects, roles::bindings(), merge_binding).await?;
    // Levels first: a schema without its level would be taken for a mistake.
    for wanted in flow_control::levels() {
        ensure_flow_control(objects, "prioritylevelconfigurations", wanted).await?;
    }
    for wanted in flow_control::schemas() {
        ensure_flow_control(objects, "flowschemas", wanted).await?;
    }
    service_range::ensure(objects, services).await
}

/// Whether an authorizer has seen all default roles and bindings: what follows the registry comes a moment later.
pub fn has_arrived(authorizer: &Live) -> bool {
    let mut wanted = roles::roles().into_iter().chain(roles::bindings());
    wanted.all(|it| authorizer.has(it.resource, it.namespace, &it.name))
}

/// There are more than a hundred, and each may wait for the store: one after another, a start would take noticeably longer.
const AT_ONCE: usize = 16;

async fn ensure_all(
    objects: &dyn Objects,
    wanted: Vec<roles::Wanted>,
    merge: fn(&mut Value, &Value) -> bool,
) -> Result<(), Status> {
    futures::stream::iter(wanted.into_iter().map(Ok))
        .try_for_each_concurrent(AT_ONCE, |it| ensure(objects, it, merge))
        .await
}

async fn create_if_missing(
    objects: &dyn Objects,
    resource: Resource,
    namespace: &str,
    name: &str,
    object: Value,
) -> Result<(), Status> {
    if objects.get(resource, namespace, name).await?.is_some() {
        return Ok(());
    }
    match objects.create(resource, namespace, object).await {
        Err(error) if !error.is(&Reason::AlreadyExists) => Err(error),
        _ => Ok(()),
    }
}

async fn ensure(
    objects: &dyn Objects,
    wanted: roles::Wanted,
    merge: fn(&mut Value, &Value) -> bool,
) -> Result<(), Status> {
    let resource = Resource::rbac(wanted.resource);
    let (namespace, name, wanted) = (wanted.namespace, wanted.name, wanted.object);
    let Some(mut present) = objects.get(resource, namespace, &name).await? else {
        return create_if_missing(objects, resource, namespace, &name, wanted).await;
    };
    if present["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return Ok(());
    }
    let labels_changed = merge_labels(&mut present, &wanted);
    if !merge(&mut present, &wanted) && !labels_changed {
        return Ok(());
    }
    // Another server may be doing the same; the next pass sees its result.
    objects.update(resource, namespace, present).await.map(drop)
}

/// Brings back the spec of a default object of flow control, unless an operator has said that it is his or, without a word,
/// has changed it. The mandatory ones are nobody's.
async fn ensure_flow_control(
    objects: &dyn Objects,
    name: &'static str,
    wanted: Value,
) -> Result<(), Status> {
    let resource = Resource {
        group: flowcontrol::GROUP,
        name,
    };
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let Some(mut present) = objects.get(resource, "", name).await? else {
        let name = name.to_owned();
        return create_if_missing(objects, resource, "", &name, wanted).await;
    };
    let fixed = [mandatory::EXEMPT, mandatory::CATCH_ALL].contains(&name);
    let annotation = &present["metadata"]["annotations"][mandatory::AUTOUPDATE];
    let ours = match annotation.as_str() {
        Some("true") => true,
        Some("false") => fixed,
        _ => fixed || present["metadata"]["generation"] == 1,
    };
    let told = if ours { "true" } else { "false" };
    let stale = ours && !same_spec(&present["spec"], &wanted["spec"]);
    if *annotation == *told && !stale {
        return Ok(());
    }
    present["metadata"]["annotations"][mandatory::AUTOUPDATE] = told.into();
    if stale {
        present["spec"] = wanted["spec"].clone();
    }
    objects.update(resource, "", present).await.map(drop)
}

/// Whether two specs say the same; how much the exempt level lends is the operator's.
fn same_spec(present: &Value, wanted: &Value) -> bool {
    let fields = |spec: &Value| {
        let mut fields = spec.as_object().cloned().unwrap_or_default();
        fields.retain(|key, value| key != "exempt" && !value.is_null());
        fields
    };
    fields(present) == fields(wanted)
}

fn merge_labels(present: &mut Value, wanted: &Value) -> bool {
    let mut changed = false;
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if present["metadata"][field][key] != *value {
                present["metadata"][field][key] = value.clone();
                changed = true;
            }
        }
    }
    changed
}

/// Adds the rules that are missing; an aggregated role gets its rules elsewhere.
fn merge_role(present: &mut Value, wanted: &Value) -> bool {
    if !wanted["aggregationRule"].is_null() {
        let changed = present["aggregationRule"] != wanted["aggregationRule"];
        present["aggregationRule"] = wanted["aggregationRule"].clone();
        return changed;
    }
    let mut rules = rules_of(present);
    let missing: Vec<Rule> = rules_of(wanted)
        .into_iter()
        .filter(|rule| !rules.contains(rule))
        .collect();
    if missing.is_empty() {
        return false;
    }
    rules.extend(missing);
    present["rules"] = rules.iter().map(Rule::to_value).collect();
    true
}

/// Adds the subjects that are missing.
fn merge_binding(present: &mut Value, wanted: &Value) -> bool {
    let mut subjects = present["subjects"].as_array().cloned().unwrap_or_default();
    let before = subjects.len();
    for subject in wanted["subjects"].as_array().into_iter().flatten() {
        if !subjects.contains(subject) {
            subjects.push(subject.clone());
        }
    }
    let changed = subjects.len() != before;
    present["subjects"] = Value::Array(subjects);
    changed
}
