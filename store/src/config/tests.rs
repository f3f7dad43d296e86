//! What is refused, and how values are read.

use super::*;

#[test]
fn a_member_alone_needs_nothing() {
    let settings = Config::default().check().expect("defaults are usable");
    assert_eq!(settings.cluster.len(), 1);
    assert_eq!(settings.advertise_peer, ["http://127.0.0.1:2380"]);
    assert!(settings.peer_tls.is_none());
}

#[test]
fn all_faults_are_reported_together() {
    let config = Config {
        initial_cluster: "a=https://1.2.3.4:2380,b".to_owned(),
        cert_file: Some("cert".into()),
        election_timeout: 50,
        listen_client_urls: vec!["ftp://x:1".to_owned()],
        ..Config::default()
    };
    let ConfigError(faults) = config.check().expect_err("faulty");
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn a_cluster_is_read_by_name() {
    let config = Config {
        name: "b".to_owned(),
        initial_cluster: "a=http://h1:1,b=http://127.0.0.1:2380,a=http://h2:1".to_owned(),
        ..Config::default()
    };
    let settings = config.check().expect("usable");
    assert_eq!(settings.cluster["a"], ["http://h1:1", "http://h2:1"]);
}

#[test]
fn retention_is_read_as_etcd_reads_it() {
    let read = |mode, text: &str| {
        let config = Config {
            auto_compaction_mode: mode,
            auto_compaction_retention: text.to_owned(),
            ..Config::default()
        };
        config.check().ok().map(|settings| settings.retention)
    };
    let minutes = |minutes: u64| Some(Retention::Age(Duration::from_secs(60 * minutes)));
    let (periodic, revision) = (CompactionMode::Periodic, CompactionMode::Revision);
    assert_eq!(read(periodic, "0"), Some(Retention::All));
    assert_eq!(read(periodic, "2"), minutes(120));
    assert_eq!(read(periodic, "5m"), minutes(5));
    assert_eq!(read(periodic, "1h30m"), minutes(90));
    assert_eq!(read(revision, "1000"), Some(Retention::Revisions(1000)));
    for (mode, text) in [
        (periodic, "m"),
        (periodic, "-1h"),
        (periodic, "5x"),
        (revision, "5m"),
        (revision, ""),
    ] {
        assert_eq!(read(mode, text), None, "{text:?}");
    }
}

#[test]
fn flags_of_etcd_that_ask_for_what_is_so_anyhow_are_taken() {
    #[derive(clap::Parser)]
    struct Args {
        #[command(flatten)]
        store: Config,
    }
    let read = |args: &[&str]| {
        let all = ["corten-store"].iter().chain(args);
        let args: Args = clap::Parser::try_parse_from(all).expect("known flags");
        args.store
    };
    let plain = read(&["--client-cert-auth=false", "--peer-client-cert-auth=false"]);
    plain.check().expect("usable");
    let ConfigError(faults) = read(&["--client-cert-auth", "--peer-client-cert-auth=true"])
        .check()
        .expect_err("nothing to check certificates by");
    assert_eq!(faults.len(), 2, "{faults:#?}");
}
