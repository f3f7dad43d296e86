//! Questions over real sockets: ours, an upstream's, too large for UDP, and garbage.

use std::net::Ipv4Addr;

use corten_client::cache::{Cache, CacheOptions};
use serde_json::json;

use super::*;
use crate::dns::zone::{BY_ADDRESS, BY_CLUSTER_IP, addresses_of, cluster_ip_of};
use crate::sync::{BY_SERVICE, service_of};

fn zone(endpoints: u8) -> Zone {
    let service = serde_json::from_value(
        json!({"metadata": {"name": "big", "namespace": "d"}, "spec": {"clusterIP": "None", "ports": []}}),
    )
    .expect("service");
    let list: Vec<_> = (0..endpoints)
        .map(|i| json!({"addresses": [Ipv4Addr::new(10, 244, 0, i).to_string()]}))
        .collect();
    let slice = serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "d", "labels": {"kubernetes.io/service-name": "big"}},
        "addressType": "IPv4", "endpoints": list, "ports": [],
    }))
    .expect("slice");
    Zone {
        domain: Name::from_ascii("cluster.local.").expect("domain"),
        services: Cache::fixed(
            [service],
            CacheOptions::all().index(BY_CLUSTER_IP, cluster_ip_of),
        ),
        slices: Cache::fixed(
            [slice],
            CacheOptions::all()
                .index(BY_SERVICE, service_of)
                .index(BY_ADDRESS, addresses_of),
        ),
        reverse: Vec::new(),
    }
}

/// A free port on loopback, for both transports.
async fn start(zone: Zone, upstreams: Vec<SocketAddr>) -> (SocketAddr, Shutdown) {
    let shutdown = Shutdown::new();
    let probe = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let addr = probe.local_addr().expect("addr");
    drop(probe);
    serve(addr, zone, Upstreams(upstreams), shutdown.clone())
        .await
        .expect("serve");
    (addr, shutdown)
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 77;
    message.add_query(Query::query(
        Name::from_ascii(name).expect("name"),
        RecordType::A,
    ));
    message.to_vec().expect("encodes")
}

async fn ask(addr: SocketAddr, question: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    socket.send_to(question, addr).await.expect("send");
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    let length = received.expect("an answer in time").expect("receive");
    Message::from_vec(&buffer[..length]).expect("decodes")
}

#[tokio::test]
async fn a_large_answer_is_truncated_over_udp_and_whole_over_tcp() {
    let (addr, shutdown) = start(zone(100), Vec::new()).await;
    let question = question("big.d.svc.cluster.local.");
    let short = ask(addr, &question).await;
    assert!(short.metadata.truncation && short.metadata.id == 77);
    let mut stream = TcpStream::connect(addr).await.expect("connect");
    assert_eq!(ask_tcp(&mut stream, &question).await.answers.len(), 100);
    shutdown.trigger();
}

#[tokio::test]
async fn other_names_are_forwarded_past_a_silent_upstream() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let (upstream, upstream_shutdown) = start(zone(1), Vec::new()).await;
    let upstreams = vec![silent.local_addr().expect("addr"), upstream];
    let mut ours = zone(1);
    ours.domain = Name::from_ascii("other.domain.").expect("domain");
    let (addr, shutdown) = start(ours, upstreams).await;
    let answer = ask(addr, &question("big.d.svc.cluster.local.")).await;
    assert_eq!((answer.metadata.id, answer.answers.len()), (77, 1));
    shutdown.trigger();
    upstream_shutdown.trigger();
}

#[tokio::test]
async fn garbage_is_dropped_and_does_not_stop_the_server() {
    let (addr, shutdown) = start(zone(1), Vec::new()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    for garbage in [&b""[..], b"x", &[0xff; 600]] {
        socket.send_to(garbage, addr).await.expect("send");
    }
    let answer = ask(addr, &question("nope.d.svc.cluster.local.")).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(answer.authorities.len(), 1);
    shutdown.trigger();
}

/// A zone `own.local` with Services that stand for these other names.
fn aliases(names: &[(&str, &str)]) -> Zone {
    let services: Vec<k8s_openapi::api::core::v1::Service> = names
        .iter()
        .map(|(name, target)| {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "d"},
                "spec": {"type": "ExternalName", "externalName": target}}))
            .expect("service")
        })
        .collect();
    let mut zone = zone(0);
    zone.domain = Name::from_ascii("own.local.").expect("domain");
    zone.services = Cache::fixed(
        services,
        CacheOptions::all().index(BY_CLUSTER_IP, cluster_ip_of),
    );
    zone
}

#[tokio::test]
async fn an_external_name_is_answered_with_its_addresses() {
    let (upstream, upstream_shutdown) = start(zone(3), Vec::new()).await;
    let names = [
        ("out", "big.d.svc.cluster.local"),
        ("twice", "out.d.svc.own.local"),
        ("nowhere", "absent.d.svc.cluster.local"),
        ("inside", "absent.d.svc.own.local"),
        ("circle", "circle.d.svc.own.local"),
    ];
    let (addr, shutdown) = start(aliases(&names), vec![upstream]).await;
    for (name, code, aliases, addresses) in [
        ("out", ResponseCode::NoError, 1, 3),
        ("twice", ResponseCode::NoError, 2, 3),
        ("nowhere", ResponseCode::NXDomain, 1, 0),
        ("inside", ResponseCode::NXDomain, 1, 0),
        ("circle", ResponseCode::ServFail, 0, 0),
    ] {
        let answer = ask(addr, &question(&format!("{name}.d.svc.own.local."))).await;
        let of = |kind| {
            answer
                .answers
                .iter()
                .filter(move |r| r.record_type() == kind)
        };
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert_eq!(of(RecordType::CNAME).count(), aliases, "{name}");
        assert_eq!(of(RecordType::A).count(), addresses, "{name}");
    }
    shutdown.trigger();
    upstream_shutdown.trigger();
    // Half an answer would be taken for the whole.
    let (addr, shutdown) = start(aliases(&names), Vec::new()).await;
    let answer = ask(addr, &question("out.d.svc.own.local.")).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(answer.answers.is_empty());
    shutdown.trigger();
}

async fn ask_tcp(stream: &mut TcpStream, question: &[u8]) -> Message {
    stream
        .write_u16(u16::try_from(question.len()).expect("short"))
        .await
        .expect("write");
    stream.write_all(question).await.expect("write");
    let length = stream.read_u16().await.expect("length");
    let mut whole = vec![0; usize::from(length)];
    stream.read_exact(&mut whole).await.expect("answer");
    Message::from_vec(&whole).expect("decodes")
}

#[tokio::test]
async fn one_client_cannot_shut_the_others_out_of_dns_over_tcp() {
    let (addr, shutdown) = start(zone(1), Vec::new()).await;
    let question = question("big.d.svc.cluster.local.");
    let mut idle = Vec::new();
    for _ in 0..TCP_CLIENTS_OF_ONE {
        idle.push(TcpStream::connect(addr).await.expect("connect"));
    }
    let mut refused = TcpStream::connect(addr).await.expect("connect");
    let ended = tokio::time::timeout(TCP_IDLE / 2, refused.read_u8()).await;
    ended
        .expect("one too many is closed at once")
        .expect_err("closed");
    let socket = tokio::net::TcpSocket::new_v4().expect("socket");
    socket
        .bind("127.0.0.2:0".parse().expect("addr"))
        .expect("another address");
    let mut other = socket.connect(addr).await.expect("connect");
    assert_eq!(ask_tcp(&mut other, &question).await.answers.len(), 1);
    assert_eq!(ask(addr, &question).await.answers.len(), 1, "UDP is apart");
    // Seats come back.
    idle.clear();
    let deadline = std::time::Instant::now() + TCP_IDLE / 2;
    while !serves(addr, &question).await {
        assert!(std::time::Instant::now() < deadline, "seats stay taken");
    }
    shutdown.trigger();
}

/// Whether a new client is let in.
async fn serves(addr: SocketAddr, question: &[u8]) -> bool {
    let mut stream = TcpStream::connect(addr).await.expect("connect");
    let length = u16::try_from(question.len()).expect("short");
    // A closed connection shows at the write or at the read.
    let framed = [&length.to_be_bytes()[..], question].concat();
    stream.write_all(&framed).await.is_ok() && stream.read_u16().await.is_ok()
}
