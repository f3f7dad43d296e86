//! The JSON gateway: bodies of requests, and the frames that services answer with.

use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::super::run;
use super::nothing;
use crate::http::Gateway;

/// A body that comes in pieces of so many bytes.
fn body(bytes: &[u8], piece: usize) -> Body {
    let pieces: Vec<_> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
    let frames = pieces
        .into_iter()
        .map(|piece| Ok::<_, Status>(Frame::data(piece)));
    Body::new(StreamBody::new(stream::iter(frames)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
}

#[test]
fn bodies_of_requests_in_json() {
    let put = br#"{"key":"Zm9v","value":"YmFy","prev_kv":true,"lease":"7"}"#;
    let txn = br#"{"compare":[{"key":"YQ==","target":"VALUE","result":"GREATER","value":"Yg=="},{"key":"Yw==","target":1,
        "create_revision":"0"}],"success":[{"request_txn":{"success":[{"request_range":{"key":"AA==","range_end":"AA==","limit":5,
        "sort_order":"DESCEND","sort_target":"MOD"}}],"failure":[{"requestDeleteRange":{"key":"YQ=="}}]}}]}"#;
    let watch = br#"{"create_request":{"key":"YQ==","start_revision":"3","filters":["NOPUT"]}} {"progress_request":{}}
        {"cancel_request":{"watch_id":"1"}}"#;
    let alarm = br#"{"action":"ACTIVATE","memberID":"18446744073709551615","alarm":2,"unknown":[1,{"a":null}]}"#;
    let deep = [
        br#"{"success":[{"request_txn":"#.repeat(30),
        b"{}".to_vec(),
        b"}]}".repeat(30),
    ]
    .concat();
    let corpus = [
        put.to_vec(),
        txn.to_vec(),
        watch.to_vec(),
        alarm.to_vec(),
        deep,
    ];
    let gateway = Gateway::new();
    let runtime = runtime();
    run("JSON bodies", &corpus, nothing, |bytes| {
        for path in [
            "/v3/kv/txn",
            "/v3/kv/put",
            "/v3/watch",
            "/v3/maintenance/alarm",
        ] {
            let read = |piece| runtime.block_on(gateway.frames_for_tests(path, body(bytes, piece)));
            let frames = read(bytes.len().max(1));
            assert_eq!(read(7), frames, "{path}: it matters where the network cuts");
            for frame in frames.iter().flatten() {
                let again = gateway.there_and_back_for_tests(path, frame);
                assert_eq!(again, frame, "{path}: JSON says another thing");
            }
        }
    });
}

#[test]
fn frames_that_services_answer_with() {
    use corten_proto::etcd::etcdserverpb as etcd;
    use prost::Message as _;
    let event = corten_proto::etcd::mvccpb::Event {
        r#type: 1,
        kv: Some(corten_proto::etcd::mvccpb::KeyValue {
            key: "a".into(),
            mod_revision: i64::MAX,
            ..Default::default()
        }),
        prev_kv: None,
    };
    let message = etcd::WatchResponse {
        header: Some(etcd::ResponseHeader::default()),
        watch_id: 1,
        events: vec![event; 3],
        ..Default::default()
    };
    let framed = |message: Vec<u8>| {
        let len = u32::try_from(message.len()).expect("short").to_be_bytes();
        [&[0][..], &len, &message].concat()
    };
    let one = framed(message.encode_to_vec());
    let corpus = [one.repeat(3), framed(Vec::new())];
    let gateway = Gateway::new();
    let runtime = runtime();
    run("gRPC frames", &corpus, nothing, |bytes| {
        let read =
            |piece| runtime.block_on(gateway.lines_for_tests("/v3/watch", body(bytes, piece)));
        let lines = read(bytes.len().max(1));
        assert_eq!(read(3), lines, "it matters where the frames are cut");
        for line in lines {
            let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
            assert!(value.is_object(), "{value}");
        }
    });
}
