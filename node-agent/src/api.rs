//! The cluster's API as the node agent uses it: pod statuses, events, ConfigMaps and Secrets, tokens. Reads of objects that
//! pods refer to are cached for a short time, so that a crash loop does not become a load on the API server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use corten_client::cache::Cache;
use corten_client::client::{DeleteOptions, Patch};
use corten_client::events::{EventKind, Recorder};
use corten_client::object::{Object, reference};
use corten_client::{Client, Error};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus, Secret, Service, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::context::{ApiFailure, PodApi};
use crate::pod::resize::{IN_PROGRESS, PENDING};
use crate::pod::types::Severity;
use crate::traits::{ObjectSource, PodRef, SourceError};

/// How old a ConfigMap or Secret may be when a container starts or a volume is refreshed.
const FRESH: Duration = Duration::from_secs(5);
/// Objects held at most.
const HELD: usize = 1024;

/// Objects read lately, by namespace and name.
type Held<K> = Mutex<HashMap<(String, String), (Instant, Arc<K>)>>;

/// The API over the cluster client.
pub struct ClusterApi {
    client: Client,
    recorder: Recorder,
    services: Cache<Service>,
    config_maps: Held<ConfigMap>,
    secrets: Held<Secret>,
    runtime_classes: Held<RuntimeClass>,
}

impl ClusterApi {
    pub fn new(client: Client, recorder: Recorder, services: Cache<Service>) -> Self {
        Self {
            client,
            recorder,
            services,
            config_maps: Mutex::default(),
            secrets: Mutex::default(),
            runtime_classes: Mutex::default(),
        }
    }

    async fn read<K: Object>(
        &self,
        held: &Held<K>,
        kind: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<K>, SourceError> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some((_, object)) = held.lock().get(&key).filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(object.clone());
        }
        let object = self
            .client
            .get::<K>(namespace, name)
            .await
            .map_err(|error| match error {
                Error::NotFound(_) => SourceError::NotFound {
                    kind,
                    name: name.to_owned(),
                },
                other => SourceError::Read {
                    kind,
                    name: name.to_owned(),
                    cause: other.to_string(),
                },
            })?;
        let object = Arc::new(object);
        let mut held = held.lock();
        if held.len() >= HELD {
            held.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        held.insert(key, (Instant::now(), object.clone()));
        Ok(object)
    }
}

/// Conditions that are only there while they hold.
const PASSING: [&str; 2] = [PENDING, IN_PROGRESS];

/// A list patch that replaces instead of merging, where merging would keep entries that are gone.
fn replace_list(status: &mut Value, field: &str) {
    if let Some(list) = status.get_mut(field).and_then(Value::as_array_mut) {
        list.push(json!({"$patch": "replace"}));
    }
}

/// The strategic merge patch that makes a pod's status what it should be; other owners' conditions stay.
fn status_patch(pod: &Pod, status: &PodStatus) -> Result<Value, serde_json::Error> {
    let mut wanted = serde_json::to_value(status)?;
    let old = pod.status.clone().unwrap_or_default();
    if old.pod_ips.is_some() && old.pod_ips != status.pod_ips {
        replace_list(&mut wanted, "podIPs");
    }
    if let Value::Object(fields) = &mut wanted {
        for (name, gone) in [
            ("reason", old.reason.is_some() && status.reason.is_none()),
            ("message", old.message.is_some() && status.message.is_none()),
        ] {
            if gone {
                fields.insert(name.to_owned(), Value::Null);
            }
        }
        clear_condition_texts(fields);
        remove_passing(fields);
    }
    Ok(json!({"metadata": {"uid": pod.metadata.uid}, "status": wanted}))
}

/// A condition that became true must lose its old reason and message.
fn clear_condition_texts(status: &mut serde_json::Map<String, Value>) {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        for field in ["reason", "message"] {
            condition.entry(field).or_insert(Value::Null);
        }
    }
}

/// Takes out the conditions that no longer hold. Always said, since the object at hand may be older than our last write.
fn remove_passing(status: &mut serde_json::Map<String, Value>) {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    let Some(conditions) = conditions else { return };
    for name in PASSING {
        if !conditions.iter().any(|condition| condition["type"] == name) {
            conditions.push(json!({"$patch": "delete", "type": name}));
        }
    }
}

#[async_trait]
impl PodApi for ClusterApi {
    async fn write_status(&self, pod: &Pod, status: &PodStatus) -> Result<(), ApiFailure> {
        let patch =
            status_patch(pod, status).map_err(|error| ApiFailure::Refused(error.to_string()))?;
        let reference = PodRef::of(pod);
        let written = self
            .client
            .patch_status::<Pod>(
                &reference.namespace,
                &reference.name,
                &Patch::Strategic(patch),
            )
            .await;
        match written {
            Ok(now) if now.metadata.uid.as_deref() != Some(reference.uid.as_str()) => {
                Err(ApiFailure::Gone)
            }
            Ok(_) => Ok(()),
            Err(Error::NotFound(_)) => Err(ApiFailure::Gone),
            // The uid in the patch differs: another pod has the name now.
            Err(error) if error.is_conflict() => {
                let current = self
                    .client
                    .get_opt::<Pod>(&reference.namespace, &reference.name)
                    .await;
                match current {
                    Ok(Some(pod))
                        if pod.metadata.uid.as_deref() == Some(reference.uid.as_str()) =>
                    {
                        Err(ApiFailure::Refused(error.to_string()))
                    }
                    Ok(_) => Err(ApiFailure::Gone),
                    Err(other) => Err(ApiFailure::Refused(other.to_string())),
                }
            }
            Err(error) => Err(ApiFailure::Refused(error.to_string())),
        }
    }

    async fn delete(&self, pod: &PodRef) -> Result<(), ApiFailure> {
        let options = DeleteOptions::uid(&pod.uid).grace(0);
        match self
            .client
            .delete::<Pod>(&pod.namespace, &pod.name, &options)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() || error.is_conflict() => Err(ApiFailure::Gone),
            Err(error) => Err(ApiFailure::Refused(error.to_string())),
        }
    }

    fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &str,
        message: &str,
    ) {
        let mut regarding = reference(pod);
        if let Some(name) = container {
            let list = field_of(pod, name);
            regarding.field_path = Some(format!("spec.{list}{{{name}}}"));
        }
        let kind = match severity {
            Severity::Normal => EventKind::Normal,
            Severity::Warning => EventKind::Warning,
        };
        self.recorder.record(regarding, kind, reason, message);
    }

    fn services(&self, namespace: &str) -> Vec<Arc<Service>> {
        let mut found = self.services.list_namespace(namespace);
        if namespace != "default" {
            found.extend(self.services.get("default", "kubernetes"));
        }
        found
    }
}

fn field_of(pod: &Pod, container: &str) -> &'static str {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_ref());
    if init.is_some_and(|list| list.iter().any(|c| c.name == container)) {
        return "initContainers";
    }
    let ephemeral = spec.and_then(|s| s.ephemeral_containers.as_ref());
    if ephemeral.is_some_and(|list| list.iter().any(|c| c.name == container)) {
        return "ephemeralContainers";
    }
    "containers"
}

#[async_trait]
impl ObjectSource for ClusterApi {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, SourceError> {
        self.read(&self.config_maps, "configmap", namespace, name)
            .await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, SourceError> {
        self.read(&self.secrets, "secret", namespace, name).await
    }

    async fn runtime_handler(&self, class: &str) -> Result<String, SourceError> {
        let found = self.read(&self.runtime_classes, "runtimeclass", "", class);
        Ok(found.await?.handler.clone())
    }

    async fn service_account_token(
        &self,
        pod: &PodRef,
        service_account: &str,
        audiences: &[String],
        expiration_seconds: i64,
    ) -> Result<TokenRequest, SourceError> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audiences.to_vec(),
                expiration_seconds: Some(expiration_seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.name.clone()),
                    uid: Some(pod.uid.clone()),
                }),
            },
            ..TokenRequest::default()
        };
        let kind = "serviceaccount";
        self.client
            .create_subresource::<ServiceAccount, _, TokenRequest>(
                &pod.namespace,
                service_account,
                "token",
                &request,
            )
            .await
            .map_err(|error| match error {
                Error::NotFound(_) => SourceError::NotFound {
                    kind,
                    name: service_account.to_owned(),
                },
                other => SourceError::Read {
                    kind,
                    name: service_account.to_owned(),
                    cause: other.to_string(),
                },
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_clear_what_is_over() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u"}, "status": {"reason": "Old", "podIPs": [{"ip": "10.0.0.1"}]},
        }))
        .expect("a pod");
        let status: PodStatus = serde_json::from_value(json!({
            "podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": PENDING, "status": "True", "message": "m"}],
        }))
        .expect("a status");
        let patch = status_patch(&pod, &status).expect("a patch");
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u"}, "status": {
                "reason": null,
                "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "replace"}],
                "conditions": [
                    {"type": "Ready", "status": "True", "reason": null, "message": null},
                    {"type": PENDING, "status": "True", "reason": null, "message": "m"},
                    {"$patch": "delete", "type": IN_PROGRESS},
                ],
            }})
        );
    }
}
