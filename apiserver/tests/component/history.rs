//! What the watch cache remembers stays within its budget, and a watcher that does not read is cut without harm to others.

use std::time::Duration;

use corten_proto::corten::api::v1 as pb;
use corten_proto::corten::api::v1::watch_reply::Type;
use serde_json::{Value, json};

use crate::harness::{Api, LIMIT, config_map, target};

const KIB: usize = 1 << 10;
const MIB: f64 = 1_048_576.0;
const BUDGET: usize = 16;
const HISTORY: &str = "apiserver_watch_cache_history_bytes{group=\"\",resource=\"configmaps\"}";
const LIVE: &str = "apiserver_watch_cache_live_event_bytes";
const CUT_SLOW: &str = "apiserver_watch_cuts_total{reason=\"slow\"}";
const CUT_BUDGET: &str = "apiserver_watch_cuts_total{reason=\"budget\"}";

async fn watch(api: &Api) -> tonic::Streaming<pb::WatchReply> {
    let request = pb::WatchRequest {
        target: target("", "configmaps", "default", ""),
        ..pb::WatchRequest::default()
    };
    // A channel of its own: a stalled stream must not hold the others' window.
    let opened = api.grpc("jane").watch(request).await;
    opened.expect("a watch").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_objects_that_change_often_stay_within_the_budget() {
    const WRITES: usize = 80;
    let api = Api::start(|config| config.watch_cache_budget = Some(BUDGET)).await;
    let mut client = api.grpc("admin");
    let create = pb::CreateRequest {
        target: target("", "configmaps", "default", ""),
        object: config_map("big", 500 * KIB).to_string().into(),
        ..pb::CreateRequest::default()
    };
    client.create(create).await.expect("created");
    let mut reader = watch(&api).await;
    let stalled = watch(&api).await;
    // Reads all along, and notes the last state that it saw.
    let reading = async {
        let mut last = 0;
        while last < WRITES {
            let message = tokio::time::timeout(LIMIT, reader.message()).await;
            let reply = message
                .expect("in time")
                .expect("a stream")
                .expect("not cut");
            if matches!(reply.r#type(), Type::Added | Type::Modified) {
                let object: Value = serde_json::from_slice(&reply.object).expect("JSON");
                let n = object["data"]["n"].as_str().unwrap_or("0");
                last = n.parse().expect("a number");
            }
        }
    };
    let writing = async {
        let mut most: (f64, f64) = (0.0, 0.0);
        for n in 1..=WRITES {
            let patch = pb::PatchRequest {
                target: target("", "configmaps", "default", "big"),
                kind: pb::patch_request::Kind::Merge.into(),
                patch: json!({"data": {"n": n.to_string()}}).to_string().into(),
                ..pb::PatchRequest::default()
            };
            client.patch(patch).await.expect("patched");
            most.0 = most.0.max(api.metric(HISTORY).await);
            most.1 = most.1.max(api.metric(LIVE).await);
        }
        most
    };
    let ((), (history, live)) = futures::future::join(reading, writing).await;
    // One resource has an eighth of the budget; a last encoding may be made before the next trim.
    assert!(history <= 2.0 * MIB + 1.1 * MIB, "{history}");
    assert!(history >= MIB, "what fits is remembered: {history}");
    assert!(live <= 17.0 * MIB, "{live}");
    assert!(api.metric(CUT_SLOW).await + api.metric(CUT_BUDGET).await >= 1.0);

    // The one that did not read hears so, with the code that makes clients list again.
    let mut stalled = stalled;
    let ended = async {
        loop {
            let reply = stalled.message().await.expect("a stream")?;
            if reply.r#type() == Type::Error {
                return Some(serde_json::from_slice::<Value>(&reply.object).expect("JSON"));
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(30), ended).await;
    let status = status.expect("in time").expect("an ERROR before the end");
    assert_eq!(status["code"], 410, "{status}");
}
