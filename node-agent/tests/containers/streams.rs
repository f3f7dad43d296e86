//! exec with and without a terminal, and attach.

use corten_node_agent::traits::{StreamExit, StreamRequest, TerminalSize};
use corten_node_agent::worker::container_of;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Node, is_running, pod, shell};

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn exec_streams() {
    let node = Node::new("exec");
    let pod = pod(
        "exec",
        json!({"terminationGracePeriodSeconds": 1, "containers": [shell("c", "sleep 1000")]}),
    );
    let worker = node.start(&pod);
    node.wait(&pod, "running", is_running).await;
    let target = container_of(&node.context.pod_dir("uid-exec"), "uid-exec", "c", 0);
    let runtime = &node.context.runtime;

    let request = StreamRequest {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let command = words(&["sh", "-c", "cat; echo err >&2; exit 7"]);
    let mut session = runtime
        .exec_stream(&target, &command, &request)
        .await
        .expect("exec");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"hello").await.expect("write");
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    session
        .stdout
        .take()
        .expect("stdout")
        .read_to_string(&mut out)
        .await
        .expect("read");
    session
        .stderr
        .take()
        .expect("stderr")
        .read_to_string(&mut err)
        .await
        .expect("read");
    assert_eq!((out.as_str(), err.as_str()), ("hello", "err\n"));
    assert_eq!(session.exit.await, Ok(StreamExit::Code(7)));

    let request = StreamRequest {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let mut session = runtime
        .exec_stream(&target, &words(&["sh"]), &request)
        .await
        .expect("exec");
    let resize = session.resize.take().expect("resize");
    resize
        .send(TerminalSize {
            width: 97,
            height: 31,
        })
        .await
        .expect("resize");
    let mut stdin = session.stdin.take().expect("stdin");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    stdin
        .write_all(b"stty size; exit 3\n")
        .await
        .expect("write");
    let mut out = String::new();
    session
        .stdout
        .take()
        .expect("stdout")
        .read_to_string(&mut out)
        .await
        .expect("read");
    assert!(out.contains("31 97"), "{out:?}");
    assert_eq!(session.exit.await, Ok(StreamExit::Code(3)));

    let begun = std::time::Instant::now();
    let limit = Some(std::time::Duration::from_millis(500));
    let slow = runtime
        .exec_sync(&target, &words(&["sleep", "100"]), limit)
        .await
        .expect("exec");
    assert_eq!(slow, None);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    node.delete(&worker, &pod, 1).await;
    node.clean_up();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn attach_streams() {
    let node = Node::new("attach");
    let mut container = shell("c", "while read line; do echo got $line; done");
    container["stdin"] = json!(true);
    container["stdinOnce"] = json!(true);
    let mut terminal = shell("t", "while true; do read line; stty size; done");
    terminal["stdin"] = json!(true);
    terminal["tty"] = json!(true);
    let pod = pod(
        "attach",
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container, terminal]}),
    );
    let worker = node.start(&pod);
    node.wait(&pod, "running", |s| {
        s.container_statuses
            .iter()
            .flatten()
            .all(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()))
    })
    .await;
    let runtime = &node.context.runtime;
    let of = |name| container_of(&node.context.pod_dir("uid-attach"), "uid-attach", name, 0);

    let request = StreamRequest {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut session = runtime.attach(&of("c"), &request).await.expect("attach");
    let mut stdin = session.stdin.take().expect("stdin");
    stdin.write_all(b"one\n").await.expect("write");
    let mut stdout = session.stdout.take().expect("stdout");
    let mut buffer = [0_u8; 64];
    let count = stdout.read(&mut buffer).await.expect("read");
    assert_eq!(&buffer[..count], b"got one\n");
    drop(stdin);
    // stdinOnce: the end of input reaches the container, which ends.
    assert_eq!(session.exit.await, Ok(StreamExit::Code(0)));

    let request = StreamRequest {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let mut session = runtime.attach(&of("t"), &request).await.expect("attach");
    session
        .resize
        .as_ref()
        .expect("resize")
        .send(TerminalSize {
            width: 101,
            height: 42,
        })
        .await
        .expect("resize");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    session
        .stdin
        .as_mut()
        .expect("stdin")
        .write_all(b"x\n")
        .await
        .expect("write");
    let mut stdout = session.stdout.take().expect("stdout");
    let mut seen = String::new();
    while !seen.contains("42 101") {
        let count = stdout.read(&mut buffer).await.expect("read");
        assert!(count > 0, "ended with {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    drop(session);
    node.delete(&worker, &pod, 1).await;
    node.clean_up();
}
