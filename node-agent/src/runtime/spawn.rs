//! Starting helper processes: supervisors, and runtime calls that must not see a hybrid cgroup tree.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::{OciRuntime, RuntimeError};
use crate::supervisor::mounts;
use crate::supervisor::record::{ContainerDir, SuperviseSpec};

/// Starts a supervisor and returns its first word: `started`, `failed`, or nothing when it died.
pub(super) async fn supervisor(binary: &Path, dir: &ContainerDir) -> Result<String, RuntimeError> {
    let log = File::create(dir.path("supervisor.log"))
        .map_err(RuntimeError::io("creating the supervisor's log"))?;
    let mut child = Command::new(binary)
        .arg("supervise")
        .arg("--bundle")
        .arg(&dir.0)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C on the agent's terminal must not reach it.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(RuntimeError::io("starting the supervisor"))?;
    let mut word = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut buffer = [0_u8; 16];
        let count = stdout
            .read(&mut buffer)
            .await
            .map_err(RuntimeError::io("listening to the supervisor"))?;
        word = String::from_utf8_lossy(&buffer[..count]).into_owned();
    }
    // Reaped when it ends; dropping a tokio child leaves it running.
    corten_base::tasks::spawn(
        "supervisor-reaper",
        corten_base::tasks::TaskKind::Background,
        async move {
            let _ = child.wait().await;
        },
    );
    Ok(word)
}

/// Gives a child its own mount namespace with `cover` hidden. Does nothing without a cover.
#[expect(unsafe_code, reason = "the steps must run between fork and exec")]
pub(super) fn hide(command: &mut Command, cover: Option<PathBuf>) {
    let Some(cover) = cover else { return };
    let steps = move || {
        mounts::own_mount_namespace()?;
        mounts::cover(&cover)
    };
    // SAFETY: the closure only makes system calls on paths allocated before the fork; it takes no lock and
    // allocates nothing (nix turns short paths into C strings on the stack).
    unsafe { command.pre_exec(steps) };
}

impl OciRuntime {
    /// A command of the runtime that owns a container.
    pub(super) fn command(&self, spec: &SuperviseSpec) -> Command {
        let mut command = Command::new(&spec.runtime);
        command
            .arg("--root")
            .arg(&spec.runtime_root)
            .stdin(Stdio::null());
        hide(&mut command, spec.cover.clone());
        command
    }

    /// Runs a short runtime command; its failure is only logged (deleting what is gone fails, and that is fine).
    pub(super) async fn runtime_call(
        &self,
        spec: &SuperviseSpec,
        args: &[&str],
    ) -> Result<(), RuntimeError> {
        let output = self
            .command(spec)
            .args(args)
            .output()
            .await
            .map_err(RuntimeError::io("calling the OCI runtime"))?;
        if !output.status.success() {
            tracing::debug!(
                ?args,
                "runtime: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }
}
