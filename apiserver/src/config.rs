//! The server's settings: from file, environment and flags, checked once.
//!
//! Invariant: what [`Config::check`] returns can be used without further questions; all that is wrong is told at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use corten_base::config::ConfigError;
use corten_base::tls::TlsFiles;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::allocators::PortRange;
use crate::cache;
use crate::chain::InFlight;

const PORT: u16 = 6443;
const SERVICE_CIDR: &str = "10.96.0.0/16";
/// A budget has to hold some objects of the largest size.
const BUDGET_MIN: usize = 16;
/// More seats than any machine has work for; sums of them stay far from the ends of numbers.
const SEATS_MAX: u32 = 1_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Settings as they are written. Everything that is left out has a default, except the files.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    #[arg(long)]
    pub bind_address: Option<IpAddr>,
    /// Port for REST and gRPC.
    #[arg(long)]
    pub secure_port: Option<u16>,
    /// Address under which nodes and pods reach this server; the kubernetes Service points there.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// URLs of the store's members, as in https://10.0.0.1:2379. A real etcd will do too.
    #[arg(long, value_delimiter = ',')]
    pub store_endpoints: Vec<String>,
    /// Authority that signed the store's certificates.
    #[arg(long)]
    pub store_cafile: Option<PathBuf>,
    /// This server's certificate for the store.
    #[arg(long)]
    pub store_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub store_keyfile: Option<PathBuf>,
    /// Certificate of the API.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authority that signs client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Certificate with which this server calls node agents.
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// Authority that signed the node agents' certificates; the client authority when left out.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Public keys that verify service-account tokens besides the signing key's own: PEM files of public keys, certificates or
    /// private keys.
    #[arg(long)]
    pub service_account_key_file: Vec<PathBuf>,
    /// Private key that signs service-account tokens: ECDSA on P-256, P-384 or P-521, or RSA of 2,048 bits or more, in PEM.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Issuer in service-account tokens.
    #[arg(long)]
    pub service_account_issuer: Option<String>,
    /// Audiences that tokens may have to be accepted here; the issuer when left out.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Addresses of Services.
    #[arg(long)]
    pub service_cluster_ip_range: Option<Ipv4Net>,
    /// Ports of Services on nodes, as in 30000-32767.
    #[arg(long)]
    pub service_node_port_range: Option<String>,
    /// File with the key (32 bytes, base64) that encrypts Secrets in the store.
    #[arg(long)]
    pub encryption_key_file: Option<PathBuf>,
    /// Whether FlowSchemas and PriorityLevelConfigurations decide whose request goes first. Default true.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub enable_priority_and_fairness: Option<bool>,
    /// With the next one the seats that the priority levels share. Without priority and fairness: requests that only read and
    /// are worked on at once; more wait a moment, then get 429; 0 for no limit. Default 400.
    #[arg(long)]
    pub max_requests_inflight: Option<usize>,
    /// With the one before the seats that the priority levels share. Without priority and fairness: requests that change
    /// something and are worked on at once; 0 for no limit. Default 200.
    #[arg(long)]
    pub max_mutating_requests_inflight: Option<usize>,
    /// MiB that the watch cache may hold beyond the objects themselves: history for watches that resume, and what waits for
    /// slow watchers. Default 256.
    #[arg(long)]
    pub watch_cache_budget: Option<usize>,
    /// Audit log; none is written when left out.
    #[arg(long)]
    pub audit_log_path: Option<PathBuf>,
}

/// Settings that have been checked.
#[derive(Debug, Clone)]
pub struct Checked {
    pub listen: SocketAddr,
    pub advertise: IpAddr,
    pub serving: TlsFiles,
    pub store_tls: Option<TlsFiles>,
    pub agents: Option<TlsFiles>,
    pub service_cidr: Ipv4Net,
    pub node_ports: PortRange,
    pub issuer: String,
    pub inflight: InFlight,
    /// Seats that the priority levels share; none without priority and fairness.
    pub seats: Option<u32>,
    pub cache: cache::Limits,
}

impl Config {
    /// These settings where they say something, the other's elsewhere.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let list =
            |mine: Vec<String>, other: Vec<String>| if mine.is_empty() { other } else { mine };
        let paths =
            |mine: Vec<PathBuf>, other: Vec<PathBuf>| if mine.is_empty() { other } else { mine };
        Self {
            bind_address: self.bind_address.or(below.bind_address),
            secure_port: self.secure_port.or(below.secure_port),
            advertise_address: self.advertise_address.or(below.advertise_address),
            store_endpoints: list(self.store_endpoints, below.store_endpoints),
            store_cafile: self.store_cafile.or(below.store_cafile),
            store_certfile: self.store_certfile.or(below.store_certfile),
            store_keyfile: self.store_keyfile.or(below.store_keyfile),
            tls_cert_file: self.tls_cert_file.or(below.tls_cert_file),
            tls_private_key_file: self.tls_private_key_file.or(below.tls_private_key_file),
            client_ca_file: self.client_ca_file.or(below.client_ca_file),
            kubelet_client_certificate: self
                .kubelet_client_certificate
                .or(below.kubelet_client_certificate),
            kubelet_client_key: self.kubelet_client_key.or(below.kubelet_client_key),
            kubelet_certificate_authority: self
                .kubelet_certificate_authority
                .or(below.kubelet_certificate_authority),
            service_account_key_file: paths(
                self.service_account_key_file,
                below.service_account_key_file,
            ),
            service_account_signing_key_file: self
                .service_account_signing_key_file
                .or(below.service_account_signing_key_file),
            service_account_issuer: self.service_account_issuer.or(below.service_account_issuer),
            api_audiences: list(self.api_audiences, below.api_audiences),
            service_cluster_ip_range: self
                .service_cluster_ip_range
                .or(below.service_cluster_ip_range),
            service_node_port_range: self
                .service_node_port_range
                .or(below.service_node_port_range),
            encryption_key_file: self.encryption_key_file.or(below.encryption_key_file),
            max_requests_inflight: self.max_requests_inflight.or(below.max_requests_inflight),
            max_mutating_requests_inflight: self
                .max_mutating_requests_inflight
                .or(below.max_mutating_requests_inflight),
            enable_priority_and_fairness: self
                .enable_priority_and_fairness
                .or(below.enable_priority_and_fairness),
            watch_cache_budget: self.watch_cache_budget.or(below.watch_cache_budget),
            audit_log_path: self.audit_log_path.or(below.audit_log_path),
        }
    }

    /// Checks everything and says all that is wrong.
    pub fn check(&self) -> Result<Checked, ConfigError> {
        let mut faults = Vec::new();
        let bind = self
            .bind_address
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let advertise = self
            .advertise_address
            .or_else(|| Some(bind).filter(|bind| !bind.is_unspecified()));
        if advertise.is_none_or(|address| address.is_unspecified()) {
            faults.push(
                "advertise_address must be set when the server listens on all addresses".to_owned(),
            );
        }
        let serving = files(
            &self.client_ca_file,
            &self.tls_cert_file,
            &self.tls_private_key_file,
        );
        if serving.is_none() {
            faults.push(
                "client_ca_file, tls_cert_file and tls_private_key_file must be set".to_owned(),
            );
        }
        let store_tls = files(
            &self.store_cafile,
            &self.store_certfile,
            &self.store_keyfile,
        );
        if store_tls.is_none()
            && self
                .store_endpoints
                .iter()
                .any(|url| url.starts_with("https://"))
        {
            faults.push("store_cafile, store_certfile and store_keyfile must be set for https store_endpoints".to_owned());
        }
        let service_cidr = self.service_cluster_ip_range.unwrap_or_else(default_cidr);
        if service_cidr.prefix_len() > 30 {
            faults.push("service_cluster_ip_range must hold at least four addresses".to_owned());
        }
        let ports = self
            .service_node_port_range
            .as_deref()
            .map_or(Ok(PortRange::default()), str::parse);
        let node_ports = ports.unwrap_or_else(|error| {
            faults.push(format!("service_node_port_range: {error}"));
            PortRange::default()
        });
        let cache = self.cache_limits(&mut faults);
        let seats = self.seats(&mut faults);
        match (serving, advertise) {
            (Some(serving), Some(advertise)) if faults.is_empty() => Ok(Checked {
                listen: SocketAddr::new(bind, self.secure_port.unwrap_or(PORT)),
                advertise,
                serving,
                store_tls,
                agents: self.agents(),
                service_cidr,
                node_ports,
                issuer: self
                    .service_account_issuer
                    .clone()
                    .unwrap_or_else(|| ISSUER.to_owned()),
                inflight: self.inflight(),
                seats,
                cache,
            }),
            _ => Err(ConfigError::Invalid(faults)),
        }
    }

    fn cache_limits(&self, faults: &mut Vec<String>) -> cache::Limits {
        match self.watch_cache_budget {
            None => cache::Limits::default(),
            Some(mebibytes) => {
                if mebibytes < BUDGET_MIN {
                    faults.push(format!(
                        "watch_cache_budget must be at least {BUDGET_MIN} MiB"
                    ));
                }
                cache::Limits::of_budget(mebibytes.saturating_mul(1 << 20))
            }
        }
    }

    fn inflight(&self) -> InFlight {
        let default = InFlight::default();
        InFlight {
            reads: self.max_requests_inflight.unwrap_or(default.reads),
            writes: self
                .max_mutating_requests_inflight
                .unwrap_or(default.writes),
        }
    }

    fn seats(&self, faults: &mut Vec<String>) -> Option<u32> {
        if self.enable_priority_and_fairness == Some(false) {
            return None;
        }
        let InFlight { reads, writes } = self.inflight();
        let sum = u32::try_from(reads.saturating_add(writes)).unwrap_or(u32::MAX);
        if !(1..=SEATS_MAX).contains(&sum) {
            faults.push(format!(
                "max_requests_inflight and max_mutating_requests_inflight must add up to 1 to {SEATS_MAX} with enable_priority_and_fairness"
            ));
        }
        Some(sum)
    }

    fn agents(&self) -> Option<TlsFiles> {
        let ca = self.kubelet_certificate_authority.as_ref();
        files(
            &ca.or(self.client_ca_file.as_ref()).cloned(),
            &self.kubelet_client_certificate,
            &self.kubelet_client_key,
        )
    }
}

fn default_cidr() -> Ipv4Net {
    SERVICE_CIDR.parse().expect("the default is a network")
}

fn files(ca: &Option<PathBuf>, cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<TlsFiles> {
    Some(TlsFiles {
        ca: ca.clone()?,
        cert: cert.clone()?,
        key: key.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_all_faults_at_once() {
        let config = Config {
            store_endpoints: vec!["https://a:2379".to_owned()],
            service_node_port_range: Some("9".to_owned()),
            max_requests_inflight: Some(0),
            max_mutating_requests_inflight: Some(0),
            ..Config::default()
        };
        let text = config.check().unwrap_err().to_string();
        for part in [
            "advertise_address",
            "tls_cert_file",
            "store_cafile",
            "service_node_port_range",
            "max_requests_inflight",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn flags_stand_over_the_file() {
        let file = Config {
            secure_port: Some(1),
            service_account_issuer: Some("x".to_owned()),
            ..Config::default()
        };
        let flags = Config {
            secure_port: Some(2),
            ..Config::default()
        };
        let both = flags.over(file);
        assert_eq!(both.secure_port, Some(2));
        assert_eq!(both.service_account_issuer.as_deref(), Some("x"));
    }
}
