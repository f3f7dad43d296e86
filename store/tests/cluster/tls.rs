//! Members that trust each other by certificate, and nobody else.

use std::time::Duration;

use corten_base::pki::{Authority, CertRequest, Usage};

use super::harness::{Cluster, get, put};

#[tokio::test(flavor = "multi_thread")]
async fn members_agree_over_mutual_tls() {
    let mut cluster = Cluster::configure(3);
    let dir = cluster.root.path().to_owned();
    let authority = Authority::create("test").expect("authority");
    std::fs::write(dir.join("ca.crt"), authority.cert_pem()).expect("write");
    for (i, config) in cluster.configs.iter_mut().enumerate() {
        let issued = authority
            .issue(&CertRequest {
                common_name: format!("store-m{i}"),
                organizations: Vec::new(),
                dns_names: Vec::new(),
                ips: vec!["127.0.0.1".parse().expect("an address")],
                usage: Usage::Both,
                valid_for: Duration::from_secs(3600),
            })
            .expect("issued");
        let (cert, key) = (dir.join(format!("{i}.crt")), dir.join(format!("{i}.key")));
        std::fs::write(&cert, issued.cert_pem).expect("write");
        std::fs::write(&key, issued.key_pem).expect("write");
        config.peer_cert_file = Some(cert);
        config.peer_key_file = Some(key);
        config.peer_trusted_ca_file = Some(dir.join("ca.crt"));
        config.initial_cluster = config.initial_cluster.replace("http:", "https:");
        config.listen_peer_urls = vec![config.listen_peer_urls[0].replace("http:", "https:")];
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    put(cluster.member((leader + 1) % 3), "k", b"v").await;
    assert_eq!(
        get(cluster.member((leader + 2) % 3), "k")
            .await
            .map(|(value, _)| value),
        Some(b"v".to_vec())
    );
    cluster.stop_all().await;
}
