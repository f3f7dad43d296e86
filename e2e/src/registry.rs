//! A real OCI registry (Debian's docker-registry) beside the hosts of a lab, and images pushed to it by skopeo.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::image::{Recipe, build};
use crate::wait::until;

/// The name under which pods ask for images; no such host exists, the lab maps it.
pub const NAME: &str = "registry.test";
const PORT: u16 = 5000;

/// A running registry; ends with the value.
pub struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    /// Starts one at `ip` with a command that runs beside the hosts.
    pub fn start(dir: &Path, ip: &str, beside: impl Fn(&str) -> Command) -> Result<Self> {
        let root = dir.join("registry");
        std::fs::create_dir_all(&root)?;
        let address = format!("{ip}:{PORT}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            root.join("data").display()
        );
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
        let registry = Self { child, address };
        let url = format!("http://{}/v2/", registry.address);
        until("the registry answers", Duration::from_secs(10), || {
            let status = beside("curl")
                .args(["-fsS", "-o", "/dev/null", &url])
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

    /// Builds an image and pushes it as `NAME/<tag>`.
    pub fn push(
        &self,
        recipe: &Recipe,
        tag: &str,
        dir: &Path,
        beside: impl Fn(&str) -> Command,
    ) -> Result<()> {
        let archive = build(recipe, &format!("{NAME}/{tag}"), &dir.join("images"))?;
        let out = beside("skopeo")
            .args([
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "--insecure-policy",
            ])
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
