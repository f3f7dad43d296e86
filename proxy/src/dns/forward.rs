//! Passing questions on: the client's message goes to an upstream as it came, with an id of ours, over the transport it
//! came by. Upstreams are tried in turn; one that is silent is passed over.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Time for one upstream. Clients wait 5 s in all by custom, so two upstreams fit.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer over UDP that is taken; EDNS allows 64 KiB, resolvers use far less.
const UDP_BYTES_MAX: usize = 8_192;

/// The resolvers that questions are passed to.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(pub Vec<SocketAddr>);

/// What /etc/resolv.conf names, without addresses that would lead back here.
pub fn system_resolvers(resolv_conf: &str, own: std::net::IpAddr) -> Vec<SocketAddr> {
    let servers = resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.trim().parse::<std::net::IpAddr>().ok());
    addresses
        .filter(|ip| *ip != own)
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

impl Upstreams {
    /// The first answer that any upstream gives, with the client's id; `None` when none did.
    pub async fn ask(&self, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let client_id: [u8; 2] = question.get(..2)?.try_into().ok()?;
        for upstream in &self.0 {
            let mut sent = question.to_vec();
            let id: u16 = rand::random();
            sent[..2].copy_from_slice(&id.to_be_bytes());
            let attempt = async {
                if over_tcp {
                    ask_tcp(*upstream, &sent).await
                } else {
                    ask_udp(*upstream, &sent).await
                }
            };
            match timeout(UPSTREAM_TIMEOUT, attempt).await {
                Ok(Ok(mut answer)) => {
                    answer[..2].copy_from_slice(&client_id);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "upstream resolver failed"),
                Err(_) => tracing::debug!(%upstream, "upstream resolver is silent"),
            }
        }
        None
    }
}

async fn ask_udp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if upstream.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    // A fresh port and a random id for each question: what makes forged answers hard.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= HEADER_BYTES && buffer[..2] == question[..2] {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

/// A DNS header.
const HEADER_BYTES: usize = 12;

async fn ask_tcp(upstream: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if answer.len() < HEADER_BYTES || answer[..2] != question[..2] {
        return Err(std::io::Error::other("the answer is not to this question"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_resolv_conf_but_not_itself() {
        let text = "search x\nnameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver bad\n";
        let own = "10.96.0.10".parse().expect("ip");
        assert_eq!(
            system_resolvers(text, own),
            ["192.0.2.1:53".parse().expect("addr")]
        );
    }
}
