//! The agent's side of a supervisor's socket: wait for the exit, send a signal, attach.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use corten_base::tasks::{self, TaskKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::supervisor::protocol::{self, AttachHello, Kind};
use crate::supervisor::record::{ContainerDir, SOCKET};
use crate::traits::{StreamExit, StreamRequest, StreamSession, TerminalSize};

/// Bytes in flight between a client and the supervisor, per stream.
const PIPE_BYTES: usize = 64 * 1024;

/// Connects through a descriptor of the directory: its own path may be longer than a socket address.
async fn connect(dir: &ContainerDir) -> io::Result<UnixStream> {
    let handle = File::open(&dir.0)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd())).await
}

async fn send(stream: &mut UnixStream, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + protocol::HEADER);
    protocol::encode(kind, payload, &mut frame);
    stream.write_all(&frame).await
}

/// Returns when the supervisor says that it is over, or goes away, or cannot be reached.
pub(super) async fn wait_for_exit(dir: &ContainerDir) {
    let Ok(mut stream) = connect(dir).await else {
        return;
    };
    if send(&mut stream, Kind::Watch, &[]).await.is_err() {
        return;
    }
    let mut buffer = [0_u8; 1024];
    // The record itself is read from disk; only the end of the stream matters.
    while matches!(stream.read(&mut buffer).await, Ok(count) if count > 0) {}
}

/// Asks the supervisor to signal its container.
pub(super) async fn signal(dir: &ContainerDir, number: i32) -> io::Result<()> {
    let mut stream = connect(dir).await?;
    send(&mut stream, Kind::Signal, &number.to_be_bytes()).await?;
    stream.shutdown().await
}

/// Joins the container's streams.
pub(super) async fn attach(
    dir: &ContainerDir,
    request: &StreamRequest,
) -> io::Result<StreamSession> {
    let mut stream = connect(dir).await?;
    let hello = AttachHello {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let hello = serde_json::to_vec(&hello).map_err(io::Error::other)?;
    send(&mut stream, Kind::Attach, &hello).await?;
    let (reader, mut writer) = stream.into_split();
    let (stdin, mut from_client) = tokio::io::duplex(PIPE_BYTES);
    let (stdout, to_stdout) = tokio::io::duplex(PIPE_BYTES);
    let (stderr, to_stderr) = tokio::io::duplex(PIPE_BYTES);
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(4);
    let (exit_sender, exit) = oneshot::channel();
    let wants_stdin = request.stdin;
    let over = CancellationToken::new();
    let guard = over.clone().drop_guard();
    tasks::spawn("attach-in", TaskKind::Connection, async move {
        let mut buffer = vec![0_u8; 16 * 1024];
        let (mut reading, mut resizing) = (wants_stdin, true);
        while reading || resizing {
            let mut frame = Vec::new();
            tokio::select! {
                biased;
                size = sizes.recv(), if resizing => match size {
                    Some(TerminalSize { width, height }) => {
                        let bytes = [width.to_be_bytes(), height.to_be_bytes()].concat();
                        protocol::encode(Kind::Resize, &bytes, &mut frame);
                    }
                    None => resizing = false,
                },
                count = from_client.read(&mut buffer), if reading => match count {
                    Ok(count) if count > 0 => protocol::encode(Kind::Stdin, &buffer[..count], &mut frame),
                    _ => {
                        reading = false;
                        protocol::encode(Kind::StdinClose, &[], &mut frame);
                    }
                },
                () = over.cancelled() => return,
            }
            if writer.write_all(&frame).await.is_err() {
                return;
            }
        }
        // Held open: closing it would detach the output too.
        over.cancelled().await;
    });
    tasks::spawn("attach-out", TaskKind::Connection, async move {
        let _guard = guard;
        copy_out(reader, to_stdout, to_stderr, exit_sender).await;
    });
    Ok(StreamSession {
        stdin: request.stdin.then(|| Box::new(stdin) as _),
        stdout: request.stdout.then(|| Box::new(stdout) as _),
        stderr: request.stderr.then(|| Box::new(stderr) as _),
        resize: request.tty.then_some(resize),
        exit,
    })
}

async fn copy_out(
    mut reader: tokio::net::unix::OwnedReadHalf,
    mut stdout: tokio::io::DuplexStream,
    mut stderr: tokio::io::DuplexStream,
    mut exit: oneshot::Sender<StreamExit>,
) {
    let mut buffer = Vec::new();
    loop {
        let count = tokio::select! {
            biased;
            count = reader.read_buf(&mut buffer) => count,
            // The client is gone; dropping the reader detaches.
            () = exit.closed() => return,
        };
        let ended = !matches!(count, Ok(count) if count > 0);
        loop {
            match protocol::decode(&mut buffer) {
                Ok(Some((Kind::Stdout, bytes))) => {
                    let _ = stdout.write_all(&bytes).await;
                }
                Ok(Some((Kind::Stderr, bytes))) => {
                    let _ = stderr.write_all(&bytes).await;
                }
                Ok(Some((Kind::Exit, json))) => {
                    let record: Result<crate::supervisor::record::ExitRecord, _> =
                        serde_json::from_slice(&json);
                    let _ = exit.send(match record {
                        Ok(record) => StreamExit::Code(record.exit_code),
                        Err(_) => StreamExit::Detached,
                    });
                    return;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(protocol::Malformed) => {
                    let _ = exit.send(StreamExit::Detached);
                    return;
                }
            }
        }
        if ended {
            let _ = exit.send(StreamExit::Detached);
            return;
        }
    }
}
