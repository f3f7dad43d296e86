//! The environment of a container: service variables, envFrom, then env in order. Pure over the objects that the shell
//! fetched; `references` says which ones to fetch.

mod fields;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};

use super::SpecError;
use super::expand::expand;
use services::service_variables;

pub use fields::{field_value, resource_value};

/// Objects that variables come from; a missing entry means the object does not exist.
#[derive(Clone, Debug, Default)]
pub struct EnvSources {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
    /// Services whose variables are wanted: those of the pod's namespace and `default/kubernetes`.
    pub services: Vec<Arc<Service>>,
}

/// Facts of the node and the pod's place on it.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    pub node_name: String,
    pub host_ips: Vec<IpAddr>,
    pub pod_ips: Vec<IpAddr>,
    /// `cpu` in milli, the rest in bytes.
    pub allocatable: BTreeMap<String, i64>,
}

/// The ConfigMaps and Secrets that a container's environment names.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|var| var.value_from.as_ref())
    {
        maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    for list in [&mut maps, &mut secrets] {
        list.sort();
        list.dedup();
    }
    (maps, secrets)
}

/// The container's variables in order (without the image's). Later names replace earlier ones in place.
pub fn resolve(
    pod: &Pod,
    container: &Container,
    sources: &EnvSources,
    facts: &PodFacts,
) -> Result<Vec<(String, String)>, SpecError> {
    let mut env = Environment::default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let links = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let mut services = BTreeMap::new();
    for service in &sources.services {
        let place = service.metadata.namespace.as_deref().unwrap_or("");
        let master = place == "default" && service.metadata.name.as_deref() == Some("kubernetes");
        if master || links && place == namespace {
            service_variables(service, &mut services);
        }
    }
    let mut from_lists = Environment::default();
    add_env_from(container, sources, &mut from_lists)?;
    for (name, value) in from_lists.0 {
        env.set(name, value);
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (_, Some(source)) => match from_source(pod, container, source, sources, facts)? {
                Some(value) => value,
                None => continue,
            },
            (Some(value), None) => expand(value, &|name| {
                env.get(name).or_else(|| services.get(name).cloned())
            }),
            (None, None) => String::new(),
        };
        env.set(var.name.clone(), value);
    }
    // Explicit variables win over service variables of the same name.
    services.retain(|name, _| env.get(name).is_none());
    Ok(services.into_iter().chain(env.0).collect())
}

#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }
    fn get(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }
}

/// Names that an environment can hold: printable ASCII without `=`.
fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

fn add_env_from(
    container: &Container,
    sources: &EnvSources,
    env: &mut Environment,
) -> Result<(), SpecError> {
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        let mut add = |name: &String, value: String| {
            let name = format!("{prefix}{name}");
            if is_env_name(&name) {
                env.set(name, value);
            }
        };
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    map.data
                        .iter()
                        .flatten()
                        .for_each(|(name, value)| add(name, value.clone()));
                }
                None if reference.optional == Some(true) => {}
                None => return Err(not_found("configmap", &reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    secret.data.iter().flatten().for_each(|(name, value)| {
                        add(name, String::from_utf8_lossy(&value.0).into_owned());
                    });
                }
                None if reference.optional == Some(true) => {}
                None => return Err(not_found("secret", &reference.name)),
            }
        }
    }
    Ok(())
}

fn not_found(kind: &str, name: &str) -> SpecError {
    SpecError::Config(format!("{kind} \"{name}\" not found"))
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &EnvSources,
    facts: &PodFacts,
) -> Result<Option<String>, SpecError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    if let Some(reference) = &source.config_map_key_ref {
        let map = sources.config_maps.get(&reference.name);
        let value = map
            .and_then(|m| m.data.as_ref())
            .and_then(|d| d.get(&reference.key))
            .cloned();
        return missing_key(value, map.is_some(), reference.optional, || {
            (
                "configmap",
                "ConfigMap",
                namespace,
                &reference.name,
                &reference.key,
            )
        });
    }
    if let Some(reference) = &source.secret_key_ref {
        let secret = sources.secrets.get(&reference.name);
        let value = secret
            .and_then(|s| s.data.as_ref())
            .and_then(|d| d.get(&reference.key))
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        return missing_key(value, secret.is_some(), reference.optional, || {
            (
                "secret",
                "Secret",
                namespace,
                &reference.name,
                &reference.key,
            )
        });
    }
    if let Some(field) = &source.field_ref {
        return field_value(pod, field, facts).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        return resource_value(pod, container, field, facts).map(Some);
    }
    Err(SpecError::Config(
        "valueFrom names no source that this node agent knows".to_owned(),
    ))
}

fn missing_key<'a>(
    value: Option<String>,
    object_exists: bool,
    optional: Option<bool>,
    names: impl Fn() -> (&'a str, &'a str, &'a str, &'a String, &'a String),
) -> Result<Option<String>, SpecError> {
    let (kind, kind_title, namespace, name, key) = names();
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if !object_exists => Err(not_found(kind, name)),
        None => Err(SpecError::Config(format!(
            "couldn't find key {key} in {kind_title} {namespace}/{name}"
        ))),
    }
}

#[cfg(test)]
mod tests;
