//! The cluster's keys and certificates, as files: made once, renewed when they near their end, never overwritten otherwise.
//! It decides names and usages; the making itself is `corten_base::pki`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use corten_base::pki::{
    Authority, CertRequest, Usage, signing_key_pair, write_private, write_public,
};
use corten_base::tls::TlsFiles;
use rand::RngCore;

/// File name of the authority, without ending.
const CA: &str = "ca";
/// File name of the authority of the store alone: whoever has a certificate of the other one, as each node has, must not get
/// at the store behind the API's back.
const STORE_CA: &str = "store-ca";
/// A name in the certificates of the store's members alone: its authority signs for the API server too, which must not speak
/// as a member.
pub(crate) const STORE_MEMBER: &str = "member.store.corten.internal";

/// The folder that holds a cluster's PKI.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

/// Where an apiserver can be reached, for its certificate.
#[derive(Clone, Debug, Default)]
pub struct ServerNames {
    /// Host names beyond the in-cluster ones.
    pub dns: Vec<String>,
    /// Addresses beyond loopback and the service address.
    pub ips: Vec<IpAddr>,
}

impl Pki {
    /// Opens the folder, making the authority, the service-account key pair and the encryption key where they are missing.
    pub fn ensure(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let pki = Self {
            dir: dir.to_owned(),
        };
        for authority in [CA, STORE_CA] {
            if !pki.path(&format!("{authority}.crt")).exists() {
                Authority::create(&format!("corten-{authority}"))?.write(dir, authority)?;
            }
        }
        if !pki.path("service-account.key").exists() {
            let (private, public) = signing_key_pair()?;
            write_public(&pki.path("service-account.pub"), &public)?;
            write_private(&pki.path("service-account.key"), &private)?;
        }
        if !pki.path("encryption.key").exists() {
            let mut key = [0u8; 32];
            rand::rng().fill_bytes(&mut key);
            let text = base64::engine::general_purpose::STANDARD.encode(key);
            write_private(&pki.path("encryption.key"), &text)?;
        }
        Ok(pki)
    }

    /// A file of this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The three files of the certificate `name`.
    pub fn tls(&self, name: &str) -> TlsFiles {
        self.files(CA, name)
    }

    /// The three files of the certificate `name` that is good for the store: a member's, or a client's of the store.
    pub fn store_tls(&self, name: &str) -> TlsFiles {
        self.files(STORE_CA, name)
    }

    fn files(&self, authority: &str, name: &str) -> TlsFiles {
        TlsFiles {
            ca: self.path(&format!("{authority}.crt")),
            cert: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        }
    }

    /// The API server's certificates: its own, its identity towards the store, its identity towards node agents.
    pub fn apiserver(&self, names: &ServerNames, service_ip: IpAddr) -> Result<()> {
        let mut dns: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ]
        .map(str::to_owned)
        .to_vec();
        dns.push("kubernetes.default.svc.cluster.local".to_owned());
        dns.extend(names.dns.iter().cloned());
        let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), service_ip];
        ips.extend(names.ips.iter().copied());
        self.issue(
            "apiserver",
            request("kube-apiserver", &[], Usage::Server, dns, ips),
        )?;
        let store_client = request(
            "corten-apiserver",
            &[],
            Usage::Client,
            Vec::new(),
            Vec::new(),
        );
        self.issue_by(STORE_CA, "apiserver-store-client", store_client)?;
        self.client(
            "apiserver-node-client",
            "kube-apiserver-kubelet-client",
            &["system:masters"],
        )
    }

    /// A store member's certificate, for clients and peers.
    pub fn store(&self, member: &str, ips: &[IpAddr]) -> Result<()> {
        let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        all.extend_from_slice(ips);
        let name = format!("store-{member}");
        let dns = vec![
            "localhost".to_owned(),
            member.to_owned(),
            STORE_MEMBER.to_owned(),
        ];
        self.issue_by(STORE_CA, &name, request(&name, &[], Usage::Both, dns, all))
    }

    /// The identities of the control plane's clients: scheduler, controllers, proxy and the administrator.
    pub fn control_plane(&self) -> Result<()> {
        self.client("scheduler", "system:kube-scheduler", &[])?;
        self.client("controllers", "system:kube-controller-manager", &[])?;
        self.client("proxy", "system:kube-proxy", &[])?;
        self.client("admin", "kubernetes-admin", &["system:masters"])
    }

    /// A node agent's certificate: its identity as a client, and its server certificate on port 10250.
    pub fn node(&self, node: &str, ips: &[IpAddr]) -> Result<()> {
        let user = format!("system:node:{node}");
        let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        all.extend_from_slice(ips);
        let dns = vec![node.to_owned(), "localhost".to_owned()];
        self.issue(
            &format!("node-{node}"),
            request(&user, &["system:nodes"], Usage::Both, dns, all),
        )
    }

    fn client(&self, file: &str, user: &str, groups: &[&str]) -> Result<()> {
        self.issue(
            file,
            request(user, groups, Usage::Client, Vec::new(), Vec::new()),
        )
    }

    /// Issues when the certificate is missing. Changed names need the file removed: the launcher says so in its runbook.
    fn issue(&self, file: &str, request: CertRequest) -> Result<()> {
        self.issue_by(CA, file, request)
    }

    fn issue_by(&self, authority: &str, file: &str, request: CertRequest) -> Result<()> {
        let files = self.files(authority, file);
        if files.cert.exists() && files.key.exists() {
            return Ok(());
        }
        let authority = Authority::load(&self.dir, authority)?;
        authority.issue_to_files(&request, &files.cert, &files.key)?;
        Ok(())
    }
}

fn request(
    user: &str,
    groups: &[&str],
    usage: Usage,
    dns_names: Vec<String>,
    ips: Vec<IpAddr>,
) -> CertRequest {
    CertRequest {
        common_name: user.to_owned(),
        organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
        dns_names,
        ips,
        usage,
        ..CertRequest::default()
    }
}

/// A kubeconfig that carries its credentials inside, so that one file is all a person needs.
pub fn kubeconfig(pki: &Pki, server: &str, cluster: &str, user: &str) -> Result<String> {
    let encode = |path: &Path| -> Result<String> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    let files = pki.tls(user);
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {
            "server": server,
            "certificate-authority-data": encode(&files.ca)?,
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": encode(&files.cert)?,
            "client-key-data": encode(&files.key)?,
        }}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The authority that signed a certificate: its name comes before any other in there.
    fn issuer(files: &TlsFiles) -> &'static str {
        let text = std::fs::read_to_string(&files.cert).expect("a certificate");
        let pem: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD
            .decode(pem)
            .expect("base64");
        let first = |name: &str| {
            der.windows(name.len())
                .position(|part| part == name.as_bytes())
        };
        let names = ["corten-ca", "corten-store-ca"];
        let found = names
            .into_iter()
            .filter_map(|name| first(name).map(|at| (at, name)));
        found.min().expect("an issuer").1
    }

    #[test]
    fn no_certificate_of_a_node_or_a_component_opens_the_store() {
        let dir = tempfile::tempdir().expect("a folder");
        let pki = Pki::ensure(dir.path()).expect("authorities");
        pki.apiserver(
            &ServerNames::default(),
            IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
        )
        .expect("issued");
        pki.control_plane().expect("issued");
        pki.store("m1", &[]).expect("issued");
        pki.node("n1", &[]).expect("issued");
        for name in ["store-m1", "apiserver-store-client"] {
            assert_eq!(issuer(&pki.store_tls(name)), "corten-store-ca", "{name}");
            assert_eq!(pki.store_tls(name).ca, dir.path().join("store-ca.crt"));
        }
        for name in [
            "node-n1",
            "proxy",
            "scheduler",
            "controllers",
            "admin",
            "apiserver",
        ] {
            assert_eq!(issuer(&pki.tls(name)), "corten-ca", "{name}");
        }
    }
}
