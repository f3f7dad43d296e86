//! The gRPC health check (`grpc.health.v1.Health/Check`), spoken directly over HTTP/2: one request of one field and one
//! answer of one field do not need generated code.

use bytes::{BufMut, Bytes, BytesMut};
use corten_base::tasks::{self, TaskKind};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// `SERVING` of the protocol.
const SERVING: u64 = 1;

/// Ok when the service says that it serves.
pub(super) async fn health(host: &str, port: u16, service: &str) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| {
        format!("error: failed to connect service \"{host}:{port}\": {error}")
    };
    let tcp = TcpStream::connect((host, port))
        .await
        .map_err(|error| fail(&error))?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
        .await
        .map_err(|error| fail(&error))?;
    let driver = tasks::spawn("probe-grpc", TaskKind::Connection, async move {
        let _ = connection.await;
    });
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.35")
        .body(Full::new(encode(service)))
        .map_err(|error| fail(&error))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let headers = response.headers().clone();
        let body = response.into_body().collect().await?;
        let trailers = body.trailers().cloned().unwrap_or(headers);
        Ok::<_, hyper::Error>((trailers, body.to_bytes()))
    }
    .await;
    driver.abort();
    let (trailers, body) = answer.map_err(|error| fail(&error))?;
    let status = trailers
        .get("grpc-status")
        .and_then(|v| v.to_str().ok())
        .unwrap_or("0");
    match status {
        "0" if decode(&body) == Some(SERVING) => Ok(()),
        "0" => Err(format!("service unhealthy (responded with status {})", decode(&body).unwrap_or(0))),
        "12" => Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned()),
        code => {
            let text = trailers.get("grpc-message").and_then(|v| v.to_str().ok()).unwrap_or("");
            Err(format!("rpc error: code = {code} desc = {text}"))
        }
    }
}

/// One uncompressed message: field 1, a string.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put(message);
    frame.freeze()
}

/// Field 1 of the answer, an enum below 128; absent means UNKNOWN.
fn decode(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, value, ..] => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire() {
        assert_eq!(&encode("ab")[..], &[0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(&encode("")[..], &[0, 0, 0, 0, 0]);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Some(0));
    }
}
