//! Backups of a running cluster: to a folder and to a bucket, sealed, read back, kept and restored.

use std::path::Path;
use std::time::{Duration, Instant};

use corten_base::pki::Authority;
use corten_proto::etcd::etcdserverpb as etcd;
use corten_store::archive::{
    self, Credentials, Login, Manifest, Place, S3, S3Options, Secret, Source, TakeError,
    TakeOptions, VerifyError,
};
use corten_store::{Refounding, restore};
use jiff::Timestamp;

use super::bucket::Bucket;
use super::harness::{Cluster, free_port, get, keys, put, wait_for};

/// A cluster whose members serve clients on real ports.
async fn start(size: usize) -> (Cluster, Source) {
    let mut cluster = Cluster::configure(size);
    let mut source = Source::default();
    for config in &mut cluster.configs {
        let url = format!("http://127.0.0.1:{}", free_port());
        config.listen_client_urls = vec![url.clone()];
        source.endpoints.push(url);
    }
    cluster.start_all().await;
    cluster.leader().await;
    (cluster, source)
}

fn options(secret: Secret, scratch: &Path) -> TakeOptions {
    TakeOptions {
        secret,
        scratch: scratch.to_owned(),
        corten_version: "test".to_owned(),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let items = std::fs::read_dir(dir).expect("listed");
    let name = |item: std::io::Result<std::fs::DirEntry>| {
        item.expect("an item")
            .file_name()
            .into_string()
            .expect("text")
    };
    let mut names: Vec<_> = items.map(name).collect();
    names.sort();
    names
}

fn words(error: impl Into<Box<dyn std::error::Error>>) -> String {
    let error = error.into();
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words.push_str(": ");
        words.push_str(&error.to_string());
        source = error.source();
    }
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_backup_is_verified_and_becomes_clusters_of_one_three_and_five() {
    let (mut old, source) = start(3).await;
    for i in 0..200 {
        put(old.member(0), &format!("k/{:03}", i % 60), &[b'v'; 500]).await;
    }
    let compaction = etcd::CompactionRequest {
        revision: 100,
        physical: true,
    };
    old.member(0)
        .kv()
        .compact(compaction)
        .await
        .expect("compacted");
    let last = put(old.member(0), "k/last", b"v").await;
    let expected = keys(old.member(0), "k/").await;
    let dir = tempfile::tempdir().expect("temp dir");
    let place = Place::Folder(dir.path().to_owned());
    let secret = Secret::Key([7; 32]);
    let taken = archive::take(&source, &place, &options(secret.clone(), dir.path()))
        .await
        .expect("taken");
    let manifest = taken.manifest;
    assert!(manifest.revision >= last, "{manifest:?}");
    assert_eq!(manifest.compacted_revision, 100);
    assert_eq!(manifest.keys, expected.len() as u64);
    assert_eq!(manifest.encryption, "key file");
    assert_eq!(
        names(dir.path()),
        [manifest.file.clone(), format!("{}.json", manifest.file)],
        "nothing temporary is left"
    );
    let again = archive::verify(&place, &manifest.file, &secret).await;
    assert_eq!(again.expect("good"), manifest);
    put(old.member(0), "k/late", b"after the backup").await;
    old.stop_all().await;

    let file = dir.path().join(&manifest.file);
    for size in [1, 3, 5] {
        let mut new = Cluster::configure(size);
        for config in &mut new.configs {
            config.initial_cluster_token = format!("restored-{size}");
            let restored = restore(config, &file, &secret, Refounding::default());
            assert_eq!(restored.expect("restored").revision, manifest.revision);
        }
        new.start_all().await;
        new.leader().await;
        for i in 0..size {
            assert_eq!(keys(new.member(i), "k/").await, expected);
        }
        let next = put(new.member(0), "k/new", b"v").await;
        assert_eq!(next, manifest.revision + 1);
        new.stop_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_users_asks_for_a_password() {
    let mut old = Cluster::configure(1);
    let url = format!("http://127.0.0.1:{}", free_port());
    // Shorter than the whole takes: each request needs a token of its own.
    old.configs[0].auth_token_ttl = 1;
    old.configs[0].bcrypt_cost = 4;
    old.configs[0].listen_client_urls = vec![url.clone()];
    old.start_all().await;
    put(old.member(0), "k", b"v").await;
    super::users::enable(old.member(0)).await;
    let dir = tempfile::tempdir().expect("temp dir");
    let place = Place::Folder(dir.path().to_owned());
    let options = options(Secret::None, dir.path());
    let mut source = Source {
        endpoints: vec![url],
        ..Source::default()
    };
    let nobody = archive::take(&source, &place, &options).await;
    let nobody = words(nobody.expect_err("refused"));
    assert!(nobody.contains("user name is empty"), "{nobody}");
    let file = dir.path().join("password");
    std::fs::write(&file, "wrong\n").expect("written");
    source.login = Some(Login::from_file("root", &file).expect("read"));
    let wrong = archive::take(&source, &place, &options).await;
    let wrong = words(wrong.expect_err("refused"));
    assert!(wrong.contains("invalid user ID or password"), "{wrong}");
    std::fs::write(&file, "pw of root\n").expect("written");
    source.login = Some(Login::from_file("root", &file).expect("read"));
    let taken = archive::take(&source, &place, &options).await;
    assert_eq!(taken.expect("taken").manifest.keys, 1);
    old.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_backup_is_said_and_nothing_is_restored_from_it() {
    let (mut old, source) = start(1).await;
    put(old.member(0), "k", b"v").await;
    let dir = tempfile::tempdir().expect("temp dir");
    let place = Place::Folder(dir.path().to_owned());
    let secret = Secret::passphrase(b"a passphrase of some length".to_vec()).expect("long enough");
    let taken = archive::take(&source, &place, &options(secret.clone(), dir.path()))
        .await
        .expect("taken");
    old.stop_all().await;
    let name = taken.manifest.file.clone();
    let file = dir.path().join(&name);
    let whole = std::fs::read(&file).expect("read");
    let target = Cluster::configure(1);
    let attempt = async |bytes: &[u8], secret: &Secret| {
        std::fs::write(&file, bytes).expect("written");
        let restored = restore(&target.configs[0], &file, secret, Refounding::default());
        let restored = words(restored.expect_err("refused"));
        assert!(!target.data_dir(0).exists(), "{restored}");
        let verified = archive::verify(&place, &name, secret).await;
        (restored, words(verified.expect_err("refused")))
    };
    let wrong = Secret::passphrase(b"another passphrase altogether".to_vec()).expect("long");
    for said in <[String; 2]>::from(attempt(&whole, &wrong).await) {
        assert!(said.contains("wrong passphrase"), "{said}");
    }
    for said in <[String; 2]>::from(attempt(&whole, &Secret::None).await) {
        assert!(said.contains("encrypted with a passphrase"), "{said}");
    }
    for said in <[String; 2]>::from(attempt(&whole[..whole.len() - 1], &secret).await) {
        assert!(said.contains("damaged or cut short"), "{said}");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for said in <[String; 2]>::from(attempt(&flipped, &secret).await) {
        assert!(said.contains("damaged"), "{said}");
    }
    let (said, _) = attempt(b"what is this", &secret).await;
    assert!(said.contains("not a backup"), "{said}");
    let mut bolt = vec![0; 4096];
    bolt[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
    // Such a file is restored when it is whole, and is no backup of ours even then.
    let (restored, verified) = attempt(&bolt, &secret).await;
    assert!(restored.contains("does not end with a hash"), "{restored}");
    assert!(verified.contains("not a backup"), "{verified}");

    // An older backup passed off as a newer one.
    std::fs::write(&file, &whole).expect("written");
    let mut forged = taken.manifest.clone();
    forged.taken_at = Timestamp::now() + Duration::from_secs(3600);
    std::fs::write(dir.path().join(format!("{name}.json")), forged.encode()).expect("written");
    let error = archive::verify(&place, &name, &secret).await;
    let error = error.expect_err("forged");
    assert!(matches!(error, VerifyError::Manifest(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_backups_as_a_folder_does() {
    let (mut old, source) = start(1).await;
    put(old.member(0), "k", b"v").await;
    let scratch = tempfile::tempdir().expect("temp dir");
    let bucket = Bucket::start().await;
    bucket.state.lock().busy = 2;
    let place = bucket.place();
    let options = options(Secret::Key([1; 32]), scratch.path());
    let mut taken = Vec::new();
    for round in 0..3 {
        let one = archive::take(&source, &place, &options)
            .await
            .expect("taken");
        let kept = archive::retain(&place, 2, &one.manifest, Timestamp::now()).await;
        let kept = kept.expect("retained");
        assert_eq!(kept.good, (round + 1).min(2), "{kept:?}");
        assert_eq!(kept.removed.len(), round / 2, "{kept:?}");
        taken.push(one.manifest);
    }
    let found = archive::found(&place).await.expect("listed");
    let found: Vec<&Manifest> = found.iter().map(|kept| &kept.manifest).collect();
    assert_eq!(
        found,
        [&taken[2], &taken[1]],
        "newest first, the oldest gone"
    );
    assert!(names(scratch.path()).is_empty());
    assert!(
        bucket
            .state
            .lock()
            .objects
            .keys()
            .all(|key| key.starts_with("some prefix/ü/corten-"))
    );

    let local = scratch.path().join("fetched");
    archive::fetch(&place, &taken[2].file, &local)
        .await
        .expect("fetched");
    archive::verify_file(&local, &taken[2], &options.secret).expect("good");
    old.stop_all().await;
    let mut new = Cluster::configure(1);
    restore(
        &new.configs[0],
        &local,
        &options.secret,
        Refounding::default(),
    )
    .expect("restored");
    new.start_all().await;
    new.leader().await;
    assert!(get(new.member(0), "k").await.is_some());
    new.stop_all().await;
}

/// Like a MinIO of one's own: its certificate is of an authority that no system knows.
#[tokio::test(flavor = "multi_thread")]
async fn backups_go_over_tls_to_a_bucket_whose_authority_is_named() {
    let (mut old, source) = start(1).await;
    put(old.member(0), "k", b"v").await;
    let scratch = tempfile::tempdir().expect("temp dir");
    let authority = Authority::create("the bucket's").expect("authority");
    let bucket = Bucket::start_tls(&authority, scratch.path()).await;
    let options = options(Secret::Key([1; 32]), scratch.path());
    let place = bucket.place();
    let taken = archive::take(&source, &place, &options).await;
    let manifest = taken.expect("taken").manifest;
    let found = archive::found(&place).await.expect("listed");
    assert_eq!(found.len(), 1);
    let again = archive::verify(&place, &manifest.file, &options.secret).await;
    assert_eq!(again.expect("good"), manifest);
    assert_eq!(bucket.state.lock().refused_to_shake_hands, 0);

    let stranger = Authority::create("another").expect("authority");
    let other = scratch.path().join("another.crt");
    std::fs::write(&other, stranger.cert_pem()).expect("written");
    // What is wrong with a certificate stays wrong: nobody is kept waiting.
    let began = Instant::now();
    let refusals = [
        (bucket.trusting(Some(other)).place(), "certificate"),
        (bucket.place_by_name("localhost"), "certificate not valid"),
    ];
    for (number, (place, expected)) in (1..).zip(refusals) {
        let refused = archive::take(&source, &place, &options).await;
        let refused = words(refused.expect_err("it is not who it should be"));
        assert!(refused.contains(expected), "{refused}");
        wait_for("the end of the handshake", async || {
            let count = bucket.state.lock().refused_to_shake_hands;
            assert!(count <= number, "asked again after {refused}");
            (count == number).then_some(())
        })
        .await;
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?}");

    let local = scratch.path().join("fetched");
    let fetched = archive::fetch(&place, &manifest.file, &local).await;
    fetched.expect("fetched");
    old.stop_all().await;
    let mut new = Cluster::configure(1);
    let how = Refounding::default();
    restore(&new.configs[0], &local, &options.secret, how).expect("restored");
    new.start_all().await;
    new.leader().await;
    assert!(get(new.member(0), "k").await.is_some());
    new.stop_all().await;
}

#[test]
fn authorities_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("ca.crt");
    let refused = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&file, text).expect("written");
        }
        let options = S3Options {
            endpoint: Some("https://127.0.0.1:1".to_owned()),
            region: "x".to_owned(),
            ca_file: Some(file.clone()),
        };
        let made = S3::new("s3://box/", &options, Credentials::new("a", "b", None));
        words(made.expect_err("no authority"))
    };
    for text in [None, Some(""), Some("no certificate")] {
        let said = refused(text);
        assert!(said.contains("ca.crt"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backup_goes_to_a_bucket_in_parts() {
    let (mut old, source) = start(1).await;
    let mut seed = 1_u64;
    let noise = |seed: &mut u64| -> Vec<u8> {
        let byte = || {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            seed.to_le_bytes()[3]
        };
        std::iter::repeat_with(byte).take(1 << 20).collect()
    };
    for i in 0..20 {
        put(old.member(0), &format!("large/{i}"), &noise(&mut seed)).await;
    }
    let scratch = tempfile::tempdir().expect("temp dir");
    let bucket = Bucket::start().await;
    let options = options(Secret::None, scratch.path());
    let taken = archive::take(&source, &bucket.place(), &options).await;
    let manifest = taken.expect("taken").manifest;
    assert!(manifest.stored_bytes > 20 << 20, "{manifest:?}");
    assert_eq!(bucket.state.lock().parts_seen, 2);
    old.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_does_not_read_back_is_none() {
    let (mut old, source) = start(1).await;
    put(old.member(0), "k", b"v").await;
    let scratch = tempfile::tempdir().expect("temp dir");
    let bucket = Bucket::start().await;
    bucket.state.lock().rots = true;
    let options = options(Secret::None, scratch.path());
    let error = archive::take(&source, &bucket.place(), &options).await;
    let error = error.expect_err("it rots");
    assert!(matches!(error, TakeError::Verify(_)), "{}", words(error));
    assert!(bucket.state.lock().objects.is_empty());

    let refused = archive::take(&source, &bucket.place_with("another secret"), &options).await;
    let refused = words(refused.expect_err("refused"));
    assert!(refused.contains("SignatureDoesNotMatch"), "{refused}");
    assert!(!refused.contains("another secret"), "{refused}");
    old.stop_all().await;
    let nobody = archive::take(&source, &bucket.place(), &options).await;
    let nobody = words(nobody.expect_err("stopped"));
    assert!(nobody.contains("no member answers"), "{nobody}");
}

/// traps.md: a snapshot that leaves out a keyspace, and "latest" by name.
#[tokio::test(flavor = "multi_thread")]
async fn leases_and_their_keys_come_back_and_watchers_start_over() {
    let (mut old, source) = start(1).await;
    let mut leases = etcd::lease_client::LeaseClient::new(old.member(0).channel.clone());
    let grant = etcd::LeaseGrantRequest { ttl: 3600, id: 77 };
    leases.lease_grant(grant).await.expect("granted");
    let request = etcd::PutRequest {
        key: "leased".into(),
        value: "v".into(),
        lease: 77,
        ..Default::default()
    };
    old.member(0).kv().put(request).await.expect("put");
    let dir = tempfile::tempdir().expect("temp dir");
    let place = Place::Folder(dir.path().to_owned());
    let options = options(Secret::None, dir.path());
    let manifest = archive::take(&source, &place, &options)
        .await
        .expect("taken")
        .manifest;
    old.stop_all().await;

    let mut new = Cluster::configure(1);
    let how = Refounding {
        bump_revision: 1000,
        mark_compacted: true,
    };
    let file = dir.path().join(&manifest.file);
    restore(&new.configs[0], &file, &Secret::None, how).expect("restored");
    new.start_all().await;
    new.leader().await;
    let mut leases = etcd::lease_client::LeaseClient::new(new.member(0).channel.clone());
    let ask = etcd::LeaseTimeToLiveRequest { id: 77, keys: true };
    let lease = wait_for("the lease", async || {
        leases.lease_time_to_live(ask).await.ok()
    })
    .await
    .into_inner();
    assert_eq!(lease.granted_ttl, 3600);
    assert_eq!(lease.keys, ["leased"]);
    let mut watch = etcd::watch_client::WatchClient::new(new.member(0).channel.clone());
    let create = etcd::WatchCreateRequest {
        key: "leased".into(),
        start_revision: manifest.revision + 1,
        ..Default::default()
    };
    let create = etcd::WatchRequest {
        request_union: Some(etcd::watch_request::RequestUnion::CreateRequest(create)),
    };
    let mut answers = watch
        .watch(tokio_stream::iter([create]))
        .await
        .expect("begun")
        .into_inner();
    let compacted = loop {
        let answer = answers.message().await.expect("an answer").expect("no end");
        if answer.canceled {
            break answer.compact_revision;
        }
    };
    assert_eq!(
        compacted,
        manifest.revision + 1000,
        "the client must start over"
    );
    new.stop_all().await;
}
