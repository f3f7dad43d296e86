//! Users and roles as an operator makes them.

use super::command::Etcdctl;
use super::start;
use crate::harness::wait_for;

impl Etcdctl {
    /// Runs a command as a user, which must succeed.
    async fn as_user(&self, user: &str, args: &[&str]) -> String {
        let user = format!("--user={user}");
        self.ok(&[&[user.as_str()], args].concat()).await
    }

    /// Runs a command as a user, which must fail.
    async fn refused_as(&self, user: &str, args: &[&str]) -> String {
        let user = format!("--user={user}");
        self.refused(&[&[user.as_str()], args].concat()).await
    }
}

const ROOT: &str = "root:secret";

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_manages_users_and_roles() {
    let processes = start().await;
    for etcdctl in Etcdctl::all(&processes).await {
        enable(&etcdctl).await;
        add_ada(&etcdctl).await;
        ada_is_held_to_her_role(&etcdctl).await;
        take_back(&etcdctl).await;
        disable(&etcdctl).await;
    }
}

async fn enable(etcdctl: &Etcdctl) {
    wait_for("the level that users need", async || {
        let said = etcdctl.run(&["user", "add", ROOT], "").await;
        said.ok.then_some(())
    })
    .await;
    // Makes the root role and grants it, when that is missing.
    let enabled = etcdctl.ok(&["auth", "enable"]).await;
    assert_eq!(enabled, "Authentication Enabled");
    let nobody = etcdctl.refused(&["put", "a", "b"]).await;
    assert!(nobody.contains("user name is empty"), "{nobody}");
    let wrong = etcdctl.refused_as("root:wrong", &["put", "a", "b"]).await;
    assert!(wrong.contains("invalid user ID or password"), "{wrong}");
}

async fn add_ada(etcdctl: &Etcdctl) {
    let root = async |args: &[&str]| etcdctl.as_user(ROOT, args).await;
    assert_eq!(root(&["user", "list"]).await, "root");
    let added = root(&["user", "add", "ada:pw"]).await;
    assert!(added.contains("User ada created"), "{added}");
    let twice = etcdctl.refused_as(ROOT, &["user", "add", "ada:pw"]).await;
    assert!(twice.contains("user name already exists"), "{twice}");
    root(&["role", "add", "half"]).await;
    let grant = async |args: &[&str]| {
        root(&[&["role", "grant-permission", "half"], args].concat()).await;
    };
    grant(&["readwrite", "a", "m"]).await;
    grant(&["read", "pre/", "--prefix"]).await;
    grant(&["read", "zz", "--from-key"]).await;
    root(&["user", "grant-role", "ada", "half"]).await;
    let role = root(&["role", "get", "half"]).await;
    assert!(role.contains("[a, m)"), "{role}");
    assert!(role.contains("prefix pre/"), "{role}");
    let user = root(&["user", "get", "ada"]).await;
    assert!(user.contains("half"), "{user}");
}

async fn denied(etcdctl: &Etcdctl, args: &[&str]) {
    let refused = etcdctl.refused_as("ada:pw", args).await;
    assert!(refused.contains("permission denied"), "{args:?}: {refused}");
}

async fn ada_is_held_to_her_role(etcdctl: &Etcdctl) {
    let ada = async |args: &[&str]| etcdctl.as_user("ada:pw", args).await;
    assert_eq!(ada(&["put", "b", "1"]).await, "OK");
    assert_eq!(ada(&["get", "b", "--print-value-only"]).await, "1");
    ada(&["get", "pre/", "--prefix"]).await;
    ada(&["get", "zzz", "--from-key"]).await;
    ada(&["member", "list"]).await;
    for args in [
        &["put", "pre/x", "1"][..],
        &["get", "", "--prefix"],
        &["get", "z"],
        &["del", "a", "n"],
        &["user", "list"],
        &["compact", "2"],
        &["defrag"],
        &["member", "add", "x", "--peer-urls=http://127.0.0.1:1"],
    ] {
        denied(etcdctl, args).await;
    }
    let mut watching = etcdctl.start(&["--user=ada:pw", "watch", "b", "--rev=1"]);
    watching.prints(&["PUT", "b", "1"]).await;
}

async fn take_back(etcdctl: &Etcdctl) {
    let root = async |args: &[&str]| etcdctl.as_user(ROOT, args).await;
    root(&["role", "revoke-permission", "half", "a", "m"]).await;
    denied(etcdctl, &["put", "b", "2"]).await;
    root(&["user", "revoke-role", "ada", "half"]).await;
    denied(etcdctl, &["get", "pre/x"]).await;
    let user = format!("--user={ROOT}");
    let change = [&user, "user", "passwd", "ada", "--interactive=false"];
    let said = etcdctl.run(&change, "new\n").await;
    assert!(said.ok, "{}\n{}", said.out, said.err);
    let old = etcdctl.refused_as("ada:pw", &["get", "b"]).await;
    assert!(old.contains("invalid user ID or password"), "{old}");
    root(&["role", "delete", "half"]).await;
    root(&["user", "delete", "ada"]).await;
    let locked = etcdctl.refused_as(ROOT, &["user", "delete", "root"]).await;
    assert!(locked.contains("invalid auth management"), "{locked}");
}

async fn disable(etcdctl: &Etcdctl) {
    if etcdctl.minor >= 5 {
        let status = etcdctl.as_user(ROOT, &["auth", "status"]).await;
        assert!(status.contains("Authentication Status: true"), "{status}");
    }
    let disabled = etcdctl.as_user(ROOT, &["auth", "disable"]).await;
    assert_eq!(disabled, "Authentication Disabled");
    // For the next version to begin anew.
    etcdctl.ok(&["user", "delete", "root"]).await;
    etcdctl.ok(&["role", "delete", "root"]).await;
    etcdctl.ok(&["put", "a", "b"]).await;
}
