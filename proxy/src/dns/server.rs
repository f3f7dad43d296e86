//! DNS over UDP and TCP. Decodes one question, asks the zone, encodes the answer within what the client can take. Work
//! under way is bounded: beyond it questions are dropped, and clients ask again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::forward::Upstreams;
use super::zone::{Answer, Zone};

/// UDP questions being forwarded at once.
const FORWARDS: usize = 1_024;
/// TCP clients at once, and of one address: pods have an address each, so none of them can shut out the others.
const TCP_CLIENTS: usize = 1_024;
const TCP_CLIENTS_OF_ONE: usize = 32;
/// Names that lead to names that lead to names: beyond this it is taken for a circle.
const ALIASES_MAX: usize = 8;
/// An idle TCP client is cut after this.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// UDP answers without EDNS (RFC 1035), and the most that we send with it (the DNS flag day of 2020).
const UDP_PLAIN_BYTES: u16 = 512;
const UDP_EDNS_BYTES: u16 = 1_232;

struct Server {
    zone: Zone,
    upstreams: Upstreams,
    forwards: Arc<Semaphore>,
    clients: Clients,
}

/// How many TCP clients each address has.
#[derive(Clone, Default)]
struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them, until it is dropped.
struct Seat {
    clients: Clients,
    address: IpAddr,
}

impl Clients {
    /// A seat for a client from this address, if it may have one more.
    fn seat(&self, address: IpAddr) -> Option<Seat> {
        let mut seats = self.0.lock();
        let all: usize = seats.values().sum();
        let own = seats.get(&address).copied().unwrap_or_default();
        if all >= TCP_CLIENTS || own >= TCP_CLIENTS_OF_ONE {
            return None;
        }
        seats.insert(address, own + 1);
        Some(Seat {
            clients: self.clone(),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.clients.0.lock();
        if let Some(own) = seats.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                seats.remove(&self.address);
            }
        }
    }
}

/// Binds `addr` on both transports and answers until `shutdown`.
pub async fn serve(
    addr: SocketAddr,
    zone: Zone,
    upstreams: Upstreams,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let udp = Arc::new(UdpSocket::bind(addr).await?);
    let tcp = TcpListener::bind(addr).await?;
    let server = Arc::new(Server {
        zone,
        upstreams,
        forwards: Arc::new(Semaphore::new(FORWARDS)),
        clients: Clients::default(),
    });
    spawn(
        "dns-udp",
        TaskKind::Critical,
        udp_loop(Arc::clone(&server), udp, shutdown.clone()),
    );
    spawn(
        "dns-tcp",
        TaskKind::Critical,
        tcp_loop(server, tcp, shutdown),
    );
    Ok(())
}

async fn udp_loop(server: Arc<Server>, socket: Arc<UdpSocket>, shutdown: Shutdown) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let received = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive"); // most often an ICMP error of an earlier answer
                continue;
            }
        };
        let question = buffer[..length].to_vec();
        match server.local(&question, false) {
            Step::Answer(answer) => {
                if let Err(error) = socket.send_to(&answer, peer).await {
                    tracing::debug!(%error, %peer, "cannot answer");
                }
            }
            Step::Drop => {}
            Step::Forward(forward) => {
                let Ok(slot) = Arc::clone(&server.forwards).try_acquire_owned() else {
                    continue;
                };
                let (server, socket) = (Arc::clone(&server), Arc::clone(&socket));
                spawn("dns-forward", TaskKind::Connection, async move {
                    let answer = server.forward(&forward, &question, false).await;
                    // The client asks again when this is lost.
                    let _ = socket.send_to(&answer, peer).await;
                    drop(slot);
                });
            }
        }
    }
}

async fn tcp_loop(server: Arc<Server>, listener: TcpListener, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.wait() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(seat) = server.clients.seat(peer.ip()) else {
            continue;
        };
        let server = Arc::clone(&server);
        spawn("dns-connection", TaskKind::Connection, async move {
            // Ends with the client, or when it idles.
            let _ = server.tcp_client(stream).await;
            drop(seat);
        });
    }
}

enum Step {
    Answer(Vec<u8>),
    Forward(Box<Forward>),
    Drop,
}

/// A question for upstreams.
struct Forward {
    request: Message,
    /// What our own zone says first; without it the question is passed on as it came.
    aliases: Vec<Record>,
    /// The name to ask for.
    name: Name,
}

impl Server {
    async fn tcp_client(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let length = tokio::time::timeout(TCP_IDLE, stream.read_u16())
                .await
                .map_err(std::io::Error::other)??;
            let mut question = vec![0; usize::from(length)];
            tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut question))
                .await
                .map_err(std::io::Error::other)??;
            let answer = match self.local(&question, true) {
                Step::Answer(answer) => answer,
                Step::Forward(forward) => self.forward(&forward, &question, true).await,
                Step::Drop => return Ok(()),
            };
            let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
            let framed = [&length.to_be_bytes()[..], &answer].concat();
            // One that asks and does not read is idle too.
            tokio::time::timeout(TCP_IDLE, stream.write_all(&framed))
                .await
                .map_err(std::io::Error::other)??;
        }
    }

    /// What can be said without asking anyone.
    fn local(&self, question: &[u8], over_tcp: bool) -> Step {
        let Ok(request) = Message::from_vec(question) else {
            return Step::Drop;
        };
        if request.metadata.message_type != MessageType::Query {
            return Step::Drop;
        }
        if request.metadata.op_code != OpCode::Query {
            return Step::Answer(encode(
                &reply(&request, ResponseCode::NotImp),
                &request,
                over_tcp,
            ));
        }
        let [query] = request.queries.as_slice() else {
            return Step::Answer(encode(
                &reply(&request, ResponseCode::FormErr),
                &request,
                over_tcp,
            ));
        };
        let mut aliases = Vec::new();
        let mut name = query.name().clone();
        while aliases.len() <= ALIASES_MAX {
            let (code, records) = match self.zone.lookup(&name, query.query_type()) {
                Answer::NotOurs => {
                    return Step::Forward(Box::new(Forward {
                        request,
                        aliases,
                        name,
                    }));
                }
                Answer::Alias { record, target } => {
                    aliases.push(*record);
                    if !matches!(query.query_type(), RecordType::CNAME | RecordType::ANY) {
                        name = target;
                        continue;
                    }
                    (ResponseCode::NoError, std::mem::take(&mut aliases))
                }
                Answer::NotReady => break,
                Answer::NxDomain => (ResponseCode::NXDomain, Vec::new()),
                Answer::Records(records) => (ResponseCode::NoError, records),
            };
            let mut answer = reply(&request, code);
            answer.metadata.authoritative = true;
            if records.is_empty() {
                answer.add_authority(self.zone.soa());
            }
            answer.add_answers(aliases);
            answer.add_answers(records);
            return Step::Answer(encode(&answer, &request, over_tcp));
        }
        let failed = reply(&request, ResponseCode::ServFail);
        Step::Answer(encode(&failed, &request, over_tcp))
    }

    async fn forward(&self, forward: &Forward, question: &[u8], over_tcp: bool) -> Vec<u8> {
        let request = &forward.request;
        let answer = if forward.aliases.is_empty() {
            self.upstreams.ask(question, over_tcp).await
        } else {
            let followed = self.follow(forward, over_tcp).await;
            followed.map(|answer| encode(&answer, request, over_tcp))
        };
        answer.unwrap_or_else(|| encode(&reply(request, ResponseCode::ServFail), request, over_tcp))
    }

    /// What upstreams know of the name that an alias of ours leads to, behind the alias: clients' resolvers expect both in
    /// one answer, and ask nobody for the second half.
    async fn follow(&self, forward: &Forward, over_tcp: bool) -> Option<Message> {
        let [query] = forward.request.queries.as_slice() else {
            return None;
        };
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(forward.name.clone(), query.query_type()));
        let question = question.to_vec().ok()?;
        let mut found = Message::from_vec(&self.upstreams.ask(&question, over_tcp).await?).ok()?;
        if found.metadata.truncation && !over_tcp {
            found = Message::from_vec(&self.upstreams.ask(&question, true).await?).ok()?;
        }
        let code = found.metadata.response_code;
        if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return None;
        }
        let mut answer = reply(&forward.request, code);
        answer.add_answers(forward.aliases.iter().cloned());
        answer.add_answers(found.answers);
        Some(answer)
    }
}

fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
    answer.metadata.response_code = code;
    answer.metadata.recursion_desired = request.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_EDNS_BYTES);
        answer.set_edns(edns);
    }
    answer
}

fn encode(answer: &Message, request: &Message, over_tcp: bool) -> Vec<u8> {
    let limit = match &request.edns {
        _ if over_tcp => u16::MAX,
        Some(edns) => edns.max_payload().clamp(UDP_PLAIN_BYTES, UDP_EDNS_BYTES),
        None => UDP_PLAIN_BYTES,
    };
    match answer.to_vec() {
        Ok(bytes) if bytes.len() <= usize::from(limit) => bytes,
        Ok(_) => answer.truncate().to_vec().unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "cannot encode a DNS answer");
            reply(request, ResponseCode::ServFail)
                .to_vec()
                .unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests;
