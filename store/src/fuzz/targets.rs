//! What is fed, and with what.
//!
//! Invariant: every corpus is made by the code that writes such bytes, so it follows the formats by itself.

mod bucket;
mod files;
mod gateway;
mod state;
mod users;

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use corten_proto::corten::store::v1 as pb;
use corten_proto::etcd::etcdserverpb as etcd;
use corten_store_core::Revision;
use prost::Message;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::run;
use crate::archive::{self, Manifest, Secret};
use crate::config::Config;
use crate::peer::transfer;
use crate::raft::codec;
use crate::raft::identity::{self, Identity};
use crate::raft::snapshot::SnapshotDir;
use crate::raft::types::MemberId;
use crate::raft::wal::{Wal, WalOptions};
use crate::replica::backup;
use crate::server::authority::Tolerant;

fn nothing(_: &mut Vec<u8>) {}

fn log_id() -> Option<pb::LogId> {
    Some(pb::LogId { term: 3, index: 77 })
}

fn membership() -> pb::Membership {
    let node = |id| pb::MemberNode {
        id,
        name: format!("m{id}"),
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        client_urls: vec!["http://127.0.0.1:2379".to_owned()],
        started: true,
        ..Default::default()
    };
    let set = |ids: &[u64]| pb::VoterSet { ids: ids.to_vec() };
    pb::Membership {
        configs: vec![set(&[1, 2, 3]), set(&[1, 2, 4])],
        nodes: (1..=4).map(node).collect(),
    }
}

fn stored_membership() -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: log_id(),
        membership: Some(membership()),
    }
}

fn command() -> Bytes {
    let put = etcd::PutRequest {
        key: "/registry/pods/default/a".into(),
        value: vec![7; 300].into(),
        lease: 5,
        prev_kv: true,
        ..Default::default()
    };
    let request = pb::RaftRequest {
        command: Some(pb::raft_request::Command::Put(put)),
        ..Default::default()
    };
    request.encode_to_vec().into()
}

fn entries() -> Vec<pb::LogEntry> {
    use pb::log_entry::Payload;
    [
        None,
        Some(Payload::Command(command())),
        Some(Payload::Membership(membership())),
    ]
    .into_iter()
    .map(|payload| pb::LogEntry {
        log_id: log_id(),
        payload,
    })
    .collect()
}

/// Decodes as each kind of message that comes from another member or from the log, and converts it.
fn as_any_message(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(message) = pb::AppendRequest::decode(bytes.clone()) {
        let _ = codec::append_request(message);
    }
    if let Ok(message) = pb::AppendResponse::decode(bytes.clone()) {
        let _ = codec::append_result(&message);
    }
    if let Ok(message) = pb::LogEntry::decode(bytes.clone()) {
        let again = message.clone();
        if let Ok(entry) = codec::entry(message) {
            let written = codec::entry_to_pb(&entry);
            assert!(codec::entry(written).is_ok(), "{again:?}");
        }
    }
    if let Ok(message) = pb::StoredMembership::decode(bytes.clone()) {
        let _ = codec::stored_membership(&message);
    }
    if let Ok(message) = pb::SnapshotMeta::decode(bytes.clone()) {
        let _ = codec::snapshot_meta(&message);
    }
    if let Ok(message) = pb::VoteRequest::decode(bytes.clone()) {
        let _ = codec::required_vote(message.vote.as_ref());
    }
    if let Ok(message) = pb::MembersResponse::decode(bytes.clone())
        && let Some(stored) = &message.membership
    {
        let _ = codec::stored_membership(stored);
    }
    let _ = pb::RaftRequest::decode(bytes.clone());
    let _ = pb::RaftReply::decode(bytes.clone());
    let _ = pb::ForwardRequest::decode(bytes.clone());
    let _ = pb::SnapshotRequest::decode(bytes);
}

#[test]
fn messages_of_other_members() {
    let vote = Some(pb::Vote {
        term: 3,
        voted_for: 1,
        committed: true,
    });
    let mut corpus: Vec<Vec<u8>> = entries().iter().map(Message::encode_to_vec).collect();
    corpus.push(
        pb::AppendRequest {
            vote,
            prev: log_id(),
            entries: entries(),
            leader_commit: log_id(),
        }
        .encode_to_vec(),
    );
    corpus.push(stored_membership().encode_to_vec());
    corpus.push(
        pb::SnapshotMeta {
            last_log_id: log_id(),
            membership: Some(stored_membership()),
        }
        .encode_to_vec(),
    );
    corpus.push(
        pb::MembersResponse {
            cluster_id: 9,
            membership: Some(stored_membership()),
            leader: 1,
            have_log: vec![1, 2],
            leads: true,
            level: 1,
        }
        .encode_to_vec(),
    );
    corpus.push(command().to_vec());
    run("messages", &corpus, nothing, as_any_message);
}

#[test]
fn the_identity_file() {
    let dir = tempfile::tempdir().expect("temp dir");
    let identity = Identity {
        cluster: 7,
        member: MemberId(9),
    };
    identity::save(dir.path(), identity, "m1").expect("saved");
    let file = dir.path().join("identity");
    let corpus = [std::fs::read(&file).expect("read")];
    let repair = |bytes: &mut Vec<u8>| {
        let len = bytes.len().saturating_sub(4);
        bytes.truncate(len);
        let crc = crc32c::crc32c(bytes).to_le_bytes();
        bytes.extend_from_slice(&crc);
    };
    run("identity", &corpus, repair, |bytes| {
        std::fs::write(&file, bytes).expect("written");
        let _ = identity::load(dir.path());
    });
}

#[test]
fn the_files_of_the_log() {
    let dir = tempfile::tempdir().expect("temp dir");
    let options = |dir: &std::path::Path| WalOptions {
        segment_bytes: 4096,
        ..WalOptions::new(dir)
    };
    let made = dir.path().join("made");
    let wal = Wal::open(options(&made)).expect("opened");
    for index in 0..30_u64 {
        let mut message = entries()[usize::try_from(index % 3).expect("small")].clone();
        message.log_id = Some(pb::LogId { term: 1, index });
        let entry = codec::entry(message).expect("valid");
        let (done, synced) = std::sync::mpsc::sync_channel(1);
        wal.append([entry], Box::new(move |result| drop(done.send(result))))
            .expect("taken");
        synced.recv().expect("answered").expect("synced");
    }
    wal.close();
    let mut names: Vec<_> = std::fs::read_dir(&made)
        .expect("listed")
        .map(|item| item.expect("an item").path())
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .collect();
    names.sort();
    let last = names.pop().expect("at least one");
    let corpus = [std::fs::read(&last).expect("read")];
    let at = dir.path().join("fed");
    run("log", &corpus, nothing, |bytes| {
        let _ = std::fs::remove_dir_all(&at);
        std::fs::create_dir_all(&at).expect("created");
        for file in names.iter() {
            std::fs::copy(file, at.join(file.file_name().expect("a name"))).expect("copied");
        }
        std::fs::write(at.join(last.file_name().expect("a name")), bytes).expect("written");
        if let Ok(wal) = Wal::open(options(&at)) {
            let _ = wal.read(0..u64::MAX, usize::MAX);
        }
    });
}

#[test]
fn the_content_of_backups() {
    let corpus = [state::backup()];
    let repair = |bytes: &mut Vec<u8>| {
        let len = bytes.len().saturating_sub(32);
        bytes.truncate(len);
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
    };
    run("backup", &corpus, repair, |bytes| {
        let at = Some((Revision::new(i64::MAX), Revision::new(3)));
        let _ = backup::inspect(bytes, at);
        let _ = backup::restore(&corten_store_core::memory::MemoryBackend::new(), bytes);
    });
}

#[test]
fn snapshots_of_etcd_itself() {
    let corpus = [
        archive::etcd::tests::snapshot(false),
        archive::etcd::tests::snapshot(true),
    ];
    run("etcd's snapshot", &corpus, nothing, |bytes| {
        let backend = corten_store_core::memory::MemoryBackend::new();
        // The hash in front of it hides nothing that is read here.
        let _ = archive::etcd::read(&Bytes::copy_from_slice(bytes), &backend);
    });
}

#[test]
fn packed_and_sealed_backups() {
    let pack = |secret: &Secret, content: &[u8]| archive::pack_for_tests(secret, content);
    let key = Secret::Key([5; 32]);
    let content = state::backup();
    let corpus = [
        pack(&Secret::None, &content),
        pack(&key, &content),
        pack(&Secret::None, &vec![0; 1 << 20]),
        content,
    ];
    run("archive", &corpus, nothing, |bytes| {
        for secret in [&Secret::None, &key] {
            if let Ok(content) = archive::open(bytes, secret) {
                let mut sink = std::io::sink();
                // A few bytes may stand for many: what matters is that they are never held at once.
                let _ = std::io::copy(&mut content.take(256 << 20), &mut sink);
            }
        }
    });
}

#[test]
fn zstd_within_a_good_seal() {
    let key = Secret::Key([5; 32]);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("begun");
    encoder.write_all(&state::backup()).expect("written");
    let corpus = [encoder.finish().expect("finished")];
    run("sealed zstd", &corpus, nothing, |bytes| {
        let sealed = archive::seal_for_tests(&key, bytes);
        if let Ok(content) = archive::open(&sealed[..], &key) {
            let _ = backup::inspect(content, None);
        }
    });
}

#[test]
fn manifests_and_configurations() {
    let manifest = br#"{"format":1,"file":"corten-1.corten","cluster_id":"a","member_id":"b",
        "taken_at":"2026-01-01T00:00:00Z","revision":5,"compacted_revision":1,"rows":9,"keys":3,"hash_kv":77,
        "hash_kv_compacted_revision":1,"content_bytes":100,"stored_bytes":50,"stored_sha256":"00",
        "compression":"zstd","encryption":"nothing","etcd_version":"3.6.5","corten_version":"0.1.0","code":"ab"}"#;
    assert!(Manifest::decode(manifest).is_ok());
    let config = Config {
        initial_cluster: "default=http://127.0.0.1:2380".to_owned(),
        prefix_quota: vec!["/registry/events/=5MiB".to_owned()],
        auto_compaction_retention: "1h30m".to_owned(),
        ..Config::default()
    };
    let toml = config.to_toml().expect("written").into_bytes();
    let json = serde_json::to_vec(&config).expect("written");
    let corpus = [manifest.to_vec(), toml, json];
    run("manifest and configuration", &corpus, nothing, |bytes| {
        let _ = Manifest::decode(bytes);
        let text = String::from_utf8_lossy(bytes);
        let from_json = serde_json::from_str::<Config>(&text).ok();
        for config in toml::from_str::<Config>(&text)
            .ok()
            .into_iter()
            .chain(from_json)
        {
            let _ = config.check();
        }
    });
}

#[test]
fn frames_of_a_snapshot() {
    use pb::snapshot_request::Part;
    let data = Bytes::from(vec![9; 1000]);
    let crc32c = crc32c::crc32c(&data);
    let file = pb::SnapshotFile {
        name: "000001.sst".to_owned(),
        size: 1000,
    };
    let parts = [
        Part::Head(pb::SnapshotHead {
            files: vec![file],
            ..Default::default()
        }),
        Part::Chunk(pb::SnapshotChunk {
            file: 0,
            offset: 0,
            crc32c,
            data,
        }),
        Part::Tail(pb::SnapshotTail {
            file_crc32c: vec![crc32c],
        }),
    ];
    // As on the wire: each message with its length before it.
    let mut stream = Vec::new();
    for part in parts {
        let message = pb::SnapshotRequest { part: Some(part) };
        stream.extend_from_slice(&message.encode_length_delimited_to_vec());
    }
    let parent = tempfile::tempdir().expect("temp dir");
    let outside = parent.path().join("outside");
    std::fs::create_dir(&outside).expect("created");
    let inside = parent.path().join("inside");
    run("snapshot frames", &[stream], nothing, |bytes| {
        let mut rest = Bytes::copy_from_slice(bytes);
        let mut messages = Vec::new();
        while let Ok(message) = pb::SnapshotRequest::decode_length_delimited(&mut rest) {
            messages.push(message);
            if rest.is_empty() {
                break;
            }
        }
        let mut messages = messages.into_iter();
        let Some(Part::Head(head)) = messages.next().and_then(|message| message.part) else {
            return;
        };
        let dir = SnapshotDir::fresh(&inside).expect("a name");
        let begun = transfer::Arrival::begin(head.files, dir);
        // Whether it is refused does not matter here.
        let _ =
            begun.and_then(|arrival| messages.take(64).try_fold(arrival, transfer::Arrival::take));
        let escaped = std::fs::read_dir(parent.path()).expect("listed").count();
        assert_eq!(escaped, 2, "a file was written outside of the folder");
    });
}

#[test]
fn the_beginning_of_client_connections() {
    // Preface, settings, headers as etcdctl sends them: an indexed method, a literal authority with a scheme.
    let block = [
        &b"\x83\x86"[..],
        b"\x41\x16http://127.0.0.1:23999",
        b"\x40\x02te\x08trailers",
    ]
    .concat();
    let len = u8::try_from(block.len()).expect("short");
    let corpus = [[
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
        &[0, 0, len, 1, 4, 0, 0, 0, 1],
        &block,
        &[0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0],
    ]
    .concat()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    run("authority", &corpus, nothing, |bytes| {
        let got = runtime.block_on(async {
            let mut got = Vec::new();
            let read = Tolerant::new(bytes).read_to_end(&mut got).await;
            read.map(|_| got)
        });
        let got = got.expect("bytes in memory are read");
        // One header may be spelled at greater length: Huffman's code halves at best.
        assert!(
            got.len() <= bytes.len() * 2 + 64,
            "{} of {}",
            got.len(),
            bytes.len()
        );
    });
}

#[test]
fn rows_that_a_disk_has_changed() {
    let corpus = state::rows_as_bytes();
    run("rows", &corpus, nothing, |bytes| {
        state::use_rows(&Arc::new(state::from_bytes(bytes)));
    });
}
