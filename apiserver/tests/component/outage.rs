//! The store goes away: reads and writes are answered 503 within a bounded time, however many wait, and all is well again when
//! it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corten_base::shutdown::Shutdown;
use corten_base::tasks::{TaskKind, spawn};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Api, config_map, until};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// The patience of one request with the store, and some seconds for a loaded machine.
const BOUND: Duration = Duration::from_secs(16);

/// A store on a socket behind a line that can be cut: bytes then go nowhere, as when packets are dropped.
struct Line {
    address: std::net::SocketAddr,
    cut: Arc<AtomicBool>,
    shutdown: Shutdown,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Line {
    async fn start() -> Self {
        let shutdown = Shutdown::new();
        let behind = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let store = behind.local_addr().expect("an address");
        let stop = shutdown.clone();
        spawn("store", TaskKind::Background, async move {
            corten_store::memory::serve(behind, stop)
                .await
                .expect("it serves");
        });
        let front = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = front.local_addr().expect("an address");
        let cut = Arc::new(AtomicBool::new(false));
        let (flag, stop) = (Arc::clone(&cut), shutdown.clone());
        spawn("line", TaskKind::Background, async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = stop.wait() => return,
                    accepted = front.accept() => accepted,
                };
                let (client, _) = accepted.expect("accepted");
                let (flag, stop) = (Arc::clone(&flag), stop.clone());
                spawn(
                    "wire",
                    TaskKind::Connection,
                    wire(client, store, flag, stop),
                );
            }
        });
        Self {
            address,
            cut,
            shutdown,
        }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }
}

async fn wire(
    client: TcpStream,
    store: std::net::SocketAddr,
    cut: Arc<AtomicBool>,
    stop: Shutdown,
) {
    let Ok(store) = TcpStream::connect(store).await else {
        return;
    };
    let (client_read, client_write) = client.into_split();
    let (store_read, store_write) = store.into_split();
    let there = pump(client_read, store_write, Arc::clone(&cut));
    let back = pump(store_read, client_write, cut);
    tokio::select! {
        biased;
        () = stop.wait() => {}
        _ = futures::future::join(there, back) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    cut: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 << 10];
    // What was lost while the line was cut cannot be made up for: the connection is dead from then on.
    let mut dead = false;
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        dead |= cut.load(Ordering::SeqCst);
        if !dead && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_every_request_is_answered_in_time() {
    let line = Line::start().await;
    let url = format!("http://{}", line.address);
    let api = Api::build(|config| config.store_endpoints = vec![url], None).await;
    api.ready().await;
    let made = api
        .rest("jane", "POST", MAPS, Some(&config_map("a", 1)))
        .await;
    assert_eq!(made.code, 201);

    line.cut(true);
    let begin = Instant::now();
    let map = config_map("b", 1);
    let one = format!("{MAPS}/a");
    let requests = (0..40).map(|n| match n % 4 {
        0 => api.rest("jane", "GET", MAPS, None),
        1 => api.rest("jane", "GET", &one, None),
        2 => api.rest("jane", "POST", MAPS, Some(&map)),
        _ => api.rest("jane", "DELETE", &one, None),
    });
    // One comes while these wait; it does not wait for two patiences.
    let late = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begin = Instant::now();
        assert_eq!(api.rest("jane", "GET", MAPS, None).await.code, 503);
        begin.elapsed()
    };
    let answered = async {
        let answers = join_all(requests).await;
        (answers, begin.elapsed())
    };
    let ((answers, took), waited) = futures::future::join(answered, late).await;
    assert!(took < BOUND && waited < BOUND, "{took:?} {waited:?}");
    for answer in answers {
        let status = answer.json();
        assert_eq!(answer.code, 503, "{status}");
        assert_eq!(status["reason"], "ServiceUnavailable", "{status}");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    // What the cache may answer, it still does.
    let cached = format!("{MAPS}?resourceVersion=0");
    assert_eq!(api.rest("jane", "GET", &cached, None).await.code, 200);

    line.cut(false);
    until("writes are answered again", async || {
        let made = api.rest("jane", "POST", MAPS, Some(&map)).await;
        matches!(made.code, 201 | 409).then_some(())
    })
    .await;
    until("reads are answered again", async || {
        let read = api.rest("jane", "GET", &format!("{MAPS}/b"), None).await;
        (read.code == 200).then_some(())
    })
    .await;
}
