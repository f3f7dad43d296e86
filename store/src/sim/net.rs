//! The network between simulated hosts: connections of bytes, as TCP gives them, with everything that may happen to them.
//!
//! Knows no messages. A message is lost with its connection; what is held by a partition arrives when it ends, unless
//! somebody has lost patience; connections do not wait for each other, so messages on different ones overtake. Invariant: bytes
//! of one direction of one connection arrive once, in order, or the connection breaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::server::Connected;

use crate::peer::connect::PeerUrl;
use crate::peer::dial::{Connection, Dial};

/// Bytes under way in one direction before the writer has to wait.
const WINDOW: usize = 256 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: usize = 64;

/// A host's number, from zero.
pub(super) type HostId = usize;

/// The network; clones are the same.
#[derive(Clone)]
pub(super) struct Net(Arc<Mutex<State>>);

struct State {
    rng: StdRng,
    now: Duration,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    listening: BTreeMap<HostId, mpsc::Sender<io::Result<Endpoint>>>,
    dials: Vec<Pending>,
    /// Directions in which nothing arrives now.
    held: BTreeSet<(HostId, HostId)>,
    /// Hosts whose packets nobody answers: no power.
    dark: BTreeSet<HostId>,
    slowest: Duration,
    log: Vec<String>,
}

/// One direction of a connection.
struct Pipe {
    from: HostId,
    to: HostId,
    under_way: VecDeque<(Duration, Vec<u8>)>,
    bytes: usize,
    arrived: VecDeque<u8>,
    last: Duration,
    /// When the end of the stream arrives.
    ends: Option<Duration>,
    ended: bool,
    broken: bool,
    reader_gone: bool,
    writer_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Pending {
    from: HostId,
    to: HostId,
    at: Duration,
    answer: oneshot::Sender<io::Result<Endpoint>>,
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            pipes: BTreeMap::new(),
            next_pipe: 0,
            listening: BTreeMap::new(),
            dials: Vec::new(),
            held: BTreeSet::new(),
            dark: BTreeSet::new(),
            slowest: Duration::from_millis(8),
            log: Vec::new(),
        })))
    }

    /// Where `host`'s connections come in.
    pub(super) fn listen(&self, host: HostId) -> mpsc::Receiver<io::Result<Endpoint>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut state = self.0.lock();
        state.dark.remove(&host);
        // Whoever still talks to the process before hears that there is none.
        for pair in state.pairs(|pipe| pipe.from == host || pipe.to == host) {
            state.break_pair(pair);
        }
        state.listening.insert(host, sender);
        receiver
    }

    /// The way from `host` to the others.
    pub(super) fn dialer(&self, host: HostId) -> Arc<dyn Dial> {
        Arc::new(Dialer {
            net: self.clone(),
            host,
        })
    }

    /// Holds back, or lets go, what goes from one host to another.
    pub(super) fn hold(&self, from: HostId, to: HostId, held: bool) {
        let mut state = self.0.lock();
        if held {
            state.held.insert((from, to));
        } else {
            state.held.remove(&(from, to));
        }
    }

    /// Nothing is held any more.
    pub(super) fn heal(&self) {
        let mut state = self.0.lock();
        state.held.clear();
        state.slowest = Duration::from_millis(8);
    }

    /// Messages take up to so long from now on.
    pub(super) fn slow(&self, slowest: Duration) {
        self.0.lock().slowest = slowest;
    }

    /// Breaks one connection between two hosts, with all that is under way on it.
    pub(super) fn cut_one(&self, a: HostId, b: HostId) {
        let mut state = self.0.lock();
        let pairs = state.pairs(|pipe| {
            let ends = (pipe.from, pipe.to);
            !pipe.broken && (ends == (a, b) || ends == (b, a))
        });
        if pairs.is_empty() {
            return;
        }
        let pair = pairs[state.rng.random_range(0..pairs.len())];
        state.break_pair(pair);
    }

    /// A host is gone: its process alone, whose kernel says so, or with the power, when nobody says anything.
    pub(super) fn gone(&self, host: HostId, silently: bool) {
        let mut state = self.0.lock();
        state.listening.remove(&host);
        state.dials.retain(|dial| dial.from != host);
        if silently {
            // What it had sent is on its way; nothing follows.
            state.dark.insert(host);
            return;
        }
        for pair in state.pairs(|pipe| pipe.from == host || pipe.to == host) {
            state.break_pair(pair);
        }
    }

    /// Delivers what has arrived by `now`.
    pub(super) fn advance(&self, now: Duration) {
        let mut wake = Vec::new();
        {
            let mut state = self.0.lock();
            state.now = now;
            state.deliver(&mut wake);
            state.connect(self);
        }
        for waker in wake {
            waker.wake();
        }
    }

    /// What happened since the last call.
    pub(super) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().log)
    }
}

impl State {
    fn latency(&mut self) -> Duration {
        let slowest = u64::try_from(self.slowest.as_micros()).unwrap_or(u64::MAX);
        // Mostly quick; some take their time.
        let span = if self.rng.random_bool(0.9) {
            slowest / 4
        } else {
            slowest
        };
        Duration::from_micros(self.rng.random_range(200..=span.max(201)))
    }

    fn is_held(&self, from: HostId, to: HostId) -> bool {
        self.held.contains(&(from, to)) || self.dark.contains(&to)
    }

    /// Connections with a direction that `wanted` wants.
    fn pairs(&self, wanted: impl Fn(&Pipe) -> bool) -> Vec<u64> {
        let found = self.pipes.iter().filter(|(_, pipe)| wanted(pipe));
        let pairs: BTreeSet<u64> = found.map(|(id, _)| id / 2).collect();
        pairs.into_iter().collect()
    }

    fn break_pair(&mut self, pair: u64) {
        for id in [pair * 2, pair * 2 + 1] {
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.broken = true;
                pipe.under_way.clear();
                pipe.reader.take().into_iter().for_each(Waker::wake);
                pipe.writer.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    fn deliver(&mut self, wake: &mut Vec<Waker>) {
        self.pipes
            .retain(|_, pipe| !pipe.reader_gone || !pipe.writer_gone);
        let (now, held, dark) = (self.now, self.held.clone(), self.dark.clone());
        for (id, pipe) in &mut self.pipes {
            if held.contains(&(pipe.from, pipe.to)) || dark.contains(&pipe.to) {
                continue;
            }
            let mut news = 0;
            while pipe.under_way.front().is_some_and(|(at, _)| *at <= now) {
                let (_, data) = pipe.under_way.pop_front().expect("there is a front");
                news += data.len();
                pipe.bytes -= data.len();
                pipe.arrived.extend(data);
            }
            if pipe.under_way.is_empty() && pipe.ends.is_some_and(|at| at <= now) && !pipe.ended {
                pipe.ended = true;
                wake.extend(pipe.reader.take());
            }
            if news > 0 {
                self.log
                    .push(format!("{} -> {} #{id}: {news} bytes", pipe.from, pipe.to));
                wake.extend(pipe.reader.take());
                wake.extend(pipe.writer.take());
            }
        }
    }

    fn connect(&mut self, net: &Net) {
        let now = self.now;
        let due = |state: &State, dial: &Pending| {
            dial.at <= now
                && !state.is_held(dial.from, dial.to)
                && !state.is_held(dial.to, dial.from)
        };
        for dial in std::mem::take(&mut self.dials) {
            if dial.answer.is_closed() {
                continue;
            }
            if !due(self, &dial) {
                self.dials.push(dial);
                continue;
            }
            let Some(listener) = self.listening.get(&dial.to).cloned() else {
                let _ = dial
                    .answer
                    .send(Err(io::ErrorKind::ConnectionRefused.into()));
                continue;
            };
            let pair = self.next_pipe;
            self.next_pipe += 1;
            let (there, back) = (pair * 2, pair * 2 + 1);
            self.pipes.insert(there, Pipe::new(dial.from, dial.to));
            self.pipes.insert(back, Pipe::new(dial.to, dial.from));
            let end = |read, write| Endpoint {
                net: net.clone(),
                read,
                write,
            };
            // An endpoint that finds nobody breaks the connection when it is dropped, for which the lock must be free:
            // none is dropped here, as both ends have room and a receiver or are kept in the error.
            let accepted = listener.try_send(Ok(end(there, back)));
            let refused = match accepted {
                Ok(()) => dial.answer.send(Ok(end(back, there))).err(),
                Err(error) => Some(error.into_inner()),
            };
            std::mem::forget(refused);
        }
    }
}

impl Pipe {
    fn new(from: HostId, to: HostId) -> Self {
        Self {
            from,
            to,
            under_way: VecDeque::new(),
            bytes: 0,
            arrived: VecDeque::new(),
            last: Duration::ZERO,
            ends: None,
            ended: false,
            broken: false,
            reader_gone: false,
            writer_gone: false,
            reader: None,
            writer: None,
        }
    }
}

struct Dialer {
    net: Net,
    host: HostId,
}

impl Dial for Dialer {
    fn dial(&self, urls: Arc<[String]>) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let (net, from) = (self.net.clone(), self.host);
        Box::pin(async move {
            let url = urls.first().ok_or(io::ErrorKind::NotFound)?;
            let host = PeerUrl::parse(url)?.host;
            let to = host
                .strip_prefix('m')
                .and_then(|number| number.parse::<HostId>().ok())
                .ok_or(io::ErrorKind::NotFound)?;
            let (answer, answered) = oneshot::channel();
            {
                let mut state = net.0.lock();
                let at = state.now + state.latency();
                state.dials.push(Pending {
                    from,
                    to,
                    at,
                    answer,
                });
            }
            let endpoint = answered
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))??;
            Ok(Box::new(endpoint) as Box<dyn Connection>)
        })
    }
}

/// One end of a connection.
pub(super) struct Endpoint {
    net: Net,
    read: u64,
    write: u64,
}

impl Connected for Endpoint {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Endpoint {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.net.0.lock();
        let Some(pipe) = state.pipes.get_mut(&self.read) else {
            return Poll::Ready(Err(reset()));
        };
        if pipe.broken {
            return Poll::Ready(Err(reset()));
        }
        if pipe.arrived.is_empty() {
            if pipe.ended {
                return Poll::Ready(Ok(()));
            }
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = buf.remaining().min(pipe.arrived.len());
        let (front, _) = pipe.arrived.as_slices();
        let len = len.min(front.len());
        buf.put_slice(&front[..len]);
        pipe.arrived.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endpoint {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.0.lock();
        let latency = state.latency();
        let now = state.now;
        let Some(pipe) = state.pipes.get_mut(&self.write) else {
            return Poll::Ready(Err(reset()));
        };
        if pipe.broken {
            return Poll::Ready(Err(reset()));
        }
        if pipe.bytes >= WINDOW {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let at = pipe.last.max(now + latency);
        pipe.last = at;
        pipe.bytes += buf.len();
        pipe.under_way.push_back((at, buf.to_vec()));
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.0.lock();
        let now = state.now;
        if let Some(pipe) = state.pipes.get_mut(&self.write) {
            pipe.ends = Some(pipe.last.max(now));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let mut state = self.net.0.lock();
        let State {
            now, pipes, dark, ..
        } = &mut *state;
        if let Some(pipe) = pipes.get_mut(&self.write) {
            pipe.writer_gone = true;
            if !dark.contains(&pipe.from) {
                pipe.ends.get_or_insert(pipe.last.max(*now));
            }
        }
        // Nobody reads any more: as far as the other end is concerned, the rest is lost.
        if let Some(pipe) = pipes.get_mut(&self.read) {
            pipe.reader_gone = true;
            pipe.reader = None;
            pipe.arrived.clear();
        }
    }
}
