//! The small files that only a member itself writes, and those that an operator writes for it.

use std::path::Path;

use super::super::run;
use super::nothing;
use crate::archive::{Credentials, Login, Secret};
use crate::config::Config;
use crate::peer::connect::PeerUrl;
use crate::raft::identity::Identity;
use crate::raft::types::MemberId;
use crate::repair::{ledger, log, mark, peers};
use crate::rocks::settle_for_tests;

/// A folder, and a name in it.
struct File {
    dir: tempfile::TempDir,
    name: &'static str,
}

impl File {
    fn new(name: &'static str) -> File {
        let dir = tempfile::tempdir().expect("temp dir");
        File { dir, name }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.dir().join(self.name), bytes).expect("written");
    }

    fn read(&self) -> Vec<u8> {
        std::fs::read(self.dir().join(self.name)).expect("there")
    }
}

#[test]
fn the_name_of_the_tables() {
    let file = File::new("CURRENT");
    let tables = file.dir().join("db-3");
    std::fs::create_dir(&tables).expect("made");
    let corpus = [b"3\n".to_vec(), b"12\n\n\n".to_vec()];
    run("CURRENT", &corpus, nothing, |bytes| {
        file.write(bytes);
        let settled = settle_for_tests(file.dir());
        assert!(tables.is_dir(), "the tables were cleared away");
        if let Ok(number) = settled {
            assert_eq!(number, 3, "others are not there");
        }
    });
}

#[test]
fn the_note_of_a_log() {
    let file = File::new("log-made");
    let of = |member| Identity {
        cluster: 7,
        member: MemberId(member),
    };
    log::note_made(file.dir(), of(0xabcd)).expect("noted");
    let corpus = [file.read()];
    run("log-made", &corpus, nothing, |bytes| {
        file.write(bytes);
        assert!(log::was_made(file.dir(), of(0xabcd)), "it may vote again");
    });
}

#[test]
fn notes_of_repairs() {
    let repairs = File::new("repairs");
    let config = Config {
        data_dir: repairs.dir().to_owned(),
        ..Config::default()
    };
    let settings = config.check().expect("usable");
    let corpus = [b"1000\n\n2000\n\n".to_vec(), b"-5\n".to_vec()];
    run("repairs", &corpus, nothing, |bytes| {
        repairs.write(bytes);
        let _ = ledger::allow(&settings);
    });
    let under_way = File::new("repairing");
    ledger::begin(under_way.dir(), ledger::LOG).expect("begun");
    run("repairing", &[under_way.read()], nothing, |bytes| {
        under_way.write(bytes);
        let _ = ledger::under_way(under_way.dir());
    });
}

#[test]
fn marks_of_damage() {
    let file = File::new("DAMAGED");
    mark::set(file.dir(), "a block of 000007.sst").expect("set");
    run("DAMAGED", &[file.read()], nothing, |bytes| {
        file.write(bytes);
        assert!(mark::get(file.dir()).is_some(), "damage was forgotten");
    });
}

#[test]
fn peers_that_were_known() {
    let file = File::new("peers");
    let known = peers::Peers::from([
        vec!["http://10.0.0.2:2380".to_owned()],
        vec![
            "https://[fd00::3]:2380".to_owned(),
            "http://c.example:2380".to_owned(),
        ],
    ]);
    peers::note(file.dir(), &known).expect("noted");
    run("peers", &[file.read()], nothing, |bytes| {
        file.write(bytes);
        for urls in peers::known(file.dir()) {
            assert!(!urls.is_empty(), "somebody who lives nowhere");
            for url in urls {
                let _ = PeerUrl::parse(&url);
            }
        }
    });
}

#[test]
fn what_operators_keep_in_files() {
    let file = File::new("secret");
    let path = file.dir().join(file.name);
    let corpus = [
        b"[default]\naws_access_key_id = AKID\naws_secret_access_key=secret/with+signs\n".to_vec(),
        b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n".to_vec(),
        vec![7; 32],
        b"a passphrase of some length\n".to_vec(),
    ];
    run("secrets", &corpus, nothing, |bytes| {
        file.write(bytes);
        let _ = Credentials::from_file(&path);
        let _ = Secret::key_file(&path);
        let _ = Secret::passphrase_file(&path);
        let _ = Login::from_file("root", &path);
    });
}
