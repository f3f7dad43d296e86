//! The verbs about the store's data: backup, restore, recover-quorum.
//!
//! Flags, and printing. Invariant: what a verb refuses it says in words, and its exit code tells scripts what happened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use corten::backup::{self, Figures, Job};
use corten_base::admin::AdminServer;
use corten_base::shutdown::Shutdown;
use corten_base::telemetry::{self, TelemetryConfig};
use corten_store::archive::{
    self, Credentials, Kept, Login, Manifest, Place, S3, S3Options, Secret, Source, TakeOptions,
};
use corten_store::{Config, Recovery, Refounding};

/// What the name of a backup ends with.
const SUFFIX: &str = ".corten";

/// What a backup is encrypted with.
#[derive(Debug, Args)]
struct SecretArgs {
    /// Encrypt, or decrypt, with the 32 bytes in this file (or 64 hexadecimal digits). Without the file a backup is lost.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "encryption_passphrase_file"
    )]
    encryption_key_file: Option<PathBuf>,
    /// Encrypt, or decrypt, with the passphrase in the first line of this file.
    #[arg(long, value_name = "FILE")]
    encryption_passphrase_file: Option<PathBuf>,
}

impl SecretArgs {
    fn secret(&self) -> Result<Secret> {
        Ok(
            match (&self.encryption_key_file, &self.encryption_passphrase_file) {
                (Some(path), _) => Secret::key_file(path)?,
                (None, Some(path)) => Secret::passphrase_file(path)?,
                (None, None) => Secret::None,
            },
        )
    }
}

/// How to reach a bucket.
#[derive(Debug, Args)]
struct BucketArgs {
    /// Server of s3:// addresses, as in https://minio:9000. Default: Amazon's.
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Region of the bucket.
    #[arg(long, default_value = "us-east-1", env = "AWS_REGION")]
    s3_region: String,
    /// Authorities of the server's certificate (PEM). Default: the system's.
    #[arg(long, value_name = "FILE")]
    s3_ca_file: Option<PathBuf>,
    /// File with aws_access_key_id and aws_secret_access_key. Default: the environment variables AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
    #[arg(long, value_name = "FILE")]
    s3_credentials_file: Option<PathBuf>,
}

impl BucketArgs {
    fn place(&self, address: &str) -> Result<Place> {
        if !address.starts_with("s3://") {
            return Ok(Place::Folder(PathBuf::from(address)));
        }
        let options = S3Options {
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            ca_file: self.s3_ca_file.clone(),
        };
        let credentials = match &self.s3_credentials_file {
            Some(path) => Credentials::from_file(path)?,
            None => Credentials::from_env()?,
        };
        Ok(Place::S3(S3::new(address, &options, credentials)?))
    }
}

/// `corten backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 made and verified; 1 no backup was made; 2 wrong usage; 3 made and verified, but older \
backups could not be removed.\n\nA backup is two files, NAME.corten and NAME.corten.json; the second, the manifest, is written \
only after the first was read back, decrypted, and its keys hashed to what the member says of that revision."
)]
pub(super) struct Backup {
    /// Folder, or s3://bucket/prefix.
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// Members to take it from: the first that answers. http://, https:// or unix://.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "unix:///run/corten/store.sock"
    )]
    endpoints: Vec<String>,
    /// Authority of the members' certificates.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate to show to the member.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// User to log in as, with the role root, on a cluster with users whose certificates do not say who they are.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// Its password: the first line of this file.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    bucket: BucketArgs,
    /// Go on for ever and take one each time this has passed, as in 6h. A failed one is tried again within 15 minutes.
    #[arg(long, value_name = "TIME", value_parser = backup::parse_period)]
    every: Option<Duration>,
    /// Keep this many good backups of the cluster, by when they were taken, and remove older ones after each good one.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    keep: Option<u64>,
    /// With --every: serve /metrics and /readyz (which fails after a failed backup) at this address.
    #[arg(long, value_name = "ADDRESS", requires = "every")]
    listen_metrics: Option<SocketAddr>,
    /// Folder with room for one compressed backup on its way to a bucket.
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    scratch: PathBuf,
    /// Take none: list those that are there, newest first.
    #[arg(long, conflicts_with_all = ["every", "keep", "verify"])]
    list: bool,
    /// Take none: read this one from its first byte to its last and check it; `newest` for the newest good one.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["every", "keep"])]
    verify: Option<String>,
}

impl Backup {
    pub(super) async fn run(self, telemetry: &TelemetryConfig) -> Result<()> {
        let place = self.bucket.place(&self.to)?;
        if self.list {
            return list(&place).await;
        }
        let secret = self.secret.secret()?;
        if let Some(name) = &self.verify {
            return verify(&place, name, &secret).await;
        }
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => Some(Login::from_file(user, path)?),
            _ => None,
        };
        let job = Job {
            source: Source {
                endpoints: self.endpoints,
                ca_file: self.cacert,
                cert_file: self.cert,
                key_file: self.key,
                login,
            },
            place,
            options: TakeOptions {
                secret,
                scratch: self.scratch,
                corten_version: corten_base::version::LONG.to_owned(),
            },
            keep: self
                .keep
                .map(|keep| usize::try_from(keep).unwrap_or(usize::MAX)),
        };
        let figures = Figures::default();
        let Some(period) = self.every else {
            let made = Box::pin(backup::once(&job, &figures)).await?;
            println!("{}", summary(&made.manifest));
            for name in &made.retained.removed {
                println!("removed {name}");
            }
            return Ok(());
        };
        let _guard = telemetry::init(telemetry, "backup")?;
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let admin = AdminServer::new("backup");
        figures.register(&admin);
        if let Some(address) = self.listen_metrics {
            admin.serve(address, None, shutdown.clone()).await?;
        }
        backup::every(&job, period, &figures, &admin, shutdown).await;
        Ok(())
    }
}

fn summary(manifest: &Manifest) -> String {
    format!(
        "{} revision {} keys {} rows {} bytes {} sha256 {} encryption {:?} verified",
        manifest.file,
        manifest.revision,
        manifest.keys,
        manifest.rows,
        manifest.stored_bytes,
        manifest.stored_sha256,
        manifest.encryption,
    )
}

async fn list(place: &Place) -> Result<()> {
    let found = archive::found(place).await?;
    println!(
        "TAKEN                    REVISION    KEYS       BYTES        CLUSTER           STATE  NAME"
    );
    for Kept { manifest, good } in &found {
        let state = if *good { "good" } else { "BROKEN" };
        println!(
            "{:<24} {:<11} {:<10} {:<12} {:<17} {state:<6} {}",
            manifest.taken_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            manifest.revision,
            manifest.keys,
            manifest.stored_bytes,
            manifest.cluster_id,
            manifest.file
        );
    }
    if found.iter().any(|kept| kept.good) {
        Ok(())
    } else {
        bail!("there is no good backup in {place}")
    }
}

async fn newest(place: &Place) -> Result<String> {
    let found = archive::found(place).await?;
    let newest = found.into_iter().find(|kept| kept.good);
    let newest = newest.with_context(|| format!("there is no good backup in {place}"))?;
    Ok(newest.manifest.file)
}

async fn verify(place: &Place, name: &str, secret: &Secret) -> Result<()> {
    let name = match name {
        "newest" => newest(place).await?,
        name => name.to_owned(),
    };
    let manifest = archive::verify(place, &name, secret)
        .await
        .with_context(|| format!("{name} is not good"))?;
    println!("{}", summary(&manifest));
    Ok(())
}

/// How a new cluster begins.
#[derive(Debug, Args)]
struct BeginArgs {
    /// Add this to the revision, so that clients do not take new changes for ones that they have seen.
    #[arg(long, value_name = "COUNT")]
    bump_revision: Option<u64>,
    /// Put the past out of reach, so that clients' watches and caches start over.
    #[arg(long)]
    mark_compacted: bool,
}

/// `corten restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run it on every host of the new cluster (1, 3 or 5) with the same backup, --initial-cluster and \
--initial-cluster-token; it prints a revision and a hash that must be the same everywhere. Then start the members with the \
same flags. Clients that remember revisions from after the backup need --bump-revision with --mark-compacted."
)]
pub(super) struct Restore {
    /// The backup: a file, a folder or s3://bucket/prefix/ (its newest good one), s3://bucket/prefix/NAME, or what
    /// `etcdctl snapshot save` stored.
    backup: String,
    #[command(flatten)]
    begin: BeginArgs,
    /// Restore a backup whose manifest is lost, on the strength of the checksum within it.
    #[arg(long)]
    without_manifest: bool,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    bucket: BucketArgs,
    /// TOML file of the member with the same names as the flags; flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten, next_help_heading = "The member, as it will be started")]
    member: Config,
}

impl Restore {
    pub(super) async fn run(self, given: &clap::ArgMatches) -> Result<()> {
        let config = member_config(self.config.as_deref(), self.member.clone(), given)?;
        // Before anything is fetched.
        corten_store::check_empty(&config.data_dir)?;
        let secret = self.secret.secret()?;
        let how = Refounding {
            bump_revision: self.begin.bump_revision.unwrap_or(0),
            mark_compacted: self.begin.mark_compacted,
        };
        let (place, name) = self.find().await?;
        let file = match &place {
            Place::Folder(dir) => Fetched::Here(dir.join(&name)),
            Place::S3(_) => {
                let mut path = config.data_dir.clone().into_os_string();
                path.push(".download");
                let fetched = Fetched::Temporary(path.into());
                archive::fetch(&place, &name, fetched.path()).await?;
                fetched
            }
        };
        if name.ends_with(SUFFIX) {
            let found = archive::found(&place).await?;
            match found.into_iter().find(|kept| kept.manifest.file == name) {
                Some(kept) => archive::verify_file(file.path(), &kept.manifest, &secret)
                    .with_context(|| format!("the backup {name} is not good"))?,
                None if self.without_manifest => {}
                None => bail!(
                    "{name} has no manifest ({name}.json) that can be read beside it: it was never finished, or the manifest \
                     was lost; --without-manifest restores it on the strength of the checksum within it"
                ),
            }
        }
        let restored = corten_store::restore(&config, file.path(), &secret, how)?;
        println!(
            "restored {} rows at revision {} (hash {:08x}) as member {:x} of cluster {:x}",
            restored.rows,
            restored.revision,
            restored.hash,
            restored.member_id,
            restored.cluster_id
        );
        Ok(())
    }

    /// The place and the name in it.
    async fn find(&self) -> Result<(Place, String)> {
        let text = self.backup.as_str();
        let whole = if text.starts_with("s3://") {
            !text.ends_with(SUFFIX)
        } else {
            Path::new(text).is_dir()
        };
        if whole {
            let place = self.bucket.place(text)?;
            let name = newest(&place).await?;
            return Ok((place, name));
        }
        let (dir, name) = text.rsplit_once('/').unwrap_or((".", text));
        let dir = if dir.is_empty() { "/" } else { dir };
        Ok((self.bucket.place(dir)?, name.to_owned()))
    }
}

/// A backup on this host.
enum Fetched {
    Here(PathBuf),
    Temporary(PathBuf),
}

impl Fetched {
    fn path(&self) -> &Path {
        match self {
            Self::Here(path) | Self::Temporary(path) => path,
        }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if let Self::Temporary(path) = self {
            // It may not have been made.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn member_config(file: Option<&Path>, flags: Config, given: &clap::ArgMatches) -> Result<Config> {
    let file: Config = corten_base::config::load(file)?;
    Ok(Config::merge(file, flags, given)?)
}

/// What is added to the revision by default: more than any cluster does in the time of an outage.
const BUMP: u64 = 1_000_000;

/// `corten recover-quorum`.
#[derive(Debug, Args)]
#[command(
    after_help = "Stop the member first; start it with the same configuration afterwards, and add others: \
`etcdctl member add`. The old folder is kept beside the new one. Members of the old cluster that come back are refused by the \
new one; keep clients away from them."
)]
pub(super) struct RecoverQuorum {
    /// Members that are gone for good, by name or id. Every voting member that does not answer must be named: one that is
    /// only cut off would go on beside the new cluster.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    lost: Vec<String>,
    /// Go on although another survivor has more, or this member is a learner or known to be corrupt.
    #[arg(long)]
    accept_data_loss: bool,
    /// Added to the revision: what the others had acknowledged and this member lacks must not be taken for what comes next.
    #[arg(long, value_name = "COUNT", default_value_t = BUMP)]
    bump_revision: u64,
    /// Leave the past in reach. Without it clients' watches and caches start over, so that they forget what was lost.
    #[arg(long)]
    keep_history: bool,
    /// TOML file of the member with the same names as the flags; flags win over it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten, next_help_heading = "The member, as it was started")]
    member: Config,
}

impl RecoverQuorum {
    pub(super) async fn run(self, given: &clap::ArgMatches) -> Result<()> {
        let config = member_config(self.config.as_deref(), self.member.clone(), given)?;
        let recovery = Recovery {
            lost: self.lost,
            accept_data_loss: self.accept_data_loss,
            how: Refounding {
                bump_revision: self.bump_revision,
                mark_compacted: !self.keep_history,
            },
        };
        let done = Box::pin(corten_store::recover(&config, &recovery)).await?;
        for objection in &done.overruled {
            println!("overruled: {objection}");
        }
        println!(
            "member {:x} of the new cluster {:x} begins at revision {} (hash {:08x}) with everything up to term {} index {} of \
             cluster {:x}, {} entries of it from the log alone",
            done.member.member_id,
            done.member.cluster_id,
            done.member.revision,
            done.member.hash,
            done.last.0,
            done.last.1,
            done.old_cluster_id,
            done.replayed
        );
        println!("the old folder is {}", done.set_aside.display());
        println!("acknowledged writes that only lost members had, after that entry, are gone");
        Ok(())
    }
}
