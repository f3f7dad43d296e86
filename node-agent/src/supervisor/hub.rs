//! The supervisor's clients: who is attached, what waits to be sent to them, what they sent. One thread, no blocking:
//! a client that reads too slowly first slows the container down, then is dropped.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::cri_log::Stream;
use super::protocol::{self, AttachHello, Kind};

/// Above this many queued bytes the container's output is not read until the client caught up.
const CLIENT_QUEUE_BYTES: usize = 256 * 1024;
/// A client that takes nothing for this long is dropped: logs must go on.
const CLIENT_STALL: Duration = Duration::from_secs(10);
/// Most clients at one time; more are refused by closing them.
const CLIENTS: usize = 64;
/// stdin bytes held for a container that does not read.
const STDIN_QUEUE_BYTES: usize = 64 * 1024;
/// Most clients that send input.
const WRITERS: usize = 16;

/// What clients asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Stdin(Vec<u8>),
    /// An attached client's input is over (it said so, or left).
    StdinEnded,
    Resize {
        width: u16,
        height: u16,
    },
    Signal(i32),
}

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: VecDeque<u8>,
    attach: Option<AttachHello>,
    stalled_since: Option<Instant>,
    gone: bool,
}

/// All clients of one container.
pub(super) struct Hub {
    listener: UnixListener,
    clients: Vec<Client>,
}

impl Hub {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            clients: Vec::new(),
        }
    }

    /// The descriptors to poll and for what. A client that must wait with its input is left out while nothing is to be
    /// sent to it: the kernel reports a hang-up whether asked or not, and the loop would spin on it.
    pub(super) fn descriptors(
        &self,
        stdin_queued: usize,
    ) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let clients = self.clients.iter().filter_map(move |client| {
            let mut wish = PollFlags::empty();
            wish.set(PollFlags::POLLIN, client.may_send(stdin_queued));
            wish.set(PollFlags::POLLOUT, !client.output.is_empty());
            (!wish.is_empty()).then(|| (client.stream.as_fd(), wish))
        });
        std::iter::once((self.listener.as_fd(), PollFlags::POLLIN)).chain(clients)
    }

    /// Whether output may be read from the container now.
    pub(super) fn has_room(&self) -> bool {
        self.clients
            .iter()
            .all(|client| client.output.len() < CLIENT_QUEUE_BYTES)
    }

    /// Accepts, reads and writes whatever is possible; returns the clients' requests.
    pub(super) fn serve(&mut self, stdin_queued: usize, now: Instant) -> Vec<Request> {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() < CLIENTS && stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client {
                    stream,
                    input: Vec::new(),
                    output: VecDeque::new(),
                    attach: None,
                    stalled_since: None,
                    gone: false,
                });
            }
        }
        let mut requests = Vec::new();
        for client in &mut self.clients {
            client.flush(now);
            if client.may_send(stdin_queued) {
                client.read(&mut requests);
            }
        }
        self.limit_writers();
        for client in self.clients.iter().filter(|client| client.gone) {
            if client.writes() {
                requests.push(Request::StdinEnded);
            }
        }
        self.clients.retain(|client| !client.gone);
        requests
    }

    /// Writers beyond the limit are refused, the newest first: each may have to wait without being heard, and slots must
    /// stay free for those who watch and signal.
    fn limit_writers(&mut self) {
        let writers = self.clients.iter_mut().filter(|client| client.writes());
        for client in writers.skip(WRITERS) {
            client.attach = None; // its leaving ends nobody else's input
            client.gone = true;
        }
    }

    /// Queues container output for everyone attached to that stream.
    pub(super) fn broadcast(&mut self, stream: Stream, bytes: &[u8], now: Instant) {
        let kind = if stream == Stream::Stdout {
            Kind::Stdout
        } else {
            Kind::Stderr
        };
        for client in &mut self.clients {
            let wanted = client.attach.is_some_and(|hello| match stream {
                Stream::Stdout => hello.stdout,
                Stream::Stderr => hello.stderr,
            });
            if wanted {
                client.queue(kind, bytes);
                client.flush(now);
            }
        }
    }

    /// Sends the exit record to every client and waits a moment for them to take it.
    pub(super) fn finish(&mut self, exit_json: &[u8]) {
        for client in &mut self.clients {
            client.queue(Kind::Exit, exit_json);
            let _ = client.stream.set_nonblocking(false);
            let _ = client
                .stream
                .set_write_timeout(Some(Duration::from_secs(1)));
            let (front, back) = client.output.as_slices();
            // A client that is gone or does not read finds the record on disk.
            let _ = client
                .stream
                .write_all(front)
                .and_then(|()| client.stream.write_all(back));
        }
        self.clients.clear();
    }
}

impl Client {
    /// Whether it may send input to the container.
    fn writes(&self) -> bool {
        self.attach.is_some_and(|hello| hello.stdin)
    }

    /// Whether its frames are read now. Only input can pile up; signals and questions are always heard.
    fn may_send(&self, stdin_queued: usize) -> bool {
        stdin_queued < STDIN_QUEUE_BYTES || !self.writes()
    }

    fn queue(&mut self, kind: Kind, bytes: &[u8]) {
        let mut frame = Vec::new();
        for chunk in bytes.chunks(protocol::MAX_PAYLOAD) {
            protocol::encode(kind, chunk, &mut frame);
        }
        self.output.extend(frame);
    }

    fn flush(&mut self, now: Instant) {
        while !self.output.is_empty() && !self.gone {
            let (front, _) = self.output.as_slices();
            match self.stream.write(front) {
                Ok(0) => self.gone = true,
                Ok(written) => {
                    self.output.drain(..written);
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let since = *self.stalled_since.get_or_insert(now);
                    self.gone = now.duration_since(since) > CLIENT_STALL;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
    }

    fn read(&mut self, requests: &mut Vec<Request>) {
        let mut buffer = [0_u8; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.gone = true,
        }
        loop {
            match protocol::decode(&mut self.input) {
                Ok(Some((kind, payload))) => self.handle(kind, payload, requests),
                Ok(None) => return,
                Err(protocol::Malformed) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    fn handle(&mut self, kind: Kind, payload: Vec<u8>, requests: &mut Vec<Request>) {
        match kind {
            Kind::Attach => match serde_json::from_slice(&payload) {
                Ok(hello) => self.attach = Some(hello),
                Err(_) => self.gone = true,
            },
            // Input is for those who said so: they alone can be made to wait.
            Kind::Stdin if self.writes() => requests.push(Request::Stdin(payload)),
            Kind::StdinClose if self.writes() => requests.push(Request::StdinEnded),
            Kind::Stdin | Kind::StdinClose => {}
            Kind::Resize => {
                if let Ok([w0, w1, h0, h1]) = <[u8; 4]>::try_from(payload.as_slice()) {
                    let (width, height) =
                        (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
                    requests.push(Request::Resize { width, height });
                }
            }
            Kind::Signal => {
                if let Ok(bytes) = <[u8; 4]>::try_from(payload.as_slice()) {
                    requests.push(Request::Signal(i32::from_be_bytes(bytes)));
                }
            }
            // A watcher only waits; the rest are the server's own frames.
            Kind::Watch | Kind::Stdout | Kind::Stderr | Kind::Exit => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        hub: Hub,
        socket: std::path::PathBuf,
        _dir: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().expect("temp dir");
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        Bench {
            hub: Hub::new(listener),
            socket,
            _dir: dir,
        }
    }

    fn client(bench: &Bench, frames: &[(Kind, &[u8])]) -> UnixStream {
        let mut stream = UnixStream::connect(&bench.socket).expect("connect");
        let mut bytes = Vec::new();
        for (kind, payload) in frames {
            protocol::encode(*kind, payload, &mut bytes);
        }
        stream.write_all(&bytes).expect("write");
        stream
    }

    const WRITER: &[u8] = br#"{"stdin": true, "stdout": false, "stderr": false}"#;

    #[test]
    fn a_container_that_does_not_read_its_input_can_still_be_killed() {
        let mut bench = bench();
        let now = Instant::now();
        let mut writer = client(&bench, &[(Kind::Attach, WRITER), (Kind::Stdin, b"x")]);
        assert_eq!(
            bench.hub.serve(0, now),
            [Request::Stdin(b"x".to_vec())],
            "there is room"
        );
        // Now the queue is full: the writer waits, also after it has left, and is not polled; a signal comes through.
        writer.write_all(b"more").expect("write");
        drop(writer);
        let _killer = client(&bench, &[(Kind::Signal, &9_i32.to_be_bytes())]);
        assert_eq!(
            bench.hub.serve(STDIN_QUEUE_BYTES, now),
            [Request::Signal(9)]
        );
        let polled = bench.hub.descriptors(STDIN_QUEUE_BYTES).count();
        assert_eq!(polled, 2, "the listener and the killer");
        assert_eq!(bench.hub.descriptors(0).count(), 3);
    }

    #[test]
    fn waiting_writers_leave_room_for_signals() {
        let mut bench = bench();
        let now = Instant::now();
        let writers: Vec<UnixStream> = (0..CLIENTS)
            .map(|_| {
                let writer = client(&bench, &[(Kind::Attach, WRITER)]);
                bench.hub.serve(0, now);
                writer
            })
            .collect();
        let _killer = client(&bench, &[(Kind::Signal, &9_i32.to_be_bytes())]);
        assert_eq!(
            bench.hub.serve(STDIN_QUEUE_BYTES, now),
            [Request::Signal(9)]
        );
        drop(writers);
    }
}
