//! `corten backup`, `corten restore` and `corten recover-quorum` as an operator runs them, against a store in a process of its
//! own. Nothing here needs root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use corten_proto::etcd::etcdserverpb::kv_client::KvClient;
use corten_proto::etcd::etcdserverpb::{PutRequest, RangeRequest};

/// Far beyond what anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").port()
}

fn corten(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.args(args).env_remove("CORTEN_LOG");
    command
}

fn run(args: &[&str]) -> Output {
    corten(args).output().expect("the launcher starts")
}

fn said(out: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&out.stdout) + &text(&out.stderr)
}

fn ok(args: &[&str]) -> String {
    let out = run(args);
    assert!(out.status.success(), "{args:?}: {}", said(&out));
    said(&out)
}

/// Fails with this code, and says this.
fn fails(args: &[&str], code: i32, words: &str) {
    let out = run(args);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {}", said(&out));
    assert!(said(&out).contains(words), "{args:?}: {}", said(&out));
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Best effort at the end of a test.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Store {
    client: String,
    config: PathBuf,
}

impl Store {
    fn new(root: &Path, name: &str) -> Store {
        let client = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let config = root.join(format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\ndata-dir = \"{}\"\nlisten-client-urls = [\"{client}\"]\nlisten-peer-urls = [\"{peer}\"]\n",
            root.join(name).display()
        );
        std::fs::write(&config, text).expect("written");
        Store { client, config }
    }

    fn config(&self) -> &str {
        self.config.to_str().expect("text")
    }

    fn start(&self) -> Running {
        let child = corten(&["role", "store", "--config", self.config()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Running(child.expect("started"))
    }

    fn kv(&self) -> KvClient<tonic::transport::Channel> {
        let endpoint = tonic::transport::Endpoint::from_shared(self.client.clone());
        KvClient::new(endpoint.expect("an address").connect_lazy())
    }

    async fn put(&self, key: &str) -> i64 {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: "value".into(),
            ..Default::default()
        };
        let until = Instant::now() + DEADLINE;
        loop {
            match self.kv().put(request.clone()).await {
                Ok(answer) => return answer.into_inner().header.expect("a header").revision,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn count(&self) -> i64 {
        let request = RangeRequest {
            key: "k/".into(),
            range_end: "k0".into(),
            count_only: true,
            ..Default::default()
        };
        let until = Instant::now() + DEADLINE;
        loop {
            match self.kv().range(request.clone()).await {
                Ok(answer) => return answer.into_inner().count,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn backups(dir: &Path) -> usize {
    let items = std::fs::read_dir(dir).expect("listed");
    let path = |item: std::io::Result<std::fs::DirEntry>| item.expect("an item").path();
    let is_one = |path: &PathBuf| path.extension().is_some_and(|end| end == "corten");
    items.map(path).filter(is_one).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_listed_verified_and_restored() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::new(root.path(), "old");
    let mut running = store.start();
    for i in 0..20 {
        store.put(&format!("k/{i}")).await;
    }
    let (to, key) = (root.path().join("backups"), root.path().join("key"));
    std::fs::create_dir(&to).expect("created");
    std::fs::write(&key, [9; 32]).expect("written");
    let (to, key) = (text(&to), text(&key));
    let take = [
        "backup",
        "--to",
        to,
        "--endpoints",
        &store.client,
        "--encryption-key-file",
        key,
    ];
    let taken = ok(&take);
    assert!(
        taken.contains("revision 21 keys 20") && taken.contains("verified"),
        "{taken}"
    );
    assert!(ok(&["backup", "--to", to, "--list"]).contains("good"));
    let verify = [
        "backup",
        "--to",
        to,
        "--verify",
        "newest",
        "--encryption-key-file",
        key,
    ];
    assert!(ok(&verify).contains("verified"));
    fails(&verify[..5], 1, "encrypted with a key file");
    fails(
        &["backup", "--to", to, "--endpoints", "http://127.0.0.1:1"],
        1,
        "no member answers",
    );
    fails(&["backup", "--to", to, "--keep", "0"], 2, "--keep");
    running.0.kill().expect("killed");
    restore_whole(root.path(), to, key).await;
    restore_bare(root.path(), to, key);
}

async fn restore_whole(root: &Path, to: &str, key: &str) {
    let new = Store::new(root, "new");
    let restore = [
        "restore",
        to,
        "--config",
        new.config(),
        "--encryption-key-file",
        key,
        "--bump-revision",
        "1000",
        "--mark-compacted",
    ];
    let wrong = root.join("wrong");
    std::fs::write(&wrong, [8; 32]).expect("written");
    let mut with_wrong = restore;
    with_wrong[5] = text(&wrong);
    fails(&with_wrong, 1, "wrong key file");
    let restored = ok(&restore);
    assert!(restored.contains("at revision 1021"), "{restored}");
    fails(&restore, 1, "is not empty");
    let running = new.start();
    assert_eq!(new.count().await, 20);
    assert_eq!(new.put("k/new").await, 1022);
    drop(running);
    let recover = ["recover-quorum", "--config", new.config()];
    fails(&recover, 1, "is the only voter of its cluster");
}

fn restore_bare(root: &Path, to: &str, key: &str) {
    // Without its manifest a backup is none, unless somebody insists.
    let file = std::fs::read_dir(to)
        .expect("listed")
        .map(|item| item.expect("an item").path())
        .find(|path| path.extension().is_some_and(|end| end == "corten"))
        .expect("a backup");
    std::fs::remove_file(format!("{}.json", file.display())).expect("removed");
    let third = Store::new(root, "third");
    let bare = [
        "restore",
        text(&file),
        "--config",
        third.config(),
        "--encryption-key-file",
        key,
    ];
    fails(&bare, 1, "has no manifest");
    ok(&[&bare[..], &["--without-manifest"]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_backups_are_counted_and_old_ones_go() {
    let root = tempfile::tempdir().expect("temp dir");
    let store = Store::new(root.path(), "m");
    let mut running = store.start();
    store.put("k/1").await;
    let to = root.path().join("backups");
    std::fs::create_dir(&to).expect("created");
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let _schedule = Running(
        corten(&[
            "backup",
            "--to",
            text(&to),
            "--endpoints",
            &store.client,
            "--every",
            "1s",
            "--keep",
            "2",
            "--listen-metrics",
            &address,
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started"),
    );
    let get = async |path: &str| -> Option<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&address).await.ok()?;
        let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    let until = Instant::now() + DEADLINE;
    let metrics = loop {
        let metrics = get("/metrics").await.unwrap_or_default();
        let made = metrics
            .lines()
            .find_map(|line| line.strip_prefix("corten_backup_succeeded_total "))
            .and_then(|count| count.parse::<u64>().ok());
        if made >= Some(4) {
            break metrics;
        }
        assert!(Instant::now() < until, "{metrics}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(metrics.contains("corten_backup_good 2"), "{metrics}");
    assert!(
        metrics.contains("corten_backup_last_success_timestamp_seconds 1"),
        "{metrics}"
    );
    // One may be on its way.
    assert!((2..=3).contains(&backups(&to)), "{}", backups(&to));
    assert!(
        get("/readyz")
            .await
            .is_some_and(|answer| answer.contains("200 OK"))
    );
    running.0.kill().expect("killed");
    loop {
        let ready = get("/readyz").await.unwrap_or_default();
        if ready.contains("last-backup") {
            break;
        }
        assert!(Instant::now() < until + DEADLINE, "{ready}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(backups(&to) >= 2, "a failure removes nothing");
}
