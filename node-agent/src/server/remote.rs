//! Between a session (the process's streams) and whatever carries it to the client: bounded queues both ways, one exit.

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::traits::{StreamExit, StreamSession, TerminalSize};

/// Chunks in flight each way; a slow peer makes the other side wait.
pub(super) const BACKLOG: usize = 16;
/// What is read from a process at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// What goes to the client.
#[derive(Debug)]
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The last: a metav1.Status as JSON.
    Exit(Bytes),
}

/// The client's side of a session.
pub(super) struct Remote {
    /// Closed when the client has ended its input.
    pub(super) stdin: mpsc::Receiver<Bytes>,
    pub(super) resize: mpsc::Receiver<TerminalSize>,
    pub(super) output: mpsc::Sender<Output>,
}

/// Runs the session to its exit, or until the client is gone: then dropping it ends an exec'd process.
pub(super) async fn run(session: StreamSession, remote: Remote) {
    let StreamSession {
        stdin,
        stdout,
        stderr,
        resize,
        exit,
    } = session;
    let Remote {
        stdin: mut input,
        resize: mut sizes,
        output,
    } = remote;
    let feed = async {
        let Some(mut stdin) = stdin else { return };
        while let Some(bytes) = input.recv().await {
            if stdin.write_all(&bytes).await.is_err() {
                return; // the process has closed its input
            }
            // Terminals and line-based programs wait for it.
            let _ = stdin.flush().await;
        }
        let _ = stdin.shutdown().await;
    };
    let sizes = async {
        let Some(resize) = resize else { return };
        while let Some(size) = sizes.recv().await {
            if resize.send(size).await.is_err() {
                return;
            }
        }
    };
    let work = async {
        tokio::join!(
            pump(stdout, &output, Output::Stdout),
            pump(stderr, &output, Output::Stderr)
        );
        let ended = exit.await.unwrap_or_else(|_| {
            StreamExit::Failed("the session ended without an exit code".to_owned())
        });
        // The client may be gone by now.
        let _ = output.send(Output::Exit(status(&ended))).await;
    };
    let input = async {
        tokio::join!(feed, sizes);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = work => {}
        () = output.closed() => {}
        () = input => {}
    }
}

async fn pump(
    from: Option<Box<dyn AsyncRead + Send + Unpin>>,
    to: &mpsc::Sender<Output>,
    wrap: fn(Bytes) -> Output,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK_BYTES];
    // A terminal's end shows as an error: the other side was closed.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to
            .send(wrap(Bytes::copy_from_slice(&buffer[..count])))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// The Status that kubectl takes a command's exit code from.
pub(super) fn status(exit: &StreamExit) -> Bytes {
    let value = match exit {
        StreamExit::Code(0) | StreamExit::Detached => json!({"metadata": {}, "status": "Success"}),
        StreamExit::Code(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        StreamExit::Failed(message) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: error executing command in container: {message}"),
        }),
    };
    Bytes::from(value.to_string())
}

/// Reads `{"Width":80,"Height":24}`, as every protocol here sends it.
pub(super) fn terminal_size(bytes: &[u8]) -> Option<TerminalSize> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| {
        value
            .get(name)
            .and_then(serde_json::Value::as_u64)
            .and_then(|n| u16::try_from(n).ok())
    };
    Some(TerminalSize {
        width: side("Width")?,
        height: side("Height")?,
    })
}
