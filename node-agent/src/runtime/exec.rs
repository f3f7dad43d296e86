//! Commands in running containers, by the runtime's own `exec`. The process description is the container's, with other
//! arguments: same user, environment, capabilities and filters.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use corten_base::tasks::{self, TaskKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use super::{Container, ExecOutput, OciRuntime, RuntimeError, pty};
use crate::traits::{StreamExit, StreamRequest, StreamSession, TerminalSize};

/// What is kept of a synchronous command's output.
const OUTPUT_MAX: usize = 10 * 1024;
/// Size of a terminal before the client says.
const TERMINAL: TerminalSize = TerminalSize {
    width: 80,
    height: 24,
};
/// Grandchildren may hold the pipes open after a command ended; its output ends this much later.
const OUTPUT_DRAIN: Duration = Duration::from_millis(500);

/// The files of one exec; removed when dropped.
struct ExecFiles {
    process: PathBuf,
    pid: PathBuf,
}

impl Drop for ExecFiles {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.process);
        let _ = std::fs::remove_file(&self.pid);
    }
}

fn prepare(
    runtime: &OciRuntime,
    container: &Container,
    command: &[String],
    tty: bool,
) -> Result<(Command, ExecFiles), RuntimeError> {
    if container.dir.exit().is_some() || container.dir.started().is_none() {
        return Err(RuntimeError::NotRunning(container.id.clone()));
    }
    let spec = container
        .dir
        .spec()
        .map_err(RuntimeError::io("reading the container directory"))?;
    let config = std::fs::read(container.dir.oci_config())
        .map_err(RuntimeError::io("reading the container configuration"))?;
    let config: Value =
        serde_json::from_slice(&config).map_err(|error| RuntimeError::Failed(error.to_string()))?;
    let mut process = config["process"].clone();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    let names_terminal = |e: &Value| e.as_str().is_some_and(|e| e.starts_with("TERM="));
    if tty
        && let Some(env) = process["env"].as_array_mut()
        && !env.iter().any(names_terminal)
    {
        env.push(json!("TERM=xterm"));
    }
    let stem = format!("exec-{}", uuid::Uuid::new_v4().simple());
    let files = ExecFiles {
        process: container.dir.path(&format!("{stem}.json")),
        pid: container.dir.path(&format!("{stem}.pid")),
    };
    let bytes =
        serde_json::to_vec(&process).map_err(|error| RuntimeError::Failed(error.to_string()))?;
    std::fs::write(&files.process, bytes)
        .map_err(RuntimeError::io("writing the exec description"))?;
    let mut call = runtime.command(&spec);
    call.arg("exec")
        .arg("--process")
        .arg(&files.process)
        .arg("--pid-file")
        .arg(&files.pid);
    if tty {
        call.arg("--tty");
    }
    call.arg(&container.id).kill_on_drop(true);
    Ok((call, files))
}

/// Kills the exec'd process itself; the runtime then reports its end.
fn kill_process(files: &ExecFiles) {
    let text = std::fs::read_to_string(&files.pid).unwrap_or_default();
    if let Ok(pid) = text.trim().parse::<i32>()
        && pid > 1
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

async fn exit_code(child: &mut Child) -> Result<i32, RuntimeError> {
    use std::os::unix::process::ExitStatusExt;
    let status = child
        .wait()
        .await
        .map_err(RuntimeError::io("waiting for exec"))?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

pub(super) async fn sync(
    runtime: &OciRuntime,
    container: &Container,
    command: &[String],
    timeout: Option<Duration>,
) -> Result<Option<ExecOutput>, RuntimeError> {
    let (mut call, files) = prepare(runtime, container, command, false)?;
    let mut child = call
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(RuntimeError::io("starting exec"))?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let limit = timeout.unwrap_or(Duration::from_secs(24 * 3600));
    let collect = async {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        tokio::join!(
            read_some(out.as_mut(), &mut first),
            read_some(err.as_mut(), &mut second)
        );
        first.extend(second);
        first.truncate(OUTPUT_MAX);
        first
    };
    tokio::pin!(collect);
    let ended = tokio::time::timeout(limit, async {
        let mut collected = None;
        let code = {
            let waiting = exit_code(&mut child);
            tokio::pin!(waiting);
            loop {
                tokio::select! {
                    biased;
                    output = &mut collect, if collected.is_none() => collected = Some(output),
                    code = &mut waiting => break code,
                }
            }
        };
        if collected.is_none() {
            collected = tokio::time::timeout(OUTPUT_DRAIN, &mut collect).await.ok();
        }
        (code, collected)
    })
    .await;
    match ended {
        Ok((code, output)) => Ok(Some(ExecOutput {
            code: code?,
            output: String::from_utf8_lossy(&output.unwrap_or_default()).into_owned(),
        })),
        Err(_elapsed) => {
            kill_process(&files);
            let _ = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
            Ok(None)
        }
    }
}

async fn read_some<R: tokio::io::AsyncRead + Unpin>(from: Option<&mut R>, into: &mut Vec<u8>) {
    let Some(from) = from else { return };
    let mut buffer = [0_u8; 4096];
    // Beyond the limit the rest is read and dropped, so that the command is not blocked.
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let room = OUTPUT_MAX.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..count.min(room)]);
    }
}

pub(super) async fn stream(
    runtime: &OciRuntime,
    container: &Container,
    command: &[String],
    request: &StreamRequest,
) -> Result<StreamSession, RuntimeError> {
    let (mut call, files) = prepare(runtime, container, command, request.tty)?;
    let (exit_sender, exit) = oneshot::channel();
    if request.tty {
        let (master, slave) =
            pty::open(TERMINAL).map_err(RuntimeError::io("opening a terminal"))?;
        own_terminal(&mut call);
        let copy = || {
            slave
                .try_clone()
                .map_err(RuntimeError::io("opening a terminal"))
        };
        call.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        let child = call.spawn().map_err(RuntimeError::io("starting exec"))?;
        drop((call, slave));
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
        let sized = master.clone();
        tasks::spawn("exec-resize", TaskKind::Connection, async move {
            while let Some(size) = sizes.recv().await {
                let _ = sized.resize(size);
            }
        });
        tasks::spawn(
            "exec-wait",
            TaskKind::Connection,
            finish(child, files, exit_sender),
        );
        return Ok(StreamSession {
            stdin: request.stdin.then(|| Box::new(master.clone()) as _),
            stdout: Some(Box::new(master)),
            stderr: None,
            resize: Some(resize),
            exit,
        });
    }
    if request.stdin {
        call.stdin(Stdio::piped());
    }
    call.stdout(if request.stdout {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    call.stderr(if request.stderr {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    let mut child = call.spawn().map_err(RuntimeError::io("starting exec"))?;
    let session = StreamSession {
        stdin: child.stdin.take().map(|pipe| Box::new(pipe) as _),
        stdout: child.stdout.take().map(|pipe| Box::new(pipe) as _),
        stderr: child.stderr.take().map(|pipe| Box::new(pipe) as _),
        resize: None,
        exit,
    };
    tasks::spawn(
        "exec-wait",
        TaskKind::Connection,
        finish(child, files, exit_sender),
    );
    Ok(session)
}

/// Waits for the command, or kills it when the session was dropped.
async fn finish(mut child: Child, files: ExecFiles, mut sender: oneshot::Sender<StreamExit>) {
    let exit = tokio::select! {
        biased;
        code = exit_code(&mut child) => match code {
            Ok(code) => StreamExit::Code(code),
            Err(error) => StreamExit::Failed(error.to_string()),
        },
        () = sender.closed() => {
            kill_process(&files);
            let _ = tokio::time::timeout(OUTPUT_DRAIN, child.wait()).await;
            return;
        }
    };
    let _ = sender.send(exit);
}

/// Makes the child's stdin its controlling terminal, so that resizing reaches the runtime as a signal.
#[expect(unsafe_code, reason = "the steps must run between fork and exec")]
fn own_terminal(call: &mut Command) {
    let steps = || {
        nix::unistd::setsid()?;
        rustix::process::ioctl_tiocsctty(std::io::stdin())?;
        Ok(())
    };
    // SAFETY: two system calls, no allocation, no lock.
    unsafe { call.pre_exec(steps) };
}
