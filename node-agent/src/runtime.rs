//! Driving containers: start, watch, signal, exec, attach, remove. The command-line OCI driver below works through one
//! supervisor per container; a CRI client is the second driver this trait is for. It knows nothing of pods.

mod exec;
pub mod pty;
mod session;
pub mod spawn;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::cgroup::Cgroups;
use crate::supervisor::record::{
    ContainerDir, ExitRecord, StartedRecord, SuperviseSpec, process_start_ticks,
};
use crate::traits::{ContainerStats, StreamRequest, StreamSession};

/// A container known to a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub dir: ContainerDir,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct StartRequest {
    pub container: Container,
    /// RuntimeClass handler; empty for the default.
    pub handler: String,
    pub config: Value,
    pub layers: Vec<PathBuf>,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub log_path: PathBuf,
    pub cgroup_path: String,
}

/// What became of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartOutcome {
    Running(StartedRecord),
    Ended(ExitRecord),
}

/// A failure of the driver itself.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("no runtime for handler {0:?} is configured")]
    UnknownHandler(String),
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: io::Error,
    },
    #[error("container {0} is not running")]
    NotRunning(String),
    #[error("{0}")]
    Failed(String),
}

impl RuntimeError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// The result of a command in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub code: i32,
    /// stdout and stderr together, at most 10 KiB.
    pub output: String,
}

/// One way to run containers.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Creates and starts; returns once the first process runs or it is known that it never will.
    async fn start(&self, request: StartRequest) -> Result<StartOutcome, RuntimeError>;
    /// Finds a container of an earlier agent again. None: nothing was ever started in this directory.
    async fn recover(&self, container: &Container) -> Result<Option<StartOutcome>, RuntimeError>;
    /// Waits for the end. Cancel-safe.
    async fn wait(&self, container: &Container) -> Result<ExitRecord, RuntimeError>;
    /// Sends a signal to the first process; a container that is gone is not an error.
    async fn signal(&self, container: &Container, signal: i32) -> Result<(), RuntimeError>;
    /// Runs a command and waits; `Ok(None)` when it took longer than `timeout` (it is killed).
    async fn exec_sync(
        &self,
        container: &Container,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<Option<ExecOutput>, RuntimeError>;
    /// Runs a command with streams.
    async fn exec_stream(
        &self,
        container: &Container,
        command: &[String],
        request: &StreamRequest,
    ) -> Result<StreamSession, RuntimeError>;
    /// Joins the streams of the first process.
    async fn attach(
        &self,
        container: &Container,
        request: &StreamRequest,
    ) -> Result<StreamSession, RuntimeError>;
    /// Frees everything of an ended container, its directory included.
    async fn remove(&self, container: &Container) -> Result<(), RuntimeError>;
    fn stats(&self, container: &Container) -> ContainerStats;
}

/// Settings of the command-line driver.
#[derive(Clone, Debug)]
pub struct OciSettings {
    /// Handler name to executable; "" is the default.
    pub runtimes: std::collections::BTreeMap<String, PathBuf>,
    /// `--root` of the runtimes.
    pub root: PathBuf,
    /// The binary that has the `supervise` command; the agent itself unless a test says otherwise.
    pub supervisor: PathBuf,
    pub supervisor_cgroup: String,
    pub log_max_bytes: u64,
    pub log_max_files: usize,
}

/// crun, runc or any other OCI command line.
#[derive(Clone, Debug)]
pub struct OciRuntime {
    pub(crate) settings: OciSettings,
    pub(crate) cgroups: Cgroups,
}

/// The default runtime of this host: crun when there is one (it starts containers in half the time), else runc.
pub fn find_default() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    ["crun", "runc"].iter().find_map(|name| {
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    })
}

impl OciRuntime {
    pub fn new(settings: OciSettings, cgroups: Cgroups) -> Self {
        Self { settings, cgroups }
    }

    /// What must be hidden from this runtime: crun refuses hybrid cgroup layouts, others work as they are.
    pub(crate) fn cover_for(&self, runtime: &Path) -> Option<PathBuf> {
        let is_crun = runtime
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains("crun"));
        self.cgroups
            .hybrid_mount()
            .filter(|_| is_crun)
            .map(Path::to_owned)
    }

    fn supervise_spec(&self, request: &StartRequest) -> Result<SuperviseSpec, RuntimeError> {
        let runtime = self
            .settings
            .runtimes
            .get(&request.handler)
            .ok_or_else(|| RuntimeError::UnknownHandler(request.handler.clone()))?;
        Ok(SuperviseSpec {
            id: request.container.id.clone(),
            runtime: runtime.clone(),
            runtime_root: self.settings.root.clone(),
            layers: request.layers.clone(),
            tty: request.tty,
            stdin: request.stdin,
            stdin_once: request.stdin_once,
            log_path: request.log_path.clone(),
            log_max_bytes: self.settings.log_max_bytes,
            log_max_files: self.settings.log_max_files,
            cgroup_path: request.cgroup_path.clone(),
            supervisor_cgroup: self.settings.supervisor_cgroup.clone(),
            shared: shared_sources(&request.config),
            cover: self.cover_for(runtime),
        })
    }

    /// Ends what a vanished supervisor left behind and writes the record it owed.
    async fn bury(&self, container: &Container) -> Result<ExitRecord, RuntimeError> {
        if let Some(exit) = container.dir.exit() {
            return Ok(exit);
        }
        tracing::warn!(
            container = container.id,
            "the supervisor is gone; ending its container"
        );
        if let Ok(spec) = container.dir.spec() {
            self.runtime_call(&spec, &["delete", "--force", &container.id])
                .await?;
            self.cgroups.kill_all(&spec.cgroup_path);
            let _ = self.cgroups.remove(&spec.cgroup_path);
        }
        let exit = ExitRecord {
            exit_code: 137,
            signal: None,
            oom_killed: false,
            started_at: container.dir.started().map(|started| started.started_at),
            finished_at: Timestamp::now(),
            start_error: None,
            lost: true,
        };
        container
            .dir
            .write_exit(&exit)
            .map_err(RuntimeError::io("writing the exit record"))?;
        Ok(exit)
    }
}

/// Signals the recorded process if it still is that process. The descriptor is opened first, so that the process cannot
/// become another one between the look and the signal.
fn signal_recorded(started: &StartedRecord, signal: i32) {
    let pid = rustix::process::Pid::from_raw(started.pid);
    let signal = rustix::process::Signal::from_named_raw(signal);
    let (Some(pid), Some(signal)) = (pid, signal) else {
        return;
    };
    let flags = rustix::process::PidfdFlags::empty();
    if let Ok(handle) = rustix::process::pidfd_open(pid, flags)
        && process_start_ticks(started.pid) == Some(started.pid_start_ticks)
    {
        // It may have ended just now, which is as good.
        let _ = rustix::process::pidfd_send_signal(handle, signal);
    }
}

/// Sources of the mounts that are shared both ways.
fn shared_sources(config: &serde_json::Value) -> Vec<PathBuf> {
    let mounts = config["mounts"].as_array().into_iter().flatten();
    let shared = mounts.filter(|mount| {
        let mut options = mount["options"].as_array().into_iter().flatten();
        options.any(|option| option == crate::spec::mounts::SHARED)
    });
    shared
        .filter_map(|mount| mount["source"].as_str().map(PathBuf::from))
        .collect()
}

#[async_trait]
impl ContainerRuntime for OciRuntime {
    async fn start(&self, request: StartRequest) -> Result<StartOutcome, RuntimeError> {
        let spec = self.supervise_spec(&request)?;
        let dir = &request.container.dir;
        let config = serde_json::to_vec(&request.config)
            .map_err(|error| RuntimeError::Failed(error.to_string()))?;
        std::fs::create_dir_all(&dir.0)
            .and_then(|()| std::fs::create_dir_all(&self.settings.root))
            .and_then(|()| std::fs::write(dir.oci_config(), config))
            .and_then(|()| dir.write_spec(&spec))
            .map_err(RuntimeError::io("writing the container directory"))?;
        let word = spawn::supervisor(&self.settings.supervisor, dir).await?;
        if word == "started"
            && let Some(started) = dir.started()
        {
            return Ok(StartOutcome::Running(started));
        }
        if let Some(exit) = dir.exit() {
            return Ok(StartOutcome::Ended(exit));
        }
        let log = std::fs::read_to_string(dir.path("supervisor.log")).unwrap_or_default();
        let cause = log.lines().last().unwrap_or("it said nothing").to_owned();
        Err(RuntimeError::Failed(format!(
            "the container's supervisor failed: {cause}"
        )))
    }

    async fn recover(&self, container: &Container) -> Result<Option<StartOutcome>, RuntimeError> {
        // A supervisor that was just started may not have a record yet: it is given the time a slow create takes.
        for _ in 0..300 {
            if let Some(exit) = container.dir.exit() {
                return Ok(Some(StartOutcome::Ended(exit)));
            }
            if !container.dir.is_supervised() {
                break;
            }
            if let Some(started) = container.dir.started() {
                return Ok(Some(StartOutcome::Running(started)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if container.dir.started().is_some() {
            return self
                .bury(container)
                .await
                .map(|exit| Some(StartOutcome::Ended(exit)));
        }
        Ok(None)
    }

    async fn wait(&self, container: &Container) -> Result<ExitRecord, RuntimeError> {
        loop {
            if let Some(exit) = container.dir.exit() {
                return Ok(exit);
            }
            session::wait_for_exit(&container.dir).await;
            if let Some(exit) = container.dir.exit() {
                return Ok(exit);
            }
            if !container.dir.is_supervised() {
                return self.bury(container).await;
            }
            // The socket closed but the supervisor lives: it is about to write its record.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn signal(&self, container: &Container, signal: i32) -> Result<(), RuntimeError> {
        if container.dir.exit().is_some() {
            return Ok(());
        }
        let told = session::signal(&container.dir, signal).await.is_ok();
        // A supervisor that hangs takes the message and does nothing: the last word goes to the process itself, too.
        if told && signal != nix::sys::signal::Signal::SIGKILL as i32 {
            return Ok(());
        }
        if let Some(started) = container.dir.started() {
            signal_recorded(&started, signal);
        }
        Ok(())
    }

    async fn exec_sync(
        &self,
        container: &Container,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<Option<ExecOutput>, RuntimeError> {
        exec::sync(self, container, command, timeout).await
    }

    async fn exec_stream(
        &self,
        container: &Container,
        command: &[String],
        request: &StreamRequest,
    ) -> Result<StreamSession, RuntimeError> {
        exec::stream(self, container, command, request).await
    }

    async fn attach(
        &self,
        container: &Container,
        request: &StreamRequest,
    ) -> Result<StreamSession, RuntimeError> {
        session::attach(&container.dir, request)
            .await
            .map_err(|_| RuntimeError::NotRunning(container.id.clone()))
    }

    async fn remove(&self, container: &Container) -> Result<(), RuntimeError> {
        if container.dir.is_supervised() {
            self.signal(container, 9).await?;
            let _ = tokio::time::timeout(Duration::from_secs(10), self.wait(container)).await;
        } else if container.dir.started().is_some() {
            self.bury(container).await?;
        }
        // The supervisor's last clean-up steps come after its exit record.
        for _ in 0..100 {
            if !container.dir.is_supervised() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match std::fs::remove_dir_all(&container.dir.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RuntimeError::Io {
                what: "removing the container directory",
                source: error,
            }),
            _ => Ok(()),
        }
    }

    fn stats(&self, container: &Container) -> ContainerStats {
        container
            .dir
            .spec()
            .map(|spec| self.cgroups.stats(&spec.cgroup_path))
            .unwrap_or_default()
    }
}
