//! The agent's command line: flags over file over defaults, then build and run.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};
use corten_client::{Client, ClientConfig};

use crate::agent::Agent;
use crate::config::Config;

/// Runs the pods bound to this node on an OCI runtime (crun, runc) and reports what becomes of them. Stopping or killing
/// it leaves the containers running; the next start takes them over.
#[derive(Parser, Debug)]
#[command(name = "corten-node-agent", version = corten_base::version::VERSION)]
pub struct Args {
    /// Configuration file (TOML); flags win over it.
    #[arg(long, env = "CORTEN_NODE_CONFIG")]
    config: Option<PathBuf>,
    /// Print the resulting configuration and exit.
    #[arg(long)]
    dump_config: bool,
    /// Name of this node; the host's name by default.
    #[arg(long)]
    node_name: Option<String>,
    /// Addresses shown for the node; found by default.
    #[arg(long, value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// Labels for the node, as key=value.
    #[arg(long, value_delimiter = ',')]
    node_labels: Vec<String>,
    /// Taints for a new node, as key=value:Effect.
    #[arg(long, value_delimiter = ',')]
    register_with_taints: Vec<String>,
    /// Pods, containers, images: survives a reboot [default: /var/lib/corten/node]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Namespaces and runtime state [default: /run/corten/node]
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// Container logs [default: /var/log/pods]
    #[arg(long)]
    pod_log_dir: Option<PathBuf>,
    /// OCI runtime executable; crun, else runc, by default.
    #[arg(long)]
    runtime: Option<PathBuf>,
    /// Parent of all pod cgroups [default: /corten]
    #[arg(long)]
    cgroup_prefix: Option<String>,
    /// Address of the HTTPS server for logs, exec and port-forward [default: 0.0.0.0:10250]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Address of /livez, /readyz and /metrics; port 0 turns it off [default: 127.0.0.1:10248]
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
    /// Authority that signs the clients of the HTTPS server.
    #[arg(long)]
    tls_ca: Option<PathBuf>,
    /// Certificate of the HTTPS server; one is made when absent.
    #[arg(long)]
    tls_cert: Option<PathBuf>,
    /// Key of the HTTPS server.
    #[arg(long)]
    tls_key: Option<PathBuf>,
    /// DNS servers for pods [default: 10.96.0.10]
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(long)]
    cluster_domain: Option<String>,
    /// Pods at most [default: 110]
    #[arg(long)]
    max_pods: Option<u32>,
    /// Use the RuntimeDefault seccomp profile for pods that name none.
    #[arg(long)]
    seccomp_default: bool,
    /// Kernel settings that pods may change beside the safe ones, as net.core.* or kernel.msgmax.
    #[arg(long, value_delimiter = ',')]
    allowed_unsafe_sysctls: Vec<String>,
    /// Folder with <registry>/hosts.toml (mirrors, authorities), as containerd's config_path.
    #[arg(long)]
    registries: Option<PathBuf>,
    /// Percent of the disk in use at which unused images are removed; 100 turns it off [default: 85]
    #[arg(long)]
    image_gc_high_threshold: Option<u8>,
    /// Percent at which that ends [default: 80]
    #[arg(long)]
    image_gc_low_threshold: Option<u8>,
    /// An image that was used within this time stays [default: 120]
    #[arg(long)]
    image_age_min_seconds: Option<u64>,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    telemetry: TelemetryConfig,
}

fn put<T>(slot: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *slot = value;
    }
}

impl Args {
    /// The configuration that these flags and the named file make.
    pub fn resolve(self) -> Result<Config, corten_base::config::ConfigError> {
        let mut config: Config = corten_base::config::load(self.config.as_deref())?;
        put(&mut config.node_name, self.node_name);
        put(&mut config.data_dir, self.data_dir);
        put(&mut config.run_dir, self.run_dir);
        put(&mut config.pod_log_dir, self.pod_log_dir);
        put(&mut config.runtime, self.runtime);
        put(&mut config.cgroup_prefix, self.cgroup_prefix);
        put(&mut config.listen, self.listen);
        put(&mut config.admin_listen, self.admin_listen);
        put(&mut config.cluster_domain, self.cluster_domain);
        put(&mut config.max_pods, self.max_pods);
        put(
            &mut config.image_gc_high_threshold,
            self.image_gc_high_threshold,
        );
        put(
            &mut config.image_gc_low_threshold,
            self.image_gc_low_threshold,
        );
        put(
            &mut config.image_age_min_seconds,
            self.image_age_min_seconds,
        );
        config.seccomp_default |= self.seccomp_default;
        config.tls_ca = self.tls_ca.or(config.tls_ca);
        config.tls_cert = self.tls_cert.or(config.tls_cert);
        config.tls_key = self.tls_key.or(config.tls_key);
        config.registries = self.registries.or(config.registries);
        put(&mut config.node_ips, some_list(self.node_ip));
        put(&mut config.cluster_dns, some_list(self.cluster_dns));
        put(
            &mut config.register_taints,
            some_list(self.register_with_taints),
        );
        put(
            &mut config.allowed_unsafe_sysctls,
            some_list(self.allowed_unsafe_sysctls),
        );
        for label in self.node_labels {
            let (key, value) = label.split_once('=').unwrap_or((&label, ""));
            config.node_labels.insert(key.to_owned(), value.to_owned());
        }
        config.client = config.client.overridden_by(&self.client);
        put(
            &mut config.telemetry.log_format,
            self.telemetry.log_format.map(Some),
        );
        put(
            &mut config.telemetry.log_level,
            self.telemetry.log_level.map(Some),
        );
        put(
            &mut config.telemetry.otlp_endpoint,
            self.telemetry.otlp_endpoint.map(Some),
        );
        Ok(config)
    }
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Entry point of the binary.
pub fn agent_main() -> ExitCode {
    let args = Args::parse();
    let dump = args.dump_config;
    let config = match args.resolve() {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if dump {
        return match toml::to_string_pretty(&config) {
            Ok(text) => {
                use std::io::Write;
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(run(config));
    // Streams and waits on containers have no end of their own.
    runtime.shutdown_background();
    code
}

async fn run(config: Config) -> ExitCode {
    let _telemetry = match telemetry::init(&config.telemetry, "corten-node-agent") {
        Ok(guard) => guard,
        Err(error) => return fail(&error),
    };
    let shutdown = Shutdown::new();
    if let Err(error) = shutdown.on_signals() {
        return fail(&error);
    }
    let client = match Client::connect(&config.client) {
        Ok(client) => client,
        Err(error) => return fail(&error),
    };
    match Agent::build(config, client).await {
        Ok(agent) => {
            agent.run(shutdown).await;
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("corten-node-agent: {error}");
    let mut cause = error.source();
    while let Some(next) = cause {
        eprintln!("  because: {next}");
        cause = next.source();
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_defaults() {
        let args = Args::parse_from([
            "agent",
            "--node-name",
            "n1",
            "--node-labels",
            "a=b,c=",
            "--cluster-dns",
            "192.0.2.53",
            "--max-pods",
            "7",
        ]);
        let config = args.resolve().expect("a configuration");
        assert_eq!(config.resolved_node_name(), "n1");
        assert_eq!(config.node_labels.get("a").map(String::as_str), Some("b"));
        assert_eq!((config.max_pods, config.cluster_dns.len()), (7, 1));
        let text = toml::to_string_pretty(&config).expect("dumps");
        let back: Config = toml::from_str(&text).expect("reads its own dump");
        assert_eq!(back.max_pods, 7);
    }
}
