//! What a pod gets that its author left out.

use serde_json::{Value, json};

use super::set_service_account;
use crate::kinds::core::persistent_volume::default_source;
use crate::kinds::core::persistent_volume_claim;
use crate::kinds::value::{Get, default_to, items_at, object_at, set};
use crate::quantity::Quantity;

/// Mode of files in volumes: 0644.
const FILE_MODE: i64 = 0o644;
/// Life of a projected token: one hour.
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of a pod template, as in workloads.
pub fn default_template(template: &mut Value) {
    object_at(template, "metadata");
    if let Some(spec) = object_at(template, "spec") {
        default_spec(spec);
    }
}

/// Defaults of a pod's spec, the same in a pod and in a template.
pub fn default_spec(spec: &mut Value) {
    for volume in items_at(spec, "volumes") {
        default_volume(volume);
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        containers(spec, key);
    }
    default_to(spec, "restartPolicy", "Always");
    default_to(spec, "terminationGracePeriodSeconds", 30);
    default_to(spec, "dnsPolicy", "ClusterFirst");
    let account = match spec.text("serviceAccountName") {
        "" => spec.text("serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !account.is_empty() {
        set_service_account(spec, &account);
    }
    object_at(spec, "securityContext");
    default_to(spec, "schedulerName", "default-scheduler");
    canonical_amounts(spec, "overhead");
}

/// Defaults that only pods get, not templates: requests from limits, host ports, and service links.
pub(super) fn pod_only(spec: &mut Value) {
    for key in ["initContainers", "containers"] {
        for container in items_at(spec, key) {
            if let Some(resources) = container.get_mut("resources") {
                requests_from_limits(resources);
            }
        }
    }
    default_to(spec, "enableServiceLinks", true);
    if spec.flag("hostNetwork") {
        host_ports(spec);
    }
    if let Some(resources) = spec.get_mut("resources") {
        requests_from_limits(resources);
    }
}

/// Defaults of one list of containers.
pub(super) fn containers(spec: &mut Value, key: &str) {
    for container in items_at(spec, key) {
        default_container(container);
    }
}

fn default_container(container: &mut Value) {
    for port in items_at(container, "ports") {
        default_to(port, "protocol", "TCP");
    }
    for variable in items_at(container, "env") {
        if let Some(field) = variable
            .get_mut("valueFrom")
            .and_then(|from| from.get_mut("fieldRef"))
        {
            default_to(field, "apiVersion", "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        let handler = container
            .get_mut("lifecycle")
            .and_then(|lifecycle| lifecycle.get_mut(hook));
        if let Some(http) = handler.and_then(|handler| handler.get_mut("httpGet")) {
            default_http(http);
        }
    }
    if let Some(resources) = object_at(container, "resources") {
        canonical_amounts(resources, "limits");
        canonical_amounts(resources, "requests");
    }
    default_to(container, "terminationMessagePath", "/dev/termination-log");
    default_to(container, "terminationMessagePolicy", "File");
    if container.is_empty_at("imagePullPolicy") {
        let policy = pull_policy(container.text("image"));
        set(container, "imagePullPolicy", policy);
    }
}

/// Images that may change under their name are always pulled.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains('@') {
        return "IfNotPresent";
    }
    match name.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn default_probe(probe: &mut Value) {
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.int(key).unwrap_or(0) == 0 {
            set(probe, key, value);
        }
    }
    if let Some(http) = probe.get_mut("httpGet").filter(|http| http.is_object()) {
        default_http(http);
    }
    if let Some(grpc) = probe.get_mut("grpc").filter(|grpc| grpc.is_object())
        && !grpc.has("service")
    {
        set(grpc, "service", "");
    }
}

fn default_http(http: &mut Value) {
    default_to(http, "path", "/");
    default_to(http, "scheme", "HTTP");
}

fn host_ports(spec: &mut Value) {
    for key in ["containers", "initContainers"] {
        for container in items_at(spec, key) {
            for port in items_at(container, "ports") {
                if port.int("hostPort").unwrap_or(0) == 0 {
                    let number = port.at("containerPort").clone();
                    set(port, "hostPort", number);
                }
            }
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    if resources.is_empty_at("limits") {
        return;
    }
    let limits = resources.at("limits").clone();
    if let Some(requests) = object_at(resources, "requests") {
        for (name, amount) in limits.as_object().into_iter().flatten() {
            if !requests.has(name) {
                set(requests, name, amount.clone());
            }
        }
    }
}

/// Writes amounts in their canonical form, as every read shows them; malformed ones are left for validation.
pub(crate) fn canonical_amounts(object: &mut Value, key: &str) {
    let Some(map) = object.get_mut(key).and_then(Value::as_object_mut) else {
        return;
    };
    for amount in map.values_mut() {
        if let Ok(quantity) = Quantity::from_json(amount) {
            *amount = Value::from(quantity.to_string());
        }
    }
}

fn default_volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|map| map.iter().any(|(k, v)| k != "name" && !v.is_null()));
    if !has_source {
        set(volume, "emptyDir", json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(key).filter(|source| source.is_object()) {
            default_to(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = volume.get_mut("downwardAPI") {
        default_downward(source);
    }
    if let Some(projected) = volume.get_mut("projected") {
        for source in items_at(projected, "sources") {
            if let Some(downward) = source.get_mut("downwardAPI") {
                default_downward(downward);
            }
            if let Some(token) = source
                .get_mut("serviceAccountToken")
                .filter(|token| token.is_object())
            {
                default_to(token, "expirationSeconds", TOKEN_SECONDS);
            }
        }
    }
    default_source(volume);
    let claim = volume
        .get_mut("ephemeral")
        .and_then(|e| e.get_mut("volumeClaimTemplate"));
    if let Some(spec) = claim.and_then(|claim| object_at(claim, "spec")) {
        persistent_volume_claim::default_spec(spec);
    }
    if let Some(image) = volume.get_mut("image").filter(|source| source.is_object())
        && image.is_empty_at("pullPolicy")
    {
        let policy = pull_policy(image.text("reference"));
        set(image, "pullPolicy", policy);
    }
}

fn default_downward(source: &mut Value) {
    for item in items_at(source, "items") {
        if let Some(field) = item.get_mut("fieldRef").filter(|field| field.is_object()) {
            default_to(field, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies_follow_the_tag() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.25", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/a/nginx:v1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
        ];
        for (image, expected) in cases {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }

    #[test]
    fn volumes() {
        let cases = [
            (json!({"name": "a"}), json!({"name": "a", "emptyDir": {}})),
            (
                json!({"name": "a", "secret": {"secretName": "s"}}),
                json!({"name": "a", "secret": {"secretName": "s", "defaultMode": 420}}),
            ),
            (
                json!({"name": "a", "hostPath": {"path": "/x"}}),
                json!({"name": "a", "hostPath": {"path": "/x", "type": ""}}),
            ),
            (
                json!({"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
                json!({"name": "a", "projected": {"defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}),
            ),
        ];
        for (mut volume, expected) in cases {
            default_volume(&mut volume);
            assert_eq!(volume, expected);
        }
    }

    #[test]
    fn containers_and_probes() {
        let mut spec = json!({
            "hostNetwork": true,
            "serviceAccount": "robot",
            "containers": [{
                "name": "c", "image": "x:1", "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": "0.1"}},
            }],
        });
        default_spec(&mut spec);
        pod_only(&mut spec);
        let container = &spec["containers"][0];
        assert_eq!(
            container["ports"],
            json!([{"containerPort": 80, "protocol": "TCP", "hostPort": 80}])
        );
        assert_eq!(
            container["livenessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                   "successThreshold": 1, "failureThreshold": 3})
        );
        assert_eq!(
            container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"],
            "v1"
        );
        assert_eq!(
            container["resources"],
            json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}})
        );
        assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
        for (key, value) in [
            ("restartPolicy", json!("Always")),
            ("dnsPolicy", json!("ClusterFirst")),
            ("terminationGracePeriodSeconds", json!(30)),
            ("schedulerName", json!("default-scheduler")),
            ("securityContext", json!({})),
            ("enableServiceLinks", json!(true)),
            ("serviceAccountName", json!("robot")),
        ] {
            assert_eq!(spec[key], value, "{key}");
        }
    }
}
