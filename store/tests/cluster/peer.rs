//! A member that sends nonsense harms nobody but itself.

use corten_proto::corten::store::v1 as pb;
use pb::peer_client::PeerClient;
use tonic::Request;
use tonic::transport::Endpoint;

use super::harness::{Cluster, put};

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_command_that_cannot_be_read_does_not_enter_the_log() {
    let mut cluster = Cluster::configure(3);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member(leader), "before", b"v").await;
    let status = cluster.member(leader).status().await.expect("status");
    let header = status.header.expect("header");
    let url = cluster.configs[leader].listen_peer_urls[0].clone();
    let channel = Endpoint::from_shared(url).expect("a URL").connect_lazy();
    let message = pb::ForwardRequest {
        commands: vec![pb::ForwardedCommand {
            id: 1,
            // A field of a length that is not there.
            command: vec![0x52, 0x7f].into(),
        }],
    };
    let mut request = Request::new(tokio_stream::once(message));
    let metadata = request.metadata_mut();
    metadata.insert("corten-cluster-id", header.cluster_id.into());
    metadata.insert("corten-to", header.member_id.into());
    let mut answers = PeerClient::new(channel)
        .forward(request)
        .await
        .expect("taken")
        .into_inner();
    let answer = answers.message().await.expect("the stream ends in order");
    assert_eq!(answer, None, "it was proposed");
    for i in 0..3 {
        put(cluster.member(i), "after", b"v").await;
    }
    cluster.stop_all().await;
}
