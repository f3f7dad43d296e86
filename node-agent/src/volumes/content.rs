//! What the files of a configMap, secret, downwardAPI or projected volume are. Reads through the object source; decides
//! nothing about where they go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, Container, DownwardAPIVolumeFile, KeyToPath, Secret,
    SecretProjection, Volume, VolumeProjection,
};

use super::atomic::File;
use super::tokens::Tokens;
use crate::spec::env::{PodFacts, field_value, resource_value};
use crate::traits::{ObjectSource, SourceError, VolumeRequest};

/// Upstream's default mode of such files.
const MODE_DEFAULT: i32 = 0o644;

/// The files of one volume.
#[derive(Clone, Debug, Default)]
pub(super) struct Payload {
    pub(super) files: BTreeMap<String, File>,
    /// Must never touch a disk.
    pub(super) sensitive: bool,
}

pub(super) struct Reader<'a> {
    pub(super) source: &'a dyn ObjectSource,
    pub(super) tokens: &'a Tokens,
    pub(super) request: &'a VolumeRequest,
}

impl Reader<'_> {
    /// The payload of a volume, or `None` when it is of another kind.
    pub(super) async fn read(&self, volume: &Volume) -> Result<Option<Payload>, String> {
        let mut payload = Payload::default();
        if let Some(map) = &volume.config_map {
            let projection = ConfigMapProjection {
                items: map.items.clone(),
                name: map.name.clone(),
                optional: map.optional,
            };
            self.config_map(&projection, map.default_mode, &mut payload)
                .await?;
        } else if let Some(secret) = &volume.secret {
            let projection = SecretProjection {
                items: secret.items.clone(),
                name: secret.secret_name.clone().unwrap_or_default(),
                optional: secret.optional,
            };
            self.secret(&projection, secret.default_mode, &mut payload)
                .await?;
        } else if let Some(downward) = &volume.downward_api {
            self.downward(
                downward.items.iter().flatten(),
                downward.default_mode,
                &mut payload,
            )?;
        } else if let Some(projected) = &volume.projected {
            for (index, source) in projected.sources.iter().flatten().enumerate() {
                self.projection(
                    (&volume.name, index),
                    source,
                    projected.default_mode,
                    &mut payload,
                )
                .await?;
            }
        } else {
            return Ok(None);
        }
        Ok(Some(payload))
    }

    async fn projection(
        &self,
        place: (&str, usize),
        source: &VolumeProjection,
        mode: Option<i32>,
        payload: &mut Payload,
    ) -> Result<(), String> {
        if let Some(map) = &source.config_map {
            self.config_map(map, mode, payload).await
        } else if let Some(secret) = &source.secret {
            self.secret(secret, mode, payload).await
        } else if let Some(downward) = &source.downward_api {
            self.downward(downward.items.iter().flatten(), mode, payload)
        } else if let Some(token) = &source.service_account_token {
            let content = self
                .tokens
                .get(self.source, self.request, place, token)
                .await?;
            payload.sensitive = true;
            insert(payload, &token.path, content.into_bytes(), mode)
        } else {
            Err("clusterTrustBundle and podCertificate projections are not supported by this version of Corten".to_owned())
        }
    }

    async fn config_map(
        &self,
        map: &ConfigMapProjection,
        mode: Option<i32>,
        payload: &mut Payload,
    ) -> Result<(), String> {
        let found = match self
            .source
            .config_map(&self.request.pod_ref.namespace, &map.name)
            .await
        {
            Err(SourceError::NotFound { .. }) if map.optional == Some(true) => return Ok(()),
            other => other.map_err(|error| error.to_string())?,
        };
        let what = || format!("configmap {:?}", map.name);
        select(
            &data_of_map(&found),
            map.items.as_deref(),
            map.optional,
            mode,
            payload,
            what,
        )
    }

    async fn secret(
        &self,
        secret: &SecretProjection,
        mode: Option<i32>,
        payload: &mut Payload,
    ) -> Result<(), String> {
        payload.sensitive = true;
        let found = match self
            .source
            .secret(&self.request.pod_ref.namespace, &secret.name)
            .await
        {
            Err(SourceError::NotFound { .. }) if secret.optional == Some(true) => return Ok(()),
            other => other.map_err(|error| error.to_string())?,
        };
        let what = || format!("secret {:?}", secret.name);
        select(
            &data_of_secret(&found),
            secret.items.as_deref(),
            secret.optional,
            mode,
            payload,
            what,
        )
    }

    fn downward<'a>(
        &self,
        items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
        mode: Option<i32>,
        payload: &mut Payload,
    ) -> Result<(), String> {
        let facts = PodFacts {
            node_name: self.request.node_name.clone(),
            host_ips: self.request.host_ips.clone(),
            pod_ips: self.request.pod_ips.clone(),
            allocatable: self.request.node_allocatable.clone(),
        };
        let pod = &self.request.pod;
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => match field.field_path.as_str() {
                    "metadata.labels" => lines(pod.metadata.labels.as_ref()),
                    "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
                    _ => field_value(pod, field, &facts).map_err(|error| error.to_string())?,
                },
                // In volumes the container is always named; the one passed is never looked at.
                (None, Some(field)) => resource_value(pod, &Container::default(), field, &facts)
                    .map_err(|e| e.to_string())?,
                (None, None) => continue,
            };
            insert(payload, &item.path, text.into_bytes(), item.mode.or(mode))?;
        }
        Ok(())
    }
}

/// `key="value"` lines with Go's quoting, in order of key.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let quoted = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"));
    quoted.collect::<Vec<_>>().join("\n")
}

fn data_of_map(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}

fn data_of_secret(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

fn select(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: Option<i32>,
    payload: &mut Payload,
    what: impl Fn() -> String,
) -> Result<(), String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return data
            .iter()
            .try_for_each(|(key, content)| insert(payload, key, content.clone(), mode));
    };
    for item in items {
        match data.get(&item.key) {
            Some(content) => insert(payload, &item.path, content.clone(), item.mode.or(mode))?,
            None if optional == Some(true) => {}
            None => {
                return Err(format!(
                    "{} references non-existent key: {}",
                    what(),
                    item.key
                ));
            }
        }
    }
    Ok(())
}

/// Validation keeps such paths out; this is the place where one would do harm.
fn insert(
    payload: &mut Payload,
    path: &str,
    content: Vec<u8>,
    mode: Option<i32>,
) -> Result<(), String> {
    let clean = !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "..");
    if !clean || path.starts_with("..") {
        return Err(format!("path {path:?} is not allowed in a volume"));
    }
    let mode = u32::try_from(mode.unwrap_or(MODE_DEFAULT)).unwrap_or_default() & 0o777;
    payload
        .files
        .insert(path.to_owned(), File { content, mode });
    Ok(())
}
