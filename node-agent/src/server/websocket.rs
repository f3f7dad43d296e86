//! Remote commands over WebSocket: one byte names the channel, the rest is its data (v4.channel.k8s.io, and v5, which adds
//! that a channel can be closed). In the base64 protocols that byte is a digit and all is text; in those without a version the
//! end is told in words, and only when it was not a good one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitSink;
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

/// How a protocol writes its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    base64: bool,
    /// Whether the end comes as a Status.
    status: bool,
}

impl Framing {
    /// Of a protocol that was agreed on.
    pub(super) fn of(protocol: &str) -> Self {
        Self {
            base64: protocol.contains("base64."),
            status: protocol.starts_with('v'),
        }
    }

    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            return Message::Text(format!("{channel}{}", BASE64.encode(bytes)).into());
        }
        let mut frame = BytesMut::with_capacity(bytes.len() + 1);
        frame.put_u8(channel);
        frame.put_slice(bytes);
        Message::Binary(frame.freeze())
    }

    /// The last message about the command, if there is one.
    fn end(self, status: &[u8]) -> Option<Message> {
        if self.status {
            return Some(self.message(ERROR, status));
        }
        let status: serde_json::Value = serde_json::from_slice(status).unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default();
        (status["status"] != "Success").then(|| self.message(ERROR, message.as_bytes()))
    }

    /// Channel and data of a message; none for what is neither.
    fn read(self, message: &Message) -> Option<(u8, Bytes)> {
        match message {
            Message::Binary(data) if !self.base64 => Some((*data.first()?, data.slice(1..))),
            Message::Text(text) if self.base64 => {
                let (channel, data) = text.split_at_checked(1)?;
                let data = BASE64.decode(data).ok()?;
                Some((channel.parse().ok()?, data.into()))
            }
            _ => None,
        }
    }
}

pub(super) async fn accept(upgraded: Upgraded) -> Socket {
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await
}

/// Carries one session over the socket to its end.
pub(super) async fn remote(socket: Socket, framing: Framing, session: StreamSession) {
    let (sink, mut source) = socket.split();
    let (stdin, stdin_receiver) = mpsc::channel(BACKLOG);
    let (resize, resize_receiver) = mpsc::channel(BACKLOG);
    let (output, results) = mpsc::channel(BACKLOG);
    let reader = async move {
        let mut stdin = Some(stdin);
        while let Some(Ok(message)) = source.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
            let Some((channel, data)) = framing.read(&message) else {
                continue;
            };
            match channel {
                STDIN => {
                    if let Some(sender) = &stdin
                        && sender.send(data).await.is_err()
                    {
                        stdin = None;
                    }
                }
                RESIZE => {
                    if let Some(size) = terminal_size(&data) {
                        // A lost size is followed by the next.
                        let _ = resize.try_send(size);
                    }
                }
                CLOSE if data.first() == Some(&STDIN) => stdin = None,
                _ => {}
            }
        }
    };
    let writer = write(sink, framing, results);
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

/// Sends what the command says, to its end, and closes.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    framing: Framing,
    mut results: mpsc::Receiver<Output>,
) {
    loop {
        let next = tokio::time::timeout(PING_INTERVAL, results.recv()).await;
        let message = match next {
            Err(_) => Message::Ping(Bytes::new()),
            Ok(None) => break,
            Ok(Some(Output::Stdout(bytes))) => framing.message(STDOUT, &bytes),
            Ok(Some(Output::Stderr(bytes))) => framing.message(STDERR, &bytes),
            Ok(Some(Output::Exit(bytes))) => match framing.end(&bytes) {
                Some(message) => message,
                None => continue,
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_form() {
        let failed = br#"{"status": "Failure", "message": "exit 3"}"#;
        for (protocol, out, end) in [
            (
                "v5.channel.k8s.io",
                Message::binary(b"\x01hi".as_slice()),
                Some(Message::binary([b"\x03", failed.as_slice()].concat())),
            ),
            (
                "channel.k8s.io",
                Message::binary(b"\x01hi".as_slice()),
                Some(Message::binary(b"\x03exit 3".as_slice())),
            ),
            (
                "base64.channel.k8s.io",
                Message::text("1aGk="),
                Some(Message::text("3ZXhpdCAz")),
            ),
        ] {
            let framing = Framing::of(protocol);
            assert_eq!(framing.message(STDOUT, b"hi"), out, "{protocol}");
            assert_eq!(framing.end(failed), end, "{protocol}");
            assert_eq!(
                framing.read(&out),
                Some((STDOUT, "hi".into())),
                "{protocol}"
            );
            let good = framing.end(br#"{"status": "Success"}"#);
            assert_eq!(good.is_some(), protocol.starts_with('v'), "{protocol}");
        }
    }
}
