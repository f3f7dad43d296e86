//! The environment of a container: service variables, envFrom, then env in order. Pure over the objects that the shell
//! fetched; `references` says which ones to fetch.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret,
    Service,
};

use super::expand::expand;
use super::{SpecError, quantity};

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

/// The value of a downward API field.
pub fn field_value(
    pod: &Pod,
    field: &ObjectFieldSelector,
    facts: &PodFacts,
) -> Result<String, SpecError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let join = |ips: &[IpAddr]| {
        ips.iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    let text = match field.field_path.as_str() {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => join(&facts.host_ips),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => join(&facts.pod_ips),
        path => {
            let lookup = |prefix: &str, map: &Option<BTreeMap<String, String>>| {
                let key = path
                    .strip_prefix(prefix)?
                    .strip_prefix("['")?
                    .strip_suffix("']")?;
                Some(
                    map.as_ref()
                        .and_then(|m| m.get(key).cloned())
                        .unwrap_or_default(),
                )
            };
            lookup("metadata.labels", &meta.labels)
                .or_else(|| lookup("metadata.annotations", &meta.annotations))
                .ok_or_else(|| SpecError::Config(format!("fieldPath {path:?} is not supported")))?
        }
    };
    Ok(text)
}

/// The value of a resource field: the container's own number, or for limits what the node can give.
pub fn resource_value(
    pod: &Pod,
    container: &Container,
    field: &ResourceFieldSelector,
    facts: &PodFacts,
) -> Result<String, SpecError> {
    let named = match field.container_name.as_deref() {
        Some(name) if name != container.name => super::containers(pod)
            .into_iter()
            .map(|(_, container)| container)
            .find(|other| other.name == name)
            .ok_or_else(|| SpecError::Config(format!("container {name:?} not found")))?,
        _ => container.clone(),
    };
    let resources = named.resources.unwrap_or_default();
    let unknown = || {
        SpecError::Config(format!(
            "unsupported container resource: {}",
            field.resource
        ))
    };
    let (list, name) = field.resource.split_once('.').ok_or_else(unknown)?;
    let limit = || quantity::of(resources.limits.as_ref(), name);
    let base = match list {
        "limits" => limit().unwrap_or_else(|| facts.allocatable.get(name).copied().unwrap_or(0)),
        "requests" => quantity::of(resources.requests.as_ref(), name)
            .or_else(limit)
            .unwrap_or(0),
        _ => return Err(unknown()),
    };
    let divisor = field
        .divisor
        .as_ref()
        .map(|q| q.0.as_str())
        .filter(|text| *text != "0");
    let divisor = match (name, divisor) {
        ("cpu", text) => quantity::milli(text.unwrap_or("1")),
        (_, text) => quantity::whole(text.unwrap_or("1")),
    };
    let divisor = divisor.filter(|d| *d > 0).ok_or_else(unknown)?;
    Ok(base
        .div_euclid(divisor)
        .saturating_add(i64::from(base.rem_euclid(divisor) > 0))
        .to_string())
}

/// `{NAME}_SERVICE_HOST` and its relatives.
fn service_variables(service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec
        .cluster_ip
        .as_deref()
        .filter(|ip| !ip.is_empty() && *ip != "None")
    else {
        return;
    };
    let Some(ports) = spec.ports.as_deref().filter(|ports| !ports.is_empty()) else {
        return;
    };
    let shout = |text: &str| text.to_uppercase().replace('-', "_");
    let prefix = shout(service.metadata.name.as_deref().unwrap_or(""));
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    out.insert(format!("{prefix}_SERVICE_PORT"), ports[0].port.to_string());
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = &port.name {
            out.insert(
                format!("{prefix}_SERVICE_PORT_{}", shout(name)),
                port.port.to_string(),
            );
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        let stem = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(format!("{stem}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{stem}_PORT"), port.port.to_string());
        out.insert(format!("{stem}_ADDR"), ip.to_owned());
        out.insert(stem, url);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app.io/x": "y"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}}]},
        }))
        .expect("a pod")
    }

    fn env_of(
        env: serde_json::Value,
        from: serde_json::Value,
    ) -> Result<Vec<(String, String)>, SpecError> {
        let mut container = pod().spec.expect("a spec").containers.remove(0);
        container.env = serde_json::from_value(env).expect("env");
        container.env_from = serde_json::from_value(from).expect("envFrom");
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"one": "1", "b=d": "x"}})).expect("a map");
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "my-db", "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]},
        }))
        .expect("a service");
        let sources = EnvSources {
            config_maps: [("m".to_owned(), Arc::new(map))].into(),
            secrets: BTreeMap::new(),
            services: vec![Arc::new(service)],
        };
        let facts = PodFacts {
            node_name: "n1".to_owned(),
            host_ips: vec!["192.0.2.1".parse().expect("an address")],
            pod_ips: vec!["10.1.1.1".parse().expect("an address")],
            allocatable: [("cpu".to_owned(), 2000)].into(),
        };
        resolve(&pod(), &container, &sources, &facts)
    }

    #[test]
    fn sources_and_expansion() {
        let env = env_of(
            json!([
                {"name": "A", "value": "a"}, {"name": "B", "value": "$(A)-$(P_one)-$(MY_DB_SERVICE_HOST)-$(C)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.io/x']"}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "C1", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                {"name": "C2", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k", "optional": true}}},
            ]),
            json!([{"prefix": "P_", "configMapRef": {"name": "m"}}]),
        )
        .expect("resolves");
        let explicit: Vec<_> = env
            .iter()
            .filter(|(name, _)| !name.starts_with("MY_DB"))
            .cloned()
            .collect();
        let wanted = [
            ("P_one", "1"),
            ("A", "a"),
            ("B", "a-1-10.0.0.1-$(C)"),
            ("IP", "10.1.1.1"),
            ("L", "y"),
            ("M", "64"),
            ("C1", "1"),
            ("C2", "2000"),
        ];
        assert_eq!(explicit, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let names: Vec<_> = env
            .iter()
            .filter(|(n, _)| n.starts_with("MY_DB"))
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(
            names,
            [
                "MY_DB_PORT=tcp://10.0.0.1:5432",
                "MY_DB_PORT_5432_TCP=tcp://10.0.0.1:5432",
                "MY_DB_PORT_5432_TCP_ADDR=10.0.0.1",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_SERVICE_HOST=10.0.0.1",
                "MY_DB_SERVICE_PORT=5432",
                "MY_DB_SERVICE_PORT_SQL=5432",
            ]
        );
    }

    #[test]
    fn missing_objects_and_keys() {
        let of = |reference| {
            env_of(
                json!([{"name": "X", "valueFrom": {"configMapKeyRef": reference}}]),
                json!([]),
            )
            .expect_err("must fail")
            .to_string()
        };
        assert_eq!(
            of(json!({"name": "no", "key": "k"})),
            "configmap \"no\" not found"
        );
        assert_eq!(
            of(json!({"name": "m", "key": "k"})),
            "couldn't find key k in ConfigMap shop/m"
        );
    }
}
