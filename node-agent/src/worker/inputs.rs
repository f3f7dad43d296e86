//! What a container's configuration needs from the host: environment, users, volumes, profiles.
//!
//! The configuration itself is `spec::generate`'s.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Container as ContainerSpec;
use serde_json::Value;

use super::start::{Request, cgroup_path};
use super::{Shared, subpath};
use crate::runtime::Container;
use crate::sandbox::hostname;
use crate::spec::env::{self, EnvSources};
use crate::spec::expand::expand_strictly;
use crate::spec::generate::{self, ContainerInputs, PidNamespace};
use crate::spec::mounts::{BindMount, Propagation};
use crate::spec::{ContainerKind, SpecError, user};
use crate::traits::SourceError;

/// Everything that a container's OCI configuration is made of, and the configuration.
pub(super) async fn configuration(
    shared: &Arc<Shared>,
    request: &Request,
    container: &Container,
) -> Result<Value, SpecError> {
    let context = &shared.context;
    let host_network = request.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
    let pod_ips = if host_network {
        context.host_ips.clone()
    } else {
        request.ips.clone()
    };
    let sources = env_sources(shared, &request.spec).await?;
    let facts = context.pod_facts(pod_ips);
    let env = env::resolve(&request.pod, &request.spec, &sources, &facts)?;
    let passwd = subpath::read_in_layers(&request.image.layers, "etc/passwd");
    let group = subpath::read_in_layers(&request.image.layers, "etc/group");
    let image = &request.image.config;
    let user = user::resolve(&request.pod, &request.spec, &image.user, &passwd, &group)?;
    std::fs::create_dir_all(&container.dir.0)
        .map_err(|error| SpecError::Create(error.to_string()))?;
    let volumes = bind_mounts(shared, request, &env)?;
    make_termination_log(container)?;
    let sandbox = shared.sandbox(&request.pod);
    let privileged = request
        .spec
        .security_context
        .as_ref()
        .and_then(|c| c.privileged)
        == Some(true);
    let devices = if privileged {
        crate::host::devices()
    } else {
        Vec::new()
    };
    generate::oci_config(&ContainerInputs {
        pod: &request.pod,
        container: &request.spec,
        image,
        env: &env,
        user: &user,
        volumes: &volumes,
        files: &sandbox.pod_files(),
        termination_log: container.dir.termination_log(),
        namespaces: &sandbox.namespaces(),
        pid_namespace: pid_namespace(shared, request, &sandbox),
        hostname: &hostname(&request.pod, &context.dns.domain, &context.node_name),
        cgroup_path: &cgroup_path(shared, container),
        host: &context.host,
        devices: &devices,
        localhost_seccomp: localhost_seccomp(shared, request)?,
    })
}

fn pid_namespace(
    shared: &Shared,
    request: &Request,
    sandbox: &crate::sandbox::Sandbox,
) -> PidNamespace {
    let spec = request.pod.spec.as_ref();
    if spec.and_then(|s| s.host_pid) == Some(true) {
        return PidNamespace::Host;
    }
    if spec.and_then(|s| s.share_process_namespace) == Some(true) {
        return PidNamespace::Path(sandbox.pid_pin());
    }
    let target = request
        .target
        .as_ref()
        .filter(|_| request.kind == ContainerKind::Ephemeral);
    let started = target.and_then(|(name, attempt)| shared.container(name, *attempt).dir.started());
    match started {
        Some(started) => PidNamespace::Path(PathBuf::from(format!("/proc/{}/ns/pid", started.pid))),
        None => PidNamespace::Own,
    }
}

fn localhost_seccomp(shared: &Shared, request: &Request) -> Result<Option<Value>, SpecError> {
    let profile = generate::effective_seccomp(&request.pod, &request.spec);
    let Some(name) = profile
        .filter(|p| p.type_ == "Localhost")
        .and_then(|p| p.localhost_profile)
    else {
        return Ok(None);
    };
    let path = shared.context.data_dir.join("seccomp").join(&name);
    let text = std::fs::read(&path).map_err(|error| {
        SpecError::Create(format!(
            "cannot load seccomp profile {}: {error}",
            path.display()
        ))
    })?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| SpecError::Create(format!("seccomp profile {}: {error}", path.display())))
}

/// A file that any user of the container may write.
fn make_termination_log(container: &Container) -> Result<(), SpecError> {
    use std::os::unix::fs::PermissionsExt;
    let path = container.dir.termination_log();
    std::fs::write(&path, b"")
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)))
        .map_err(|error| SpecError::Create(format!("making the termination log: {error}")))
}

async fn env_sources(shared: &Shared, spec: &ContainerSpec) -> Result<EnvSources, SpecError> {
    let (maps, secrets) = env::references(spec);
    let namespace = &shared.pod_ref.namespace;
    let objects = &shared.context.objects;
    let mut sources = EnvSources {
        services: shared.context.api.services(namespace),
        ..EnvSources::default()
    };
    // Absent objects are left out: `env::resolve` knows whether they were optional.
    let tolerate = |error: SourceError| match error {
        SourceError::NotFound { .. } => Ok(()),
        SourceError::Read { .. } => Err(SpecError::Config(error.to_string())),
    };
    for name in maps {
        match objects.config_map(namespace, &name).await {
            Ok(map) => {
                sources.config_maps.insert(name, map);
            }
            Err(error) => tolerate(error)?,
        }
    }
    for name in secrets {
        match objects.secret(namespace, &name).await {
            Ok(secret) => {
                sources.secrets.insert(name, secret);
            }
            Err(error) => tolerate(error)?,
        }
    }
    Ok(sources)
}

fn bind_mounts(
    shared: &Shared,
    request: &Request,
    env: &[(String, String)],
) -> Result<Vec<BindMount>, SpecError> {
    let volumes = shared.volumes.lock().clone();
    let vars: BTreeMap<&str, &str> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut mounts = Vec::new();
    for (index, wanted) in request.spec.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes.get(&wanted.name).ok_or_else(|| {
            SpecError::Config(format!(
                "cannot find volume \"{}\" to mount into container \"{}\"",
                wanted.name, request.spec.name
            ))
        })?;
        let sub = match (&wanted.sub_path_expr, &wanted.sub_path) {
            (Some(text), _) if !text.is_empty() => {
                let lookup = |name: &str| vars.get(name).map(|value| (*value).to_owned());
                expand_strictly(text, &lookup)
                    .map_err(|name| SpecError::Config(format!("missing value for \"{name}\"")))?
            }
            (_, Some(text)) => text.clone(),
            _ => String::new(),
        };
        if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
            return Err(SpecError::Config(format!(
                "subPath \"{sub}\" must be relative and without '..'"
            )));
        }
        let host_path = if sub.is_empty() {
            volume.host_path.clone()
        } else {
            let pin = shared
                .pod_dir()
                .join("subpaths")
                .join(&request.spec.name)
                .join(index.to_string());
            subpath::pin(&volume.host_path, &sub, &pin).map_err(|error| {
                SpecError::Config(format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}",
                    wanted.name, request.spec.name
                ))
            })?;
            pin
        };
        let propagation = Propagation::of(wanted.mount_propagation.as_deref());
        can_travel(&host_path, propagation)?;
        mounts.push(BindMount {
            host_path,
            container_path: absolute(&wanted.mount_path),
            read_only: wanted.read_only == Some(true) || volume.read_only,
            propagation,
        });
    }
    Ok(mounts)
}

/// Mounts travel only where the host lets them; a pod that counts on it must not start without.
fn can_travel(host_path: &std::path::Path, wanted: Propagation) -> Result<(), SpecError> {
    if wanted == Propagation::None {
        return Ok(());
    }
    let refuse = |cause: String| SpecError::Create(format!("mount propagation: {cause}"));
    let found = crate::mounts::travel(host_path).map_err(|error| refuse(error.to_string()))?;
    let (fits, kind) = match wanted {
        Propagation::Bidirectional => (found.shared, "shared"),
        _ => (found.shared || found.slave, "shared or slave"),
    };
    if fits {
        return Ok(());
    }
    Err(refuse(format!(
        "path {host_path:?} is mounted on {:?} but it is not a {kind} mount",
        found.point
    )))
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}
