//! What an operator may set, under etcd's flag names where the meaning is the same.
//!
//! Does nothing with the values beyond checking them. Invariant: all faults of a configuration are reported together,
//! and nothing past `Config::check` sees a value that was not checked.

mod prefixes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use corten_base::tls::{Admitted, TlsFiles};
use corten_store_core::compactor::Retention;
use serde::{Deserialize, Serialize};

use crate::peer::connect::PeerUrl;
use crate::replica::usage::PrefixQuota;

/// Raw values, from a file or from flags.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Name of this member, as in --initial-cluster.
    #[arg(long, default_value = "default", env = "CORTEN_STORE_NAME")]
    pub name: String,
    /// Folder of this member's log and state.
    #[arg(
        long,
        default_value = "/var/lib/corten/store",
        env = "CORTEN_STORE_DATA_DIR"
    )]
    pub data_dir: PathBuf,
    /// Where to serve clients: http://, https:// or unix:///path. May be empty when embedded.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub listen_client_urls: Vec<String>,
    /// Where to serve other members.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2380")]
    pub listen_peer_urls: Vec<String>,
    /// Where clients reach this member; shown to them. Default: the listen URLs.
    #[arg(long, value_delimiter = ',')]
    pub advertise_client_urls: Vec<String>,
    /// Where other members reach this member. Default: the listen URLs.
    #[arg(long, value_delimiter = ',')]
    pub initial_advertise_peer_urls: Vec<String>,
    /// All members as name=peer-url, separated by commas; a member with several URLs appears several times.
    /// Default: this member alone.
    #[arg(long, default_value = "")]
    pub initial_cluster: String,
    /// Whether to found the cluster or to join one that this member was added to.
    #[arg(long, value_enum, default_value_t = ClusterState::New)]
    pub initial_cluster_state: ClusterState,
    /// Keeps clusters with the same addresses apart.
    #[arg(long, default_value = "corten-store")]
    pub initial_cluster_token: String,
    /// Certificate of the client port (server side).
    #[arg(long)]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// Authority of client certificates; with it, clients must show one.
    #[arg(long)]
    pub trusted_ca_file: Option<PathBuf>,
    /// As in etcd: clients must show a certificate. They must whenever --trusted-ca-file is given, with or without this.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub client_cert_auth: bool,
    /// Certificate for other members, as server and as client.
    #[arg(long)]
    pub peer_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub peer_key_file: Option<PathBuf>,
    /// Authority of the members' certificates.
    #[arg(long)]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// As in etcd: members must show a certificate. They always must where they speak TLS.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub peer_client_cert_auth: bool,
    /// Of those with a certificate of that authority, only these common names may speak as members. As in etcd.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub peer_cert_allowed_cn: Vec<String>,
    /// The same by DNS names and addresses in the certificates, letter by letter.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub peer_cert_allowed_hostname: Vec<String>,
    /// Address of the admin port (livez, readyz, metrics), as in 127.0.0.1:2381. Default: none.
    #[arg(long)]
    pub listen_metrics: Option<String>,
    /// Milliseconds between heartbeats.
    #[arg(long, default_value_t = 100)]
    pub heartbeat_interval: u64,
    /// Milliseconds that a leader may be silent before it counts as gone. Writes resume one to two of these later.
    #[arg(long, default_value_t = 600)]
    pub election_timeout: u64,
    /// Log entries between snapshots.
    #[arg(long, default_value_t = 20_000)]
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot for followers that lag.
    #[arg(long, default_value_t = 5_000)]
    pub snapshot_catchup_entries: u64,
    /// Log bytes after which a snapshot is taken even before --snapshot-count.
    #[arg(long, default_value_t = 256 << 20)]
    pub snapshot_log_bytes: u64,
    /// Seconds between two checkpoints of what a lease has left. After a change of leader a lease may live this much longer.
    #[arg(long, default_value_t = 60)]
    pub lease_checkpoint_interval: u64,
    /// Whether --auto-compaction-retention is a time or a number of revisions.
    #[arg(long, value_enum, default_value_t = CompactionMode::Periodic)]
    pub auto_compaction_mode: CompactionMode,
    /// History that is kept when the store compacts by itself: a time as in 5m or 1h30m (a bare number: hours), or a number
    /// of revisions. 0: it does not; Corten's API server compacts regularly.
    #[arg(long, default_value = "0")]
    pub auto_compaction_retention: String,
    /// Seconds between two comparisons of all members' keys, for which each reads all of its own; 0: none.
    #[arg(long, default_value_t = 3600)]
    pub corruption_check_interval: u64,
    /// What a member does that finds its own files damaged, or whose keys differ from the others': repair itself from the
    /// others while they are a quorum (at most once an hour, the damaged files are set aside), or wait for an operator.
    #[arg(long, value_enum, default_value_t = Repair::Auto)]
    pub repair: Repair,
    /// Limit of the store's size in bytes; beyond it only reads, deletes and compaction work. 0: none.
    #[arg(long, default_value_t = 0)]
    pub quota_backend_bytes: u64,
    /// Bytes of the disk that puts leave free, so that the log, deletes and compaction go on when it is full otherwise. With
    /// less, the store is full as with --quota-backend-bytes, until there is more. 0: none.
    #[arg(long, default_value_t = 256 << 20)]
    pub disk_reserve_bytes: u64,
    /// Limits for keys that begin with something, as in /registry/events/=512MiB: bytes of keys and values at the newest
    /// revision. Beyond one, puts below its prefix are refused unless they make nothing larger; everything else goes on.
    #[arg(long, value_delimiter = ',', value_name = "PREFIX=SIZE")]
    pub prefix_quota: Vec<String>,
    /// Seconds that a token of Authenticate is good for.
    #[arg(long, default_value_t = 300)]
    pub auth_token_ttl: u64,
    /// Cost of bcrypt for the passwords of users, from 4 to 31: each step doubles the time of a login.
    #[arg(long, default_value_t = 10)]
    pub bcrypt_cost: u32,
    /// Highest cluster level that this member admits. The level rises by itself to what all members admit, and never goes
    /// down: hold it at the older version's after an upgrade, as long as going back is to stay possible.
    #[arg(long, default_value_t = corten_store_core::level::KNOWN)]
    pub max_level: u32,
    /// Memory for blocks of table files, in bytes.
    #[arg(long, default_value_t = 32 << 20)]
    pub block_cache_bytes: usize,
    /// Memory for the newest versions of keys that were written lately, in bytes.
    #[arg(long, default_value_t = 32 << 20)]
    pub head_cache_bytes: usize,
    /// Memory for rows not yet flushed, in bytes.
    #[arg(long, default_value_t = 32 << 20)]
    pub memtable_bytes: usize,
}

/// What the retention of automatic compaction counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CompactionMode {
    /// Time.
    #[default]
    Periodic,
    /// Revisions.
    Revision,
}

/// What becomes of a damaged member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Repair {
    /// It repairs itself from the others.
    #[default]
    Auto,
    /// It serves nobody until an operator replaces it.
    Off,
}

/// Whether the cluster exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ClusterState {
    /// Found it, together with the other members listed.
    #[default]
    New,
    /// Join it; a member added this one before.
    Existing,
}

impl Default for Config {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            config: Config,
        }
        // One place for defaults: the flags.
        let parsed: Defaults = clap::Parser::parse_from(["corten-store"]);
        parsed.config
    }
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not usable: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

/// Where to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp { tls: bool, host: String, port: u16 },
    Unix(PathBuf),
}

/// Checked values.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) listen_client: Vec<Listen>,
    pub(crate) listen_peer: Vec<Listen>,
    pub(crate) advertise_client: Vec<String>,
    pub(crate) advertise_peer: Vec<String>,
    /// Name to peer URLs of the members listed; holds this member.
    pub(crate) cluster: BTreeMap<String, Vec<String>>,
    pub(crate) client_tls: Option<ServerFiles>,
    pub(crate) peer_tls: Option<TlsFiles>,
    pub(crate) heartbeat: Duration,
    pub(crate) election: Duration,
    pub(crate) lease_checkpoint: Duration,
    pub(crate) retention: Retention,
    pub(crate) corruption_check: Duration,
    pub(crate) prefix_quotas: Vec<PrefixQuota>,
}

/// TLS files of the client port.
#[derive(Debug, Clone)]
pub(crate) struct ServerFiles {
    pub(crate) files: TlsFiles,
    /// Clients must show a certificate of `files.ca`.
    pub(crate) require_client: bool,
}

impl Config {
    /// A member for one process, which serves nobody but its own process and loopback peers.
    pub fn embedded(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen_client_urls: Vec::new(),
            listen_peer_urls: Vec::new(),
            ..Self::default()
        }
    }

    /// What was given on the command line or in the environment wins over the file.
    pub fn merge(
        file: Self,
        flags: Self,
        given: &clap::ArgMatches,
    ) -> Result<Self, serde_json::Error> {
        let mut merged = serde_json::to_value(file)?;
        let flags = serde_json::to_value(flags)?;
        if let (Some(merged), Some(flags)) = (merged.as_object_mut(), flags.as_object()) {
            for (name, value) in flags {
                let source = given.value_source(&name.replace('-', "_"));
                if source.is_some_and(|source| source != clap::parser::ValueSource::DefaultValue) {
                    merged.insert(name.clone(), value.clone());
                }
            }
        }
        serde_json::from_value(merged)
    }

    /// The configuration as a file would have it.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    pub(crate) fn check(&self) -> Result<Settings, ConfigError> {
        let mut faults = Vec::new();
        let listen_client = parse_all(&self.listen_client_urls, &mut faults);
        let listen_peer = parse_all(&self.listen_peer_urls, &mut faults);
        let default_to = |given: &[String], listen: &[String]| {
            if given.is_empty() {
                listen.to_vec()
            } else {
                given.to_vec()
            }
        };
        let advertise_client = default_to(&self.advertise_client_urls, &self.listen_client_urls);
        let advertise_peer = default_to(&self.initial_advertise_peer_urls, &self.listen_peer_urls);
        let cluster = self.parse_cluster(&advertise_peer, &mut faults);
        let client_tls = self.client_tls(&listen_client, &mut faults);
        let peer_tls = self.peer_tls(&listen_peer, &cluster, &mut faults);
        if self.heartbeat_interval == 0 || self.election_timeout < 4 * self.heartbeat_interval {
            faults.push(
                "--election-timeout must be at least four times --heartbeat-interval".to_owned(),
            );
        }
        let retention = self.retention(&mut faults);
        let prefix_quotas = prefixes::parse(&self.prefix_quota, &mut faults);
        if self.lease_checkpoint_interval == 0 {
            faults.push("--lease-checkpoint-interval must be at least 1".to_owned());
        }
        if self.auth_token_ttl == 0 {
            faults.push("--auth-token-ttl must be at least 1".to_owned());
        }
        if !(4..=31).contains(&self.bcrypt_cost) {
            faults.push("--bcrypt-cost must be from 4 to 31".to_owned());
        }
        if self.max_level > corten_store_core::level::KNOWN {
            faults.push(format!(
                "--max-level: this version knows levels up to {}",
                corten_store_core::level::KNOWN
            ));
        }
        if self.name.is_empty() || self.name.contains(['=', ',']) {
            faults.push(format!(
                "--name {:?} must not be empty or hold '=' or ','",
                self.name
            ));
        }
        if !faults.is_empty() {
            return Err(ConfigError(faults));
        }
        Ok(Settings {
            listen_client,
            listen_peer,
            advertise_client,
            advertise_peer,
            cluster,
            client_tls,
            peer_tls,
            heartbeat: Duration::from_millis(self.heartbeat_interval),
            election: Duration::from_millis(self.election_timeout),
            lease_checkpoint: Duration::from_secs(self.lease_checkpoint_interval),
            retention,
            corruption_check: Duration::from_secs(self.corruption_check_interval),
            prefix_quotas,
            config: self.clone(),
        })
    }

    fn parse_cluster(
        &self,
        own: &[String],
        faults: &mut Vec<String>,
    ) -> BTreeMap<String, Vec<String>> {
        let mut cluster: BTreeMap<String, Vec<String>> = BTreeMap::new();
        if self.initial_cluster.is_empty() {
            cluster.insert(self.name.clone(), own.to_vec());
            return cluster;
        }
        for part in self.initial_cluster.split(',') {
            match part.split_once('=') {
                Some((name, url)) if !name.is_empty() => match PeerUrl::parse(url) {
                    Ok(_) => cluster
                        .entry(name.to_owned())
                        .or_default()
                        .push(url.to_owned()),
                    Err(error) => faults.push(format!("--initial-cluster: {error}")),
                },
                _ => faults.push(format!("--initial-cluster: {part:?} is not name=url")),
            }
        }
        match cluster.get(&self.name) {
            None => faults.push(format!(
                "--initial-cluster does not list this member, {:?}",
                self.name
            )),
            Some(listed) if listed != own => {
                faults.push(format!(
                    "--initial-cluster lists {listed:?} for this member, which advertises {own:?}"
                ));
            }
            Some(_) => {}
        }
        cluster
    }

    fn retention(&self, faults: &mut Vec<String>) -> Retention {
        let text = self.auto_compaction_retention.trim();
        let parsed = match (self.auto_compaction_mode, text.parse::<u64>()) {
            (_, Ok(0)) => Some(Retention::All),
            (CompactionMode::Revision, Ok(revisions)) => Some(Retention::Revisions(revisions)),
            (CompactionMode::Revision, Err(_)) => None,
            (CompactionMode::Periodic, Ok(hours)) => hours
                .checked_mul(3600)
                .map(|seconds| Retention::Age(Duration::from_secs(seconds))),
            (CompactionMode::Periodic, Err(_)) => parse_duration(text).map(Retention::Age),
        };
        parsed.unwrap_or_else(|| {
            faults.push(format!(
                "--auto-compaction-retention {text:?} is neither 0, nor a time as in 1h30m, nor (in revision mode) a number"
            ));
            Retention::All
        })
    }

    fn client_tls(&self, listen: &[Listen], faults: &mut Vec<String>) -> Option<ServerFiles> {
        let wanted = listen
            .iter()
            .any(|listen| matches!(listen, Listen::Tcp { tls: true, .. }));
        if self.client_cert_auth && self.trusted_ca_file.is_none() {
            faults.push("--client-cert-auth needs --trusted-ca-file".to_owned());
        }
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let ca = self.trusted_ca_file.clone();
                let require_client = ca.is_some();
                // Without an authority the field is not looked at.
                let files = TlsFiles {
                    ca: ca.unwrap_or_default(),
                    cert: cert.clone(),
                    key: key.clone(),
                };
                Some(ServerFiles {
                    files,
                    require_client,
                })
            }
            (None, None) => {
                if wanted {
                    faults.push("an https client URL needs --cert-file and --key-file".to_owned());
                }
                None
            }
            _ => {
                faults.push("--cert-file and --key-file go together".to_owned());
                None
            }
        }
    }

    /// Whose certificates open the peer port.
    pub(crate) fn admitted_peers(&self) -> Admitted {
        Admitted {
            common_names: self.peer_cert_allowed_cn.clone(),
            names: self.peer_cert_allowed_hostname.clone(),
        }
    }

    fn peer_tls(
        &self,
        listen: &[Listen],
        cluster: &BTreeMap<String, Vec<String>>,
        faults: &mut Vec<String>,
    ) -> Option<TlsFiles> {
        let wanted = listen
            .iter()
            .any(|listen| matches!(listen, Listen::Tcp { tls: true, .. }))
            || cluster
                .values()
                .flatten()
                .any(|url| url.starts_with("https:"));
        let named = [&self.peer_cert_allowed_cn, &self.peer_cert_allowed_hostname];
        match named.map(|names| names.is_empty()) {
            [false, false] => faults.push(
                "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other"
                    .to_owned(),
            ),
            [true, true] => {}
            _ if self.peer_trusted_ca_file.is_none() => {
                faults.push("--peer-cert-allowed-* need --peer-trusted-ca-file".to_owned());
            }
            _ => {}
        }
        if self.peer_client_cert_auth && self.peer_trusted_ca_file.is_none() {
            faults.push("--peer-client-cert-auth needs --peer-trusted-ca-file".to_owned());
        }
        match (
            &self.peer_cert_file,
            &self.peer_key_file,
            &self.peer_trusted_ca_file,
        ) {
            (Some(cert), Some(key), Some(ca)) => Some(TlsFiles {
                ca: ca.clone(),
                cert: cert.clone(),
                key: key.clone(),
            }),
            (None, None, None) => {
                if wanted {
                    let flags = "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file";
                    faults.push(format!("https peer URLs need {flags}"));
                }
                None
            }
            _ => {
                faults.push("the three --peer-*-file flags go together".to_owned());
                None
            }
        }
    }
}

/// Hours, minutes and seconds, as in `1h30m`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn parse_all(urls: &[String], faults: &mut Vec<String>) -> Vec<Listen> {
    let mut parsed = Vec::with_capacity(urls.len());
    for url in urls {
        if let Some(path) = url.strip_prefix("unix://") {
            parsed.push(Listen::Unix(PathBuf::from(path)));
            continue;
        }
        match PeerUrl::parse(url) {
            Ok(url) => parsed.push(Listen::Tcp {
                tls: url.tls,
                host: url.host,
                port: url.port,
            }),
            Err(error) => faults.push(error.to_string()),
        }
    }
    parsed
}

#[cfg(test)]
mod tests;
