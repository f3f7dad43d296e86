//! One side of the comparison: an API server on one store member, started for it and stopped with it.
//!
//! Invariant: both sides have the same certificates, TLS and client certificates on every connection, RBAC, fsync, no audit
//! log and no limit of requests at once; each keeps its own defaults for everything else.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use corten_base::pki::{self, Authority, CertRequest, Usage};
use corten_base::tls::TlsFiles;

use super::client::{Call, Client, Format, Target};
use super::process::Process;

/// Upstream's server makes its system objects first; on a busy machine that takes a while.
const READY_IN: Duration = Duration::from_secs(180);
/// Connections that the clients of a load share, as a few processes with client-go would.
pub(crate) const CONNECTIONS: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    Ours,
    Theirs,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ours => "corten",
            Kind::Theirs => "upstream",
        }
    }
}

/// The programs of both sides.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// Path of corten-apiserver.
    #[arg(long)]
    corten_apiserver: PathBuf,
    /// Path of corten-store.
    #[arg(long)]
    corten_store: PathBuf,
    /// Path of upstream's kube-apiserver.
    #[arg(long)]
    kube_apiserver: PathBuf,
    /// Path of etcd.
    #[arg(long)]
    etcd: PathBuf,
}

/// Keys and certificates that both sides use.
pub(crate) struct Pki(PathBuf);

impl Pki {
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        let pki = Self(dir.to_owned());
        let authority = Authority::create("bench")?;
        authority.write(dir, "ca")?;
        let client = |name: &str, groups: &[&str]| CertRequest {
            common_name: name.to_owned(),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
            usage: Usage::Client,
            ..CertRequest::default()
        };
        let server = CertRequest {
            common_name: "server".to_owned(),
            ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            dns_names: vec!["localhost".to_owned()],
            usage: Usage::Both,
            ..CertRequest::default()
        };
        for (name, request) in [
            ("server", server),
            ("admin", client("admin", &["system:masters"])),
            ("bench", client("bench", &[])),
        ] {
            authority.issue_to_files(&request, &pki.at(name, "crt"), &pki.at(name, "key"))?;
        }
        let (private, public) = pki::signing_key_pair()?;
        pki::write_private(&pki.at("sa", "key"), &private)?;
        pki::write_public(&pki.at("sa", "pub"), &public)?;
        Ok(pki)
    }

    fn at(&self, name: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{name}.{ending}"))
    }

    fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            ca: self.at("ca", "crt"),
            cert: self.at(name, "crt"),
            key: self.at(name, "key"),
        }
    }
}

/// A running side.
pub(crate) struct Side {
    pub(crate) kind: Kind,
    pub(crate) api: Process,
    pub(crate) store: Process,
    /// May do everything.
    pub(crate) admin: Target,
    /// The user of the loads.
    pub(crate) bench: Target,
    /// Connections of that user.
    pub(crate) client: Client,
    /// Bytes on all sockets to the API server.
    pub(crate) wire: Arc<AtomicU64>,
    /// Large ConfigMaps that were made for the list of them.
    pub(crate) big: usize,
    pub(crate) has_pods: bool,
}

impl Side {
    pub(crate) async fn start(
        kind: Kind,
        programs: &Programs,
        pki: &Pki,
        dir: &Path,
    ) -> Result<Self> {
        let (store_port, api_port) = (free_port()?, free_port()?);
        let log = |role: &str| dir.join(format!("{}-{role}.log", kind.name()));
        let (store_program, api_program) = match kind {
            Kind::Ours => (&programs.corten_store, &programs.corten_apiserver),
            Kind::Theirs => (&programs.etcd, &programs.kube_apiserver),
        };
        let data = dir.join(kind.name());
        let flags = store_flags(kind, pki, &data, store_port)?;
        let mut store = Process::start(store_program, &flags, log("store"))?;
        listening(&mut store, store_port).await?;
        let flags = api_flags(kind, pki, dir, store_port, api_port);
        let mut api = Process::start(api_program, &flags, log("apiserver"))?;
        let wire = Arc::new(AtomicU64::new(0));
        let target = |name: &str| Target::new(api_port, &pki.files(name), Arc::clone(&wire));
        let (admin, bench) = (target("admin")?, target("bench")?);
        ready(&mut api, &admin).await?;
        Ok(Self {
            kind,
            api,
            store,
            client: bench.client(CONNECTIONS).await?,
            admin,
            bench,
            wire,
            big: 0,
            has_pods: false,
        })
    }
}

fn store_flags(kind: Kind, pki: &Pki, data: &Path, port: u16) -> Result<Vec<String>> {
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let url = format!("https://127.0.0.1:{port}");
    let mut flags = vec![
        "--name=m0".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--initial-cluster=m0={peer}"),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--cert-file={}", pki.at("server", "crt").display()),
        format!("--key-file={}", pki.at("server", "key").display()),
        format!("--trusted-ca-file={}", pki.at("ca", "crt").display()),
        "--client-cert-auth".to_owned(),
    ];
    if kind == Kind::Theirs {
        flags.extend(["--logger=zap", "--log-level=error"].map(str::to_owned));
    }
    Ok(flags)
}

fn api_flags(kind: Kind, pki: &Pki, dir: &Path, store: u16, port: u16) -> Vec<String> {
    let store_prefix = match kind {
        Kind::Ours => "store",
        Kind::Theirs => "etcd",
    };
    let mut flags = vec![
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        // The loads' user belongs to the level of everybody else, which has a twelfth of the seats: room for a thousand clients.
        "--max-requests-inflight=10000".to_owned(),
        "--max-mutating-requests-inflight=5000".to_owned(),
    ];
    for (flag, name, ending) in [
        (format!("{store_prefix}-cafile"), "ca", "crt"),
        (format!("{store_prefix}-certfile"), "admin", "crt"),
        (format!("{store_prefix}-keyfile"), "admin", "key"),
        ("tls-cert-file".to_owned(), "server", "crt"),
        ("tls-private-key-file".to_owned(), "server", "key"),
        ("client-ca-file".to_owned(), "ca", "crt"),
        ("service-account-key-file".to_owned(), "sa", "pub"),
        ("service-account-signing-key-file".to_owned(), "sa", "key"),
    ] {
        flags.push(format!("--{flag}={}", pki.at(name, ending).display()));
    }
    let url = format!("https://127.0.0.1:{store}");
    match kind {
        Kind::Ours => flags.push(format!("--store-endpoints={url}")),
        Kind::Theirs => flags.extend([
            format!("--etcd-servers={url}"),
            format!("--cert-dir={}", dir.join("upstream-certs").display()),
            "--authorization-mode=Node,RBAC".to_owned(),
            // Ours restricts nodes always.
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            // Ours lets pods ask for it always; Pod Security is for those that must not.
            "--allow-privileged=true".to_owned(),
        ]),
    }
    flags
}

/// Waits until something takes connections at the port.
async fn listening(process: &mut Process, port: u16) -> Result<()> {
    let until = Instant::now() + READY_IN;
    while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_err()
    {
        patient(process, until, "does not listen").await?;
    }
    Ok(())
}

async fn ready(process: &mut Process, target: &Target) -> Result<()> {
    let until = Instant::now() + READY_IN;
    loop {
        let asked = async {
            let connection = target.connect().await?;
            let call = Call::get("/readyz".to_owned(), Format::Json);
            connection.call(call).await
        };
        match asked.await {
            Ok(_) => return Ok(()),
            Err(error) => patient(process, until, &format!("{error:#}")).await?,
        }
    }
}

/// A moment's rest, unless there is nothing to wait for any more.
async fn patient(process: &mut Process, until: Instant, why: &str) -> Result<()> {
    if process.has_ended()? || Instant::now() >= until {
        bail!(
            "a server is not ready: {why}; it wrote\n{}",
            process.last_lines()
        );
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
