//! Remote commands over SPDY: one stream each for error, stdin, stdout, stderr and resize.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::connection::{Connection, IncomingStream, StreamWriter};
use crate::server::remote::{self, BACKLOG, Output, Remote, terminal_size};
use crate::traits::{StreamRequest, StreamSession};

/// Time for the client to open all of its streams.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Streams {
    error: Option<IncomingStream>,
    stdin: Option<IncomingStream>,
    stdout: Option<IncomingStream>,
    stderr: Option<IncomingStream>,
    resize: Option<IncomingStream>,
}

/// Carries one session over the connection to its end.
pub(in crate::server) async fn remote(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    wanted: &StreamRequest,
    session: StreamSession,
) {
    let mut connection = Connection::start(io);
    let gathered = tokio::time::timeout(STREAMS_TIMEOUT, gather(&mut connection, wanted)).await;
    let Ok(Some(streams)) = gathered else {
        tracing::debug!("the client did not open its streams");
        return;
    };
    let (output, results) = mpsc::channel(BACKLOG);
    let (sizes, resize) = mpsc::channel(BACKLOG);
    // Without a stdin stream the queue is closed at once, which ends the process's input.
    let stdin = streams
        .stdin
        .map_or_else(|| mpsc::channel(1).1, |stream| stream.split().0);
    let resizing = async {
        let Some(stream) = streams.resize else { return };
        let (mut data, _writer) = stream.split();
        while let Some(bytes) = data.recv().await {
            for size in bytes.split(|byte| *byte == b'\n').filter_map(terminal_size) {
                // A lost size is followed by the next.
                let _ = sizes.try_send(size);
            }
        }
    };
    let writing = write(results, streams.stdout, streams.stderr, streams.error);
    let session = remote::run(
        session,
        Remote {
            stdin,
            resize,
            output,
        },
    );
    let work = async {
        tokio::join!(session, writing);
    };
    let closed = async {
        tokio::join!(resizing, async {
            while connection.accept().await.is_some() {}
        });
    };
    tokio::select! {
        biased;
        () = work => {}
        () = closed => {}
    }
}

async fn gather(connection: &mut Connection, wanted: &StreamRequest) -> Option<Streams> {
    let mut streams = Streams::default();
    loop {
        let complete = streams.error.is_some()
            && (!wanted.stdin || streams.stdin.is_some())
            && (!wanted.stdout || streams.stdout.is_some())
            && (!wanted.stderr || streams.stderr.is_some())
            && (!wanted.tty || streams.resize.is_some());
        if complete {
            return Some(streams);
        }
        let stream = connection.accept().await?;
        let place = match stream.header("streamtype") {
            Some("error") => &mut streams.error,
            Some("stdin") => &mut streams.stdin,
            Some("stdout") => &mut streams.stdout,
            Some("stderr") => &mut streams.stderr,
            Some("resize") => &mut streams.resize,
            _ => return None,
        };
        *place = Some(stream);
    }
}

async fn write(
    mut results: mpsc::Receiver<Output>,
    stdout: Option<IncomingStream>,
    stderr: Option<IncomingStream>,
    error: Option<IncomingStream>,
) {
    let writer = |stream: Option<IncomingStream>| stream.map(|stream| stream.split().1);
    let (stdout, stderr, error) = (writer(stdout), writer(stderr), writer(error));
    while let Some(output) = results.recv().await {
        let (to, bytes): (&Option<StreamWriter>, Bytes) = match output {
            Output::Stdout(bytes) => (&stdout, bytes),
            Output::Stderr(bytes) => (&stderr, bytes),
            Output::Exit(bytes) => (&error, bytes),
        };
        if let Some(writer) = to
            && writer.send(bytes).await.is_err()
        {
            return;
        }
    }
    for writer in [&stdout, &stderr, &error].into_iter().flatten() {
        writer.finish().await;
    }
}
