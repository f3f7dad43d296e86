//! What is written down, and the file's rotation.

use http::Method;

use super::*;

fn event<'a>(info: &'a RequestInfo, user: &'a User) -> Event<'a> {
    Event {
        id: "id-1",
        info,
        uri: "/x",
        user: Some(user),
        impersonated: None,
        source: None,
        user_agent: "kubectl",
        code: 200,
        long_running: false,
        received: Timestamp::UNIX_EPOCH,
    }
}

fn info(method: &Method, uri: &str) -> RequestInfo {
    RequestInfo::resolve(method, &uri.parse().expect("a uri"))
}

#[test]
fn one_line_of_audit_v1() {
    let info = info(
        &Method::PUT,
        "/apis/apps/v1/namespaces/n/deployments/d/scale",
    );
    let user = User::authenticated("jane", ["dev"]);
    let line: Value = serde_json::from_str(&event(&info, &user).line()).expect("JSON");
    assert_eq!(line["kind"], "Event");
    assert_eq!(line["verb"], "update");
    assert_eq!(line["user"]["username"], "jane");
    assert_eq!(
        line["objectRef"],
        json!({"resource": "deployments", "namespace": "n", "name": "d", "apiGroup": "apps", "apiVersion": "v1",
            "subresource": "scale"})
    );
    assert_eq!(
        line["requestReceivedTimestamp"],
        "1970-01-01T00:00:00.000000Z"
    );
}

#[test]
fn noise() {
    let jane = User::authenticated("jane", ["dev"]);
    let scheduler = User::authenticated("system:kube-scheduler", Vec::<String>::new());
    let account = User::authenticated("system:serviceaccount:a:b", Vec::<String>::new());
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
    let rows = [
        (&jane, Method::GET, "/livez", true),
        (&jane, Method::GET, "/api/v1/pods", false),
        (&jane, Method::PUT, lease, false),
        (&scheduler, Method::PUT, lease, true),
        (&scheduler, Method::GET, "/api/v1/pods", true),
        (
            &scheduler,
            Method::POST,
            "/api/v1/namespaces/a/pods/p/binding",
            false,
        ),
        (&account, Method::GET, "/api/v1/pods", false),
    ];
    for (user, method, uri, expected) in rows {
        assert_eq!(
            event(&info(&method, uri), user).is_noise(),
            expected,
            "{} {method} {uri}",
            user.name
        );
    }
    let info = info(&Method::GET, "/api/v1/pods");
    let refused = Event {
        code: 403,
        ..event(&info, &scheduler)
    };
    assert!(
        !refused.is_noise(),
        "refusals of components are worth a line"
    );
}

#[tokio::test]
async fn files_are_rotated_by_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("logs/audit.log");
    let shutdown = Shutdown::new();
    let (sender, receiver) = mpsc::channel(8);
    let settings = Settings {
        path: path.clone(),
        bytes_max: 20,
        files_max: 2,
    };
    let writer = spawn(
        "test",
        TaskKind::Background,
        file::write(settings, receiver, shutdown),
    );
    for number in 0..4 {
        sender
            .send(format!("line number {number}"))
            .await
            .expect("taken");
        // One batch for each line: the writer has taken it when the queue is empty again.
        while sender.capacity() < 8 {
            tokio::task::yield_now().await;
        }
    }
    drop(sender);
    writer.await.expect("ended");
    let read =
        |name: &str| std::fs::read_to_string(dir.path().join("logs").join(name)).expect(name);
    assert_eq!(read("audit.log"), "line number 3\n");
    assert_eq!(read("audit.log.1"), "line number 2\n");
    assert_eq!(read("audit.log.2"), "line number 1\n");
    assert!(!dir.path().join("logs/audit.log.3").exists());
}
