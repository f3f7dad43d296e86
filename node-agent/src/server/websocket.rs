//! Remote commands over WebSocket: one byte names the channel, the rest is its data (v4.channel.k8s.io, and v5, which adds
//! that a channel can be closed).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::remote::{self, BACKLOG, Output, Remote, terminal_size};
use crate::traits::StreamSession;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Middle boxes cut idle connections after a minute or more.
const PING_INTERVAL: Duration = Duration::from_secs(30);

pub(super) async fn accept(upgraded: Upgraded) -> Socket {
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await
}

/// Carries one session over the socket to its end.
pub(super) async fn remote(socket: Socket, session: StreamSession) {
    let (mut sink, mut source) = socket.split();
    let (stdin, stdin_receiver) = mpsc::channel(BACKLOG);
    let (resize, resize_receiver) = mpsc::channel(BACKLOG);
    let (output, mut results) = mpsc::channel(BACKLOG);
    let reader = async move {
        let mut stdin = Some(stdin);
        while let Some(Ok(message)) = source.next().await {
            let Message::Binary(data) = message else {
                if matches!(message, Message::Close(_)) {
                    return;
                }
                continue;
            };
            match data.first() {
                Some(&STDIN) => {
                    if let Some(sender) = &stdin
                        && sender.send(data.slice(1..)).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some(&RESIZE) => {
                    if let Some(size) = terminal_size(&data[1..]) {
                        // A lost size is followed by the next.
                        let _ = resize.try_send(size);
                    }
                }
                Some(&CLOSE) if data.get(1) == Some(&STDIN) => stdin = None,
                _ => {}
            }
        }
    };
    let writer = async move {
        loop {
            let next = tokio::time::timeout(PING_INTERVAL, results.recv()).await;
            let message = match next {
                Err(_) => Message::Ping(Bytes::new()),
                Ok(None) => break,
                Ok(Some(Output::Stdout(bytes))) => framed(STDOUT, &bytes),
                Ok(Some(Output::Stderr(bytes))) => framed(STDERR, &bytes),
                Ok(Some(Output::Exit(bytes))) => framed(ERROR, &bytes),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // Clients take a close without a code for a broken connection, and lose the exit status.
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = sink.send(Message::Close(Some(normal))).await;
        let _ = sink.close().await;
    };
    let session = remote::run(
        session,
        Remote {
            stdin: stdin_receiver,
            resize: resize_receiver,
            output,
        },
    );
    // The writer ends behind the session; the reader alone ends it early: the client is gone.
    let work = async {
        tokio::join!(session, writer);
    };
    tokio::select! {
        biased;
        () = work => {}
        () = reader => {}
    }
}

fn framed(channel: u8, bytes: &[u8]) -> Message {
    let mut frame = BytesMut::with_capacity(bytes.len() + 1);
    frame.put_u8(channel);
    frame.put_slice(bytes);
    Message::Binary(frame.freeze())
}

/// The most that the tunnel holds for either side.
const TUNNEL_BYTES: usize = 64 * 1024;

/// A byte stream through the socket's binary messages (`SPDY/3.1+portforward.k8s.io`). The pump ends with either side.
pub(super) fn tunnel(socket: Socket) -> (DuplexStream, impl Future<Output = ()>) {
    let (ours, theirs) = tokio::io::duplex(TUNNEL_BYTES);
    let pump = async move {
        let (mut sink, mut source) = socket.split();
        let (mut read, mut write) = tokio::io::split(theirs);
        let inward = async {
            while let Some(Ok(message)) = source.next().await {
                match message {
                    Message::Binary(data) if write.write_all(&data).await.is_err() => break,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
            let _ = write.shutdown().await;
        };
        let outward = async {
            let mut buffer = vec![0; TUNNEL_BYTES];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                if sink
                    .send(Message::Binary(Bytes::copy_from_slice(&buffer[..count])))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            let _ = sink.close().await;
        };
        tokio::select! {
            biased;
            () = outward => {}
            () = inward => {}
        }
    };
    (ours, pump)
}
