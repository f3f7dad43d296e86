//! ServiceAccount: a new pod runs as an account of its namespace, and finds that account's token where clients look.
//!
//! It issues no token; the node agent asks for one when the pod starts. Invariant: a pod that is admitted names an
//! existing account, unless it is a mirror pod.

use corten_api::status::Status;
use rand::Rng;
use serde_json::{Value, json};

use super::Review;
use crate::registry::{Registry, Target};

/// Where clients in pods look for their identity.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Set on pods that a node agent runs from its own files.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Life of a projected token; the seven seconds mark tokens that were asked for by this step, as upstream's do.
const TOKEN_SECONDS: i64 = 3607;

/// Sets account, token volume and pull secrets.
pub(super) async fn admit(
    registry: &Registry,
    review: &Review<'_>,
    pod: &mut Value,
) -> Result<(), Status> {
    if pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return Ok(());
    }
    if !pod["spec"].is_object() {
        // Validation will say what is missing.
        return Ok(());
    }
    let name = pod["spec"]["serviceAccountName"]
        .as_str()
        .filter(|name| !name.is_empty());
    let name = name.unwrap_or("default").to_owned();
    let account = account(registry, review, &name).await?;
    pod["spec"]["serviceAccountName"] = name.clone().into();
    pod["spec"]["serviceAccount"] = name.into();
    let automount = pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or(account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if automount {
        mount_token(pod);
    }
    let secrets = &account["imagePullSecrets"];
    let none = pod["spec"]["imagePullSecrets"]
        .as_array()
        .is_none_or(Vec::is_empty);
    if none
        && secrets
            .as_array()
            .is_some_and(|secrets| !secrets.is_empty())
    {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

async fn account(registry: &Registry, review: &Review<'_>, name: &str) -> Result<Value, Status> {
    let target = Target::of("", "serviceaccounts", &review.target.namespace, name)?;
    let cached = registry.caches().of(target.descriptor);
    let cached = cached.and_then(|cache| cache.snapshot().get(&target.namespace, name).cloned());
    let found = match cached {
        Some(item) => Ok(item),
        None => registry.item(&target, None).await,
    };
    match found {
        Ok(item) => Ok(item.value()),
        Err(status) if status.code() == 404 => Err(review.target.forbidden(&format!(
            "error looking up service account {}/{name}: {}",
            target.namespace, status.message
        ))),
        Err(status) => Err(status),
    }
}

fn mount_token(pod: &mut Value) {
    let volumes = pod["spec"]["volumes"].as_array();
    let present = volumes.into_iter().flatten().find_map(|volume| {
        let name = volume["name"].as_str()?;
        (name.starts_with("kube-api-access-") && volume["projected"].is_object())
            .then(|| name.to_owned())
    });
    let mut needed = false;
    let volume = present
        .clone()
        .unwrap_or_else(|| format!("kube-api-access-{}", suffix()));
    for list in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            if mounts.is_null() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else {
                continue;
            };
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            needed = true;
        }
    }
    if needed && present.is_none() {
        let spec = pod["spec"].as_object_mut().expect("checked by the caller");
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        if volumes.is_null() {
            *volumes = json!([]);
        }
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(token_volume(&volume));
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}

fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    let letter = |_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]);
    (0..5).map(letter).collect()
}
