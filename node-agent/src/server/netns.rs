//! Connecting from inside a pod's network namespace. The change of namespace is per thread, so a thread is made for it and
//! ends with it: no thread of the runtime ever stands in a pod.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;

/// Loopback answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a port on the pod's loopback; without a namespace, on the host's.
pub(super) async fn connect(netns: Option<&Path>, port: u16) -> std::io::Result<TcpStream> {
    let netns = netns.map(Path::to_owned);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns-connect".to_owned())
        .spawn(move || {
            let connect = || -> std::io::Result<StdStream> {
                if let Some(path) = netns {
                    setns(std::fs::File::open(path)?, CloneFlags::CLONE_NEWNET)?;
                }
                let v4 = SocketAddr::from(([127, 0, 0, 1], port));
                let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
                let stream = StdStream::connect_timeout(&v4, CONNECT_TIMEOUT).or_else(|first| {
                    StdStream::connect_timeout(&v6, CONNECT_TIMEOUT).map_err(|_| first)
                })?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            };
            // Nobody waits any more when the client has gone.
            let _ = sender.send(connect());
        })?;
    let stream = receiver.await.map_err(std::io::Error::other)??;
    TcpStream::from_std(stream)
}
