//! From configuration to a built agent: checks, directories, sockets; no work yet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::admin::AdminServer;
use corten_base::pki::{Authority, CertRequest, Usage};
use corten_base::shutdown::Shutdown;
use corten_base::tls::{ClientAuth, TlsFiles, server_config};
use corten_client::Client;
use corten_client::cache::{Cache, CacheOptions};
use corten_client::client::ListOptions;
use corten_client::events::Recorder;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use tokio::sync::watch;

use super::Agent;
use super::access::Access;
use crate::api::ClusterApi;
use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::context::NodeContext;
use crate::eviction::Evictor;
use crate::host;
use crate::images::{Collector, Images, ImagesConfig, Thresholds};
use crate::network::{BridgeNetwork, NetworkConfig, Overlay, RouteKeeper};
use crate::node::{NodeKeeper, taints};
use crate::pressure::{Limits, Pressures};
use crate::runtime::{OciRuntime, OciSettings};
use crate::sandbox::{DnsSettings, share_mounts_of};
use crate::server::AgentServer;
use crate::spec::sysctls::Allowed;
use crate::traits::{ImageService, ObjectSource, PodNetwork, VolumeService};
use crate::volumes::Volumes;

/// Pulls at one time.
const PULLS: usize = 5;
/// Linux interface names hold 15 bytes.
const INTERFACE_MAX: usize = 15;

/// Why an agent cannot be built. All of it is for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("{what}: {cause}")]
    Setting { what: &'static str, cause: String },
    #[error("{what} {path:?}: {source}")]
    Path {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("listening on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
}

/// The services that pods run on; tests bring their own.
pub struct Services {
    pub images: Arc<dyn ImageService>,
    pub volumes: Arc<dyn VolumeService>,
    pub network: Arc<dyn PodNetwork>,
}

fn setting(what: &'static str) -> impl FnOnce(&dyn std::fmt::Display) -> BuildError {
    move |cause| BuildError::Setting {
        what,
        cause: cause.to_string(),
    }
}

impl Agent {
    /// Builds an agent with the real services.
    pub async fn build(config: Config, client: Client) -> Result<Self, BuildError> {
        Self::build_with(config, client, None).await
    }

    /// Builds an agent; `services` replaces the real ones.
    pub async fn build_with(
        config: Config,
        client: Client,
        services: Option<Services>,
    ) -> Result<Self, BuildError> {
        let name = config.resolved_node_name();
        let addresses = addresses(&config);
        prepare_directories(&config)?;
        let caches = Shutdown::new();
        let here = ListOptions::default().fields(&format!("spec.nodeName={name}"));
        let pods = Cache::<Pod>::start(&client, CacheOptions::all().select(here), &caches);
        let services_cache = Cache::<Service>::start(&client, CacheOptions::all(), &caches);
        let recorder = Recorder::start(&client, "kubelet", &name, &caches);
        let api = Arc::new(ClusterApi::new(client.clone(), recorder, services_cache));
        let real_network = services.is_none();
        let (services, collector) = match services {
            Some(services) => (services, None),
            None => real_services(&config, &name, api.clone())?,
        };
        let (context, capacity) = context(&config, &name, &addresses, &services, api)?;
        let (seen, node) = watch::channel(None);
        let taints = taints(&config.register_taints).map_err(|e| setting("register_taints")(&e))?;
        let runtimes = config.resolved_runtimes();
        let workers = super::Workers::default();
        let admin = AdminServer::new("corten-node-agent");
        let access = Arc::new(Access {
            context: context.clone(),
            workers: workers.clone(),
        });
        let tls = tls(&config, &name, &addresses)?;
        let server = AgentServer::bind(config.listen, tls, access, admin.clone())
            .await
            .map_err(|error| BuildError::Listen(config.listen, error))?;
        let port = server
            .local_addr()
            .map_or(config.listen.port(), |address| address.port());
        let routes = real_network
            .then(|| routes(&config, &client, &name, &addresses, &caches))
            .flatten();
        let (evictor, pressures) = evictor(&config, &context, &workers);
        let keeper = NodeKeeper {
            client,
            name,
            labels: config.node_labels.clone(),
            taints,
            addresses,
            port,
            capacity,
            allocatable: context.allocatable.clone(),
            pressures,
            runtime: runtime_name(&runtimes),
            handlers: runtimes.into_keys().collect(),
            images: services.images,
            network: services.network,
            seen,
        };
        Ok(Self {
            config,
            context,
            workers,
            pods,
            keeper,
            evictor,
            node,
            routes,
            collector,
            server,
            admin,
            caches,
        })
    }
}

/// As configured, else the one of the way out.
fn addresses(config: &Config) -> Vec<IpAddr> {
    if config.node_ips.is_empty() {
        vec![host::primary_address()]
    } else {
        config.node_ips.clone()
    }
}

fn evictor(
    config: &Config,
    context: &Arc<NodeContext>,
    workers: &super::Workers,
) -> (Evictor, watch::Receiver<Pressures>) {
    let (pressures, shown) = watch::channel(Pressures::default());
    let limits = Limits {
        memory_bytes: config.eviction_memory_bytes,
        disk_percent: config.pressure_disk_percent,
        inodes_percent: config.pressure_inodes_percent,
        pids_percent: config.pressure_pids_percent,
        hold: Duration::from_secs(config.pressure_hold_seconds),
    };
    let evictor = Evictor {
        context: context.clone(),
        workers: workers.clone(),
        limits,
        pressures,
    };
    (evictor, shown)
}

fn runtime_name(runtimes: &BTreeMap<String, PathBuf>) -> String {
    let file = runtimes.get("").and_then(|path| path.file_name());
    let name = file
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    format!("{}-{name}", corten_base::version::VERSION)
}

fn prepare_directories(config: &Config) -> Result<(), BuildError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Path {
            what: "creating",
            path,
            source,
        }
    };
    for path in [&config.data_dir, &config.run_dir] {
        make_private(path).map_err(fail(path))?;
    }
    // Log collectors read here as whoever they are.
    std::fs::create_dir_all(&config.pod_log_dir).map_err(fail(&config.pod_log_dir))?;
    for path in [config.data_dir.join("pods"), config.run_dir.join("pods")] {
        share_mounts_of(&path).map_err(|source| BuildError::Path {
            what: "making a shared mount (the node agent must run as root) of",
            path,
            source,
        })?;
    }
    Ok(())
}

/// Makes a directory that only its owner can enter, or takes the others' rights from one that is there: Secrets and tokens
/// lie below, in files that users of pods must be able to read. Pods reach those through mounts, which no path leads to.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

/// Name of a link of the agent: those of the default cgroup prefix are plain, hosts that share one kernel get their own.
pub fn link_name(kind: &str, node: &str, cgroup_prefix: &str) -> String {
    let plain = cgroup_prefix == Config::default().cgroup_prefix;
    let name = if plain {
        format!("corten-{kind}")
    } else {
        format!("{kind}-{node}")
    };
    name.chars().take(INTERFACE_MAX).collect()
}

fn real_services(
    config: &Config,
    node: &str,
    objects: Arc<ClusterApi>,
) -> Result<(Services, Option<Collector>), BuildError> {
    let root = config.data_dir.join("images");
    let images = Images::open(ImagesConfig {
        root: root.clone(),
        registries: config.registries.clone(),
        pulls_max: PULLS,
    })
    .map_err(|error| setting("opening the image store")(&error))?;
    let images = Arc::new(images);
    let thresholds = Thresholds {
        high: config.image_gc_high_threshold,
        low: config.image_gc_low_threshold,
        age_min: Duration::from_secs(config.image_age_min_seconds),
    };
    let data_dir = config.data_dir.clone();
    let collector = Collector {
        images: images.clone(),
        root,
        in_use: Box::new(move || crate::worker::images_in_use(&data_dir)),
        thresholds: thresholds
            .check()
            .map_err(|error| setting("image_gc_high_threshold")(&error))?,
    };
    let network = BridgeNetwork::new(NetworkConfig {
        state_dir: config.data_dir.join("network"),
        bridge: link_name("br", node, &config.cgroup_prefix),
        table: "corten-hostports".to_owned(),
        mtu: config.pod_mtu,
    });
    let objects: Arc<dyn ObjectSource> = objects;
    let services = Services {
        images,
        volumes: Arc::new(Volumes::new(objects)),
        network: Arc::new(network),
    };
    Ok((services, Some(collector)))
}

fn routes(
    config: &Config,
    client: &Client,
    node: &str,
    addresses: &[IpAddr],
    caches: &Shutdown,
) -> Option<RouteKeeper> {
    let host: Ipv4Addr = addresses.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    })?;
    Some(RouteKeeper {
        node: node.to_owned(),
        host,
        vxlan: "corten-vxlan".to_owned(),
        mtu: config.pod_mtu,
        overlay: Overlay::default(),
        nodes: Cache::<Node>::start(client, CacheOptions::all(), caches),
    })
}

type Built = (Arc<NodeContext>, host::Capacity);

fn context(
    config: &Config,
    name: &str,
    addresses: &[IpAddr],
    services: &Services,
    api: Arc<ClusterApi>,
) -> Result<Built, BuildError> {
    let cgroups = Cgroups::detect().map_err(|error| setting("cgroups")(&error))?;
    let runtimes = config.resolved_runtimes();
    if !runtimes.contains_key("") {
        let cause = "neither crun nor runc is installed, and `runtime` is not set";
        return Err(setting("runtime")(&cause));
    }
    let binary = if config.supervisor.as_os_str().is_empty() {
        // Stays valid when the file is replaced by an upgrade.
        PathBuf::from("/proc/self/exe")
    } else {
        config.supervisor.clone()
    };
    let settings = OciSettings {
        runtimes,
        root: config.run_dir.join("oci"),
        supervisor: binary.clone(),
        supervisor_cgroup: format!("{}/supervisors", config.cgroup_prefix.trim_end_matches('/')),
        log_max_bytes: config.log_max_bytes,
        log_max_files: config.log_max_files,
    };
    let capacity = host::capacity(&config.data_dir, i64::from(config.max_pods));
    let mut allocatable = capacity.clone();
    for (resource, reserved) in [
        ("cpu", config.reserved_cpu_milli),
        ("memory", config.reserved_memory_bytes),
    ] {
        if let Some(value) = allocatable.get_mut(resource) {
            *value = value.saturating_sub(reserved).max(0);
        }
    }
    let context = NodeContext {
        node_name: name.to_owned(),
        host_ips: addresses.to_vec(),
        data_dir: config.data_dir.clone(),
        run_dir: config.run_dir.clone(),
        pod_log_dir: config.pod_log_dir.clone(),
        cgroup_prefix: config.cgroup_prefix.clone(),
        pod_pids_limit: (config.pod_pids_limit > 0).then(|| i64::from(config.pod_pids_limit)),
        binary,
        dns: DnsSettings {
            servers: config.cluster_dns.clone(),
            domain: config.cluster_domain.clone(),
        },
        allocatable,
        host: host::facts(&cgroups, config.seccomp_default),
        sysctls: Allowed::new(&config.allowed_unsafe_sysctls)
            .map_err(|error| setting("allowed_unsafe_sysctls")(&error))?,
        cgroups: cgroups.clone(),
        origin: Instant::now(),
        runtime: Arc::new(OciRuntime::new(settings, cgroups)),
        images: services.images.clone(),
        volumes: services.volumes.clone(),
        network: services.network.clone(),
        objects: api.clone(),
        api,
    };
    Ok((Arc::new(context), capacity))
}

/// The serving side of port 10250: the given files, or a certificate made now. Without an authority no client is let in.
fn tls(
    config: &Config,
    name: &str,
    addresses: &[IpAddr],
) -> Result<Arc<rustls::ServerConfig>, BuildError> {
    let fail = |error: &dyn std::fmt::Display| setting("TLS of the node agent's server")(error);
    if let (Some(ca), Some(cert), Some(key)) = (&config.tls_ca, &config.tls_cert, &config.tls_key) {
        let files = TlsFiles {
            ca: ca.clone(),
            cert: cert.clone(),
            key: key.clone(),
        };
        return server_config(&files, ClientAuth::Optional).map_err(|error| fail(&error));
    }
    let dir = config.data_dir.join("pki");
    std::fs::create_dir_all(&dir).map_err(|error| fail(&error))?;
    let authority =
        Authority::create(&format!("{name}-node-agent")).map_err(|error| fail(&error))?;
    let request = CertRequest {
        common_name: format!("system:node:{name}"),
        organizations: vec!["system:nodes".to_owned()],
        dns_names: vec![name.to_owned(), "localhost".to_owned()],
        ips: addresses.to_vec(),
        usage: Usage::Server,
        ..CertRequest::default()
    };
    let (cert, key) = (dir.join("serving.crt"), dir.join("serving.key"));
    authority
        .write(&dir, "self")
        .map_err(|error| fail(&error))?;
    authority
        .issue_to_files(&request, &cert, &key)
        .map_err(|error| fail(&error))?;
    let files = TlsFiles {
        ca: config
            .tls_ca
            .clone()
            .unwrap_or_else(|| dir.join("self.crt")),
        cert,
        key,
    };
    server_config(&files, ClientAuth::Optional).map_err(|error| fail(&error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn other_users_cannot_enter_the_folders_of_the_agent() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mode = |path: &Path| {
            let meta = std::fs::metadata(path).expect("stat");
            meta.permissions().mode() & 0o777
        };
        let old = dir.path().join("old");
        std::fs::create_dir(&old).expect("a folder of an earlier version");
        for path in [old, dir.path().join("new/node")] {
            make_private(&path).expect("made");
            assert_eq!(mode(&path), 0o700, "{}", path.display());
        }
        assert_ne!(mode(&dir.path().join("new")), 0o700, "it is not ours");
    }
}
