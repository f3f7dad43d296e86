//! A real OCI registry (Debian's docker-registry) beside the hosts of a lab, and images pushed to it by skopeo.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::image::{Recipe, build};
use crate::wait::until;

/// The name under which pods ask for images; no such host exists, the lab maps it.
pub const NAME: &str = "registry.test";
/// Its port.
pub const PORT: u16 = 5000;

/// Who may use a private registry: the only user, with the password as docker-registry wants it hashed.
pub const USER: (&str, &str) = ("corten", "s3cret");
const HTPASSWD: &str = "corten:$2b$04$j.GWzvjMDMxgHmCPzF51gOmWHrnd89wgNr2jX90/wr4ujiuwtUz5m\n";

/// A running registry; ends with the value.
pub struct Registry {
    child: Child,
    address: String,
    private: bool,
    root: PathBuf,
}

impl Registry {
    /// Starts one at `ip` with a command that runs beside the hosts; `private` ones ask who is there. Its data is in
    /// `<dir>/registry-<port>`.
    pub fn start(
        dir: &Path,
        (ip, port): (&str, u16),
        private: bool,
        beside: impl Fn(&str) -> Command,
    ) -> Result<Self> {
        let root = dir.join(format!("registry-{port}"));
        std::fs::create_dir_all(&root)?;
        let address = format!("{ip}:{port}");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            root.join("data").display()
        );
        if private {
            let users = root.join("htpasswd");
            std::fs::write(&users, HTPASSWD)?;
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: corten, path: {}}}}}\n",
                users.display()
            ));
        }
        let file = root.join("config.yml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(root.join("log"))?;
        let mut command = beside("docker-registry");
        command
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().context("docker-registry is missing")?;
        let registry = Self {
            child,
            address,
            private,
            root,
        };
        let url = format!("http://{}/v2/", registry.address);
        until("the registry answers", Duration::from_secs(10), || {
            // A private one answers too, if only to ask for a password.
            let status = beside("curl")
                .args(["-sS", "-o", "/dev/null", &url])
                .stderr(Stdio::null())
                .status();
            if status.is_ok_and(|status| status.success()) {
                Ok(())
            } else {
                Err("no answer".to_owned())
            }
        })?;
        Ok(registry)
    }

    /// Where hosts reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file that holds a blob (`sha256:...`).
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.root
            .join("data/docker/registry/v2/blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    /// Builds an image and pushes it as `NAME/<tag>`.
    pub fn push(
        &self,
        recipe: &Recipe,
        tag: &str,
        dir: &Path,
        beside: impl Fn(&str) -> Command,
    ) -> Result<()> {
        let archive = build(recipe, &format!("{NAME}/{tag}"), &dir.join("images"))?;
        let mut command = beside("skopeo");
        command.args([
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            "--insecure-policy",
        ]);
        if self.private {
            command.arg(format!("--dest-creds={}:{}", USER.0, USER.1));
        }
        let out = command
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{tag}", self.address))
            .output()
            .context("skopeo is missing")?;
        if !out.status.success() {
            bail!(
                "cannot push {tag}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
