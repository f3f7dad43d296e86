//! Keys: put, get with its options, del, txn, compaction, watch.

use super::command::Etcdctl;
use super::start;

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_puts_gets_and_deletes() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        etcdctl.ok(&["del", "", "--from-key"]).await;
        for (key, value) in [("k/a", "3"), ("k/b", "1"), ("k/c", "2"), ("l", "4")] {
            etcdctl.prints(&["put", key, value], &["OK"]).await;
        }
        let get = |args: &[&'static str]| [&["get"], args].concat();
        let expected: [(&[&str], &[&str]); 12] = [
            (&["k/a"], &["k/a", "3"]),
            (&["nothing"], &[]),
            (&["k/", "--prefix", "--print-value-only"], &["3", "1", "2"]),
            (&["k/a", "k/c", "--print-value-only"], &["3", "1"]),
            (
                &["k/b", "--from-key", "--print-value-only"],
                &["1", "2", "4"],
            ),
            (
                &["k/", "--prefix", "--limit=2", "--print-value-only"],
                &["3", "1"],
            ),
            (
                &["k/", "--prefix", "--sort-by=VALUE", "--print-value-only"],
                &["1", "2", "3"],
            ),
            (
                &["k/", "--prefix", "--order=DESCEND", "--print-value-only"],
                &["2", "1", "3"],
            ),
            (
                &[
                    "k/",
                    "--prefix",
                    "--sort-by=MODIFY",
                    "--order=DESCEND",
                    "--limit=1",
                ],
                &["k/c", "2"],
            ),
            (
                &["k/", "--prefix", "--keys-only"],
                &["k/a", "", "k/b", "", "k/c"],
            ),
            (
                &["", "--prefix", "--consistency=s", "--limit=1"],
                &["k/a", "3"],
            ),
            (
                &["k/", "--prefix", "--limit=3", "--print-value-only"],
                &["3", "1", "2"],
            ),
        ];
        for (args, lines) in expected {
            etcdctl.prints(&get(args), lines).await;
        }
        let limited = get(&["k/", "--prefix", "--limit=2"]);
        assert_eq!(etcdctl.field(&limited, "Count").await, "3");
        assert_eq!(etcdctl.field(&limited, "More").await, "true");
        let whole = get(&["k/", "--prefix", "--limit=3"]);
        assert_eq!(etcdctl.field(&whole, "More").await, "false");
        if etcdctl.minor >= 5 {
            let count = get(&["k/", "--prefix", "--count-only"]);
            assert_eq!(etcdctl.field(&count, "Count").await, "3");
        }
        deletes(&etcdctl).await;
    }
}

async fn deletes(etcdctl: &Etcdctl) {
    etcdctl
        .prints(&["del", "k/a", "--prev-kv"], &["1", "k/a", "3"])
        .await;
    etcdctl.prints(&["del", "k/a"], &["0"]).await;
    etcdctl
        .prints(&["put", "l", "5", "--prev-kv"], &["OK", "l", "4"])
        .await;
    etcdctl
        .prints(&["put", "l", "--ignore-value"], &["OK"])
        .await;
    etcdctl.prints(&["get", "l"], &["l", "5"]).await;
    etcdctl.prints(&["del", "k/", "--prefix"], &["2"]).await;
    let value = etcdctl.ok_with(&["put", "stdin"], "from the input").await;
    assert_eq!(value, "OK");
    etcdctl
        .prints(&["get", "stdin"], &["stdin", "from the input"])
        .await;
    let error = etcdctl
        .refused(&["put", "l", "--ignore-lease", "--lease=7b"])
        .await;
    assert!(!error.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_runs_transactions() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let (flag, log) = (etcdctl.name("flag"), etcdctl.name("log"));
        etcdctl.ok(&["put", &flag, "1"]).await;
        let script = format!(
            "value(\"{flag}\") = \"1\"\nmod(\"{flag}\") > \"0\"\nver(\"{flag}\") = \"1\"\n\n\
             put {flag} 2\nput {log} taken\nget {log}\n\nput {log} refused\n\n"
        );
        let taken = etcdctl.ok_with(&["txn"], &script).await;
        let lines: Vec<&str> = taken.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["SUCCESS", "OK", "OK", &log, "taken"], "{taken}");
        let refused = etcdctl.ok_with(&["txn"], &script).await;
        let lines: Vec<&str> = refused.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["FAILURE", "OK"], "{refused}");
        let asked = etcdctl
            .ok_with(
                &["txn", "-i"],
                &format!("create(\"{log}\") != \"0\"\n\ndel {log}\n\n\n"),
            )
            .await;
        assert!(
            asked.contains("SUCCESS") && asked.contains("compares:"),
            "{asked}"
        );
        etcdctl.prints(&["get", &log], &[]).await;
        // One key twice is refused as etcd refuses it.
        let twice = etcdctl
            .run(&["txn"], &format!("\nput {flag} 1\nput {flag} 2\n\n\n"))
            .await;
        assert!(
            !twice.ok && twice.err.contains("duplicate key given in txn request"),
            "{}",
            twice.err
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_reads_the_past_until_it_is_compacted() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let key = etcdctl.name("past");
        etcdctl.ok(&["put", &key, "old"]).await;
        let old = etcdctl.revision().await;
        etcdctl.ok(&["put", &key, "new"]).await;
        let (at, after) = (format!("--rev={old}"), format!("--rev={}", old + 5));
        etcdctl.prints(&["get", &key, &at], &[&key, "old"]).await;
        let future = etcdctl.refused(&["get", &key, &after]).await;
        assert!(
            future.contains("required revision is a future revision"),
            "{future}"
        );

        let mut watch = etcdctl.start(&["watch", &key, &at, "--prev-kv"]);
        watch.prints(&["PUT", &key, "old"]).await;
        watch.prints(&["PUT", &key, "old", &key, "new"]).await;
        drop(watch);

        let now = etcdctl.revision().await;
        let said = format!("compacted revision {now}");
        etcdctl
            .prints(&["compaction", &now.to_string(), "--physical"], &[&said])
            .await;
        let gone = etcdctl.refused(&["get", &key, &at]).await;
        assert!(
            gone.contains("required revision has been compacted"),
            "{gone}"
        );
        let again = etcdctl.refused(&["compaction", &old.to_string()]).await;
        assert!(
            again.contains("required revision has been compacted"),
            "{again}"
        );
        etcdctl.prints(&["get", &key], &[&key, "new"]).await;
        let late = etcdctl.run(&["watch", &key, &at], "").await;
        assert!(
            !late.ok && late.err.contains("required revision has been compacted"),
            "{} {}",
            late.out,
            late.err
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_watches() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        let (a, b) = (etcdctl.name("watch/a"), etcdctl.name("watch/b"));
        etcdctl.ok(&["put", &a, "1"]).await;
        let from = format!("--rev={}", etcdctl.revision().await);
        let prefix = etcdctl.name("watch/");
        let mut watch = etcdctl.start(&["watch", &prefix, "--prefix", &from, "--prev-kv"]);
        watch.prints(&["PUT", &a, "1"]).await;
        etcdctl.ok(&["put", &a, "2"]).await;
        watch.prints(&["PUT", &a, "1", &a, "2"]).await;
        etcdctl.ok(&["put", &etcdctl.name("elsewhere"), "x"]).await;
        etcdctl.ok(&["put", &b, "3"]).await;
        watch.prints(&["PUT", &b, "3"]).await;
        etcdctl.ok(&["del", &a]).await;
        watch.prints(&["DELETE", &a, "2", &a, ""]).await;
        assert!(watch.is_silent().await);
        watch.interrupt().await;

        // Of one key, from now on, and with a command for each event.
        let mut watch =
            etcdctl.start(&["watch", &b, "--", "sh", "-c", "echo seen $ETCD_WATCH_KEY"]);
        // It prints nothing when it is set up, so write until it is.
        let line = tokio::select! {
            line = watch.line() => line,
            () = async {
                loop {
                    etcdctl.ok(&["put", &b, "4"]).await;
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            } => unreachable!("the loop does not end"),
        };
        assert_eq!(line, "PUT");
        watch.prints(&[&b, "4", &format!("seen \"{b}\"")]).await;
    }
}
