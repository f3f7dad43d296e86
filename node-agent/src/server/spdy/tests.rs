//! Frames and headers from a client that the test plays: what real clients send, and bytes that none would.

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use super::connection::Connection;
use super::frame::{self, Frame};
use super::headers::{Decoder, Encoder};

#[test]
fn headers_survive_the_shared_compression_state() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for round in 0..50 {
        let id = round.to_string();
        let block = encoder.encode(&[("streamtype", "data"), ("port", "8080"), ("requestid", &id)]);
        let headers = decoder.decode(&block).expect("decodes");
        assert_eq!(headers[2], ("requestid".to_owned(), id));
    }
}

#[tokio::test]
async fn a_stream_is_opened_read_and_answered() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let mut connection = Connection::start(server);
    let (mut read, mut write) = tokio::io::split(client);
    let headers = Encoder::new().encode(&[("streamType", "data")]);
    for sent in [
        Frame::SynStream {
            id: 1,
            fin: false,
            headers,
        },
        Frame::Data {
            id: 1,
            fin: true,
            data: Bytes::from_static(b"hello"),
        },
        Frame::Ping { id: 7 },
    ] {
        write.write_all(&frame::encode(&sent)).await.expect("send");
    }
    let stream = connection.accept().await.expect("a stream");
    assert_eq!(stream.header("streamtype"), Some("data"));
    let (mut data, writer) = stream.split();
    assert_eq!(data.recv().await.expect("data"), "hello");
    assert!(
        data.recv().await.is_none(),
        "the client has ended its direction"
    );
    writer
        .send(Bytes::from_static(b"back"))
        .await
        .expect("connected");
    writer.finish().await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(frame::read(&mut read).await.expect("frame").expect("open"));
    }
    assert!(seen.contains(&Frame::Ping { id: 7 }));
    assert!(seen.contains(&Frame::Data {
        id: 1,
        fin: false,
        data: Bytes::from_static(b"back")
    }));
    assert!(seen.contains(&Frame::Data {
        id: 1,
        fin: true,
        data: Bytes::new()
    }));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let mut rest = &bytes[..];
            while let Ok(Some(frame)) = frame::read(&mut rest).await {
                if let Frame::SynStream { headers, .. } = frame {
                    let _ = Decoder::new().decode(&headers);
                }
            }
        });
        let _ = Decoder::new().decode(&bytes);
    }
}
