//! The server on upstream's etcd instead of our store: nobody who has data in one is locked in, or out.
//!
//! etcd is found by `CORTEN_ETCD` or as `etcd-3.6` in the PATH; the test fails without one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::{Api, until};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Etcd {
    process: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    let named = std::env::var_os("CORTEN_ETCD").map(PathBuf::from);
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join("etcd-3.6"))
            .find(|file| file.exists())
    };
    let found = named.filter(|path| path.exists()).or_else(in_path);
    found.expect("an etcd: `make unit` builds one; or set CORTEN_ETCD")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

impl Etcd {
    fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (client, peer) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let process = Command::new(program)
            .args(["--name=m0", "--log-level=error"])
            .arg(format!("--data-dir={}", dir.path().join("data").display()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=m0={peer}"))
            .stdin(Stdio::null())
            .spawn()
            .expect("started");
        Self {
            process,
            url,
            _dir: dir,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_etcd_serves_as_the_store() {
    let etcd = Etcd::start(&program());
    let url = etcd.url.clone();
    let api = Api::build(move |config| config.store_endpoints = vec![url], None).await;
    api.ready().await;
    let map = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": value}});
    let made = api.rest("admin", "POST", MAPS, Some(&map("1"))).await;
    assert_eq!(made.code, 201, "{:?}", made.json());
    let path = format!("{MAPS}/m");
    let mut changed = made.json();
    changed["data"]["a"] = json!("2");
    let put = api.rest("admin", "PUT", &path, Some(&changed)).await;
    assert_eq!(put.code, 200, "{:?}", put.json());
    // The first version is not the newest any more.
    let stale = api.rest("admin", "PUT", &path, Some(&made.json())).await;
    assert_eq!(stale.code, 409, "{:?}", stale.json());
    // The watch cache follows etcd's watch.
    until("the list shows the change", async || {
        let list = api
            .rest("admin", "GET", &format!("{MAPS}?resourceVersion=0"), None)
            .await;
        let items = list.json()["items"].clone();
        let item = items
            .as_array()?
            .iter()
            .find(|item| item["metadata"]["name"] == "m")?
            .clone();
        (item["data"]["a"] == "2").then_some(())
    })
    .await;
    assert_eq!(api.rest("admin", "DELETE", &path, None).await.code, 200);
    assert_eq!(api.rest("admin", "GET", &path, None).await.code, 404);
}
