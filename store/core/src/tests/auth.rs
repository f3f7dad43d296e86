//! Users and roles: the rules one by one, what they allow against a naive model, and that it is decided where the entry
//! is applied.

use bytes::Bytes;
use corten_proto::corten::store::v1::{
    AuthCommand, AuthEnable, AuthUserPassword, ClusterLevel, LeaseGrant, LeaseRevoke, RaftRequest,
    auth_command::Command as Change, raft_reply, raft_request::Command,
};
use corten_proto::etcd::authpb::{Permission, permission::Type};
use corten_proto::etcd::etcdserverpb::{
    AlarmRequest, AlarmType, AuthDisableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserDeleteRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, Compare, DeleteRangeRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, alarm_request::AlarmAction, request_op::Request,
};
use proptest::prelude::*;

use super::harness::{Harness, b, op, op_delete, op_put, op_txn, put};
use crate::auth::{Caller, Coverage};
use crate::{LeaseId, Span, level};

fn raise(store: &mut Harness) {
    let level = level::AUTH;
    let raised = store.run(Command::ClusterLevel(ClusterLevel { level }));
    assert!(raised.is_ok(), "{raised:?}");
}

fn change(change: Change) -> Command {
    let command = Some(change);
    Command::Auth(AuthCommand { command })
}

fn user_add(name: &str) -> Change {
    Change::UserAdd(AuthUserPassword {
        name: name.to_owned(),
        password_hash: format!("hash of {name}"),
        no_password: false,
    })
}

fn user_delete(name: &str) -> Change {
    let name = name.to_owned();
    Change::UserDelete(AuthUserDeleteRequest { name })
}

fn grant_role(user: &str, role: &str) -> Change {
    let (user, role) = (user.to_owned(), role.to_owned());
    Change::UserGrantRole(AuthUserGrantRoleRequest { user, role })
}

fn revoke_role(name: &str, role: &str) -> Change {
    let (name, role) = (name.to_owned(), role.to_owned());
    Change::UserRevokeRole(AuthUserRevokeRoleRequest { name, role })
}

fn role_add(name: &str) -> Change {
    let name = name.to_owned();
    Change::RoleAdd(AuthRoleAddRequest { name })
}

fn role_delete(role: &str) -> Change {
    let role = role.to_owned();
    Change::RoleDelete(AuthRoleDeleteRequest { role })
}

fn grant(role: &str, kind: Type, key: &str, end: &str) -> Change {
    let perm = Permission {
        perm_type: kind as i32,
        key: b(key),
        range_end: b(end),
    };
    Change::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(perm),
    })
}

fn revoke(role: &str, key: &str, end: &str) -> Change {
    Change::RoleRevokePermission(AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: b(key),
        range_end: b(end),
    })
}

fn enable() -> Change {
    let token_key = b("key");
    Change::Enable(AuthEnable { token_key })
}

/// Runs a command for a user, found out at the present auth revision.
fn by(store: &mut Harness, user: &str, command: Command) -> Result<raft_reply::Result, String> {
    let revision = store.store.auth().revision();
    by_at(store, user, revision, command)
}

fn by_at(
    store: &mut Harness,
    user: &str,
    auth_revision: u64,
    command: Command,
) -> Result<raft_reply::Result, String> {
    let request = RaftRequest {
        user: user.to_owned(),
        auth_revision,
        command: Some(command),
        ..Default::default()
    };
    let (mut replies, _) = store.apply_requests(&[request]);
    match replies.remove(0).result.unwrap() {
        raft_reply::Result::Refusal(refusal) => Err(refusal.message),
        result => Ok(result),
    }
}

fn refusal(result: Result<raft_reply::Result, String>) -> String {
    result.expect_err("refused")
}

/// Auth is on; `ada` may read and write `a` to `m`, and read `z`.
fn with_ada() -> Harness {
    let mut store = Harness::new();
    raise(&mut store);
    let changes = [
        user_add("root"),
        grant_role("root", "root"),
        user_add("ada"),
        role_add("half"),
        grant("half", Type::Readwrite, "a", "m"),
        grant("half", Type::Read, "z", ""),
        grant_role("ada", "half"),
        enable(),
    ];
    for one in changes {
        store.run(change(one)).unwrap();
    }
    store
}

#[test]
fn users_need_a_cluster_level() {
    let mut store = Harness::new();
    let refused = refusal(store.run(change(user_add("root"))));
    assert!(refused.contains("this needs cluster level 1"), "{refused}");
    assert_eq!(store.store.auth().users().count(), 0);
    raise(&mut store);
    store.run(change(user_add("root"))).unwrap();
    // It never goes down.
    let lower = Command::ClusterLevel(ClusterLevel { level: 0 });
    store.run(lower).unwrap();
    assert_eq!(store.store.level(), 1);
}

#[test]
fn an_entry_of_a_level_that_was_not_agreed_on_has_no_effect_anywhere() {
    let mut store = Harness::new();
    raise(&mut store);
    // Also where the command itself could be read: members that cannot read it must decide the same.
    let request = RaftRequest {
        level: 9,
        command: Some(Command::Put(put("k", "v"))),
        ..Default::default()
    };
    let (replies, _) = store.apply_requests(&[request]);
    let raft_reply::Result::Refusal(refusal) = replies[0].result.clone().unwrap() else {
        panic!("{replies:?}");
    };
    assert!(refusal.message.contains("cluster level 9"), "{refusal:?}");
    assert_eq!(store.list(), "");
}

#[test]
fn a_member_that_does_not_know_the_level_stops_instead_of_refusing() {
    let mut store = Harness::new();
    store.writer.limit_level(0).unwrap();
    let mut round = store.writer.begin();
    let at = crate::Position { term: 1, index: 1 };
    let level = level::AUTH;
    let request = RaftRequest {
        command: Some(Command::ClusterLevel(ClusterLevel { level })),
        ..Default::default()
    };
    let error = round.apply(at, &request).expect_err("it must stop");
    assert!(error.to_string().contains("start it with a newer version"));
    drop(round);
    // And it does not come back over a state that is beyond it.
    let mut store = Harness::new();
    raise(&mut store);
    let mut again = Harness::open(store.backend.clone());
    again.writer.limit_level(level::KNOWN).unwrap();
    let error = again.writer.limit_level(0).expect_err("it must not start");
    assert!(error.to_string().contains("knows levels up to 0"));
}

/// Changes in order, each with its refusal; none: it goes through.
fn cases() -> Vec<(Change, &'static str)> {
    vec![
        (enable(), "etcdserver: root user does not exist"),
        (user_add(""), "etcdserver: user name is empty"),
        (user_add("root"), ""),
        (user_add("root"), "etcdserver: user name already exists"),
        (enable(), "etcdserver: root user does not have root role"),
        (grant_role("who", "root"), "etcdserver: user name not found"),
        (grant_role("root", "r"), "etcdserver: role name not found"),
        (role_add(""), "etcdserver: role name is empty"),
        (role_add("r"), ""),
        (role_add("r"), "etcdserver: role name already exists"),
        (grant_role("root", "root"), ""),
        // Twice is once.
        (grant_role("root", "root"), ""),
        (grant_role("root", "r"), ""),
        (
            grant("r", Type::Read, "", ""),
            "etcdserver: invalid auth management",
        ),
        (
            grant("r", Type::Read, "b", "a"),
            "etcdserver: invalid auth management",
        ),
        (
            grant("q", Type::Read, "a", ""),
            "etcdserver: role name not found",
        ),
        (grant("r", Type::Read, "a", "\0"), ""),
        (
            Change::RoleGrantPermission(AuthRoleGrantPermissionRequest::default()),
            "etcdserver: permission not given",
        ),
        (
            revoke("r", "a", ""),
            "etcdserver: permission is not granted to the role",
        ),
        (revoke("q", "a", ""), "etcdserver: role name not found"),
        (revoke("r", "a", "\0"), ""),
        (
            revoke_role("root", "x"),
            "etcdserver: role is not granted to the user",
        ),
        (revoke_role("who", "x"), "etcdserver: user name not found"),
        (role_delete("x"), "etcdserver: role name not found"),
        (user_delete("x"), "etcdserver: user name not found"),
        (
            Change::UserChangePassword(AuthUserPassword::default()),
            "etcdserver: user name not found",
        ),
        (role_delete("r"), ""),
        (enable(), ""),
        (enable(), "etcdserver: user name is empty"),
    ]
}

#[test]
fn users_and_roles_follow_etcds_rules() {
    let mut store = Harness::new();
    raise(&mut store);
    for (number, (one, expected)) in cases().into_iter().enumerate() {
        let said = store.run(change(one)).err().unwrap_or_default();
        assert_eq!(said, expected, "case {number}");
    }
    let auth = store.store.auth();
    assert_eq!(
        auth.user("root").unwrap().roles,
        ["root"],
        "the deleted role is gone"
    );
    let locked_out = [
        user_delete("root"),
        revoke_role("root", "root"),
        role_delete("root"),
    ];
    for one in locked_out {
        let said = refusal(by(&mut store, "root", change(one)));
        assert_eq!(said, "etcdserver: invalid auth management");
    }
    by(&mut store, "root", change(enable())).unwrap();
    let before = store.store.auth().revision();
    let disable = Change::Disable(AuthDisableRequest {});
    by(&mut store, "root", change(disable.clone())).unwrap();
    assert!(!store.store.auth_enabled());
    store.run(change(disable)).unwrap();
    assert_eq!(store.store.auth().revision(), before + 1);
}

#[test]
fn users_and_roles_outlive_the_process() {
    let store = with_ada();
    let again = Harness::open(store.backend.clone());
    let (before, after) = (store.store.auth(), again.store.auth());
    assert!(again.store.auth_enabled());
    assert_eq!(after.revision(), before.revision());
    assert_eq!(after.token_key(), before.token_key());
    assert_eq!(after.user("ada"), before.user("ada"));
    assert_eq!(after.role("half"), before.role("half"));
    assert_eq!(again.store.hash().unwrap(), store.store.hash().unwrap());
    assert_eq!(again.store.level(), 1);
}

const DENIED: &str = "etcdserver: permission denied";

fn delete(key: &str, end: &str, prev_kv: bool) -> Command {
    Command::DeleteRange(DeleteRangeRequest {
        key: b(key),
        range_end: b(end),
        prev_kv,
    })
}

fn put_prev(key: &str) -> Command {
    let prev_kv = true;
    Command::Put(PutRequest {
        prev_kv,
        ..put(key, "2")
    })
}

fn txn(success: Vec<RequestOp>) -> Command {
    Command::Txn(TxnRequest {
        success,
        ..Default::default()
    })
}

fn compare(key: &str) -> Command {
    let compare = vec![Compare {
        key: b(key),
        ..Default::default()
    }];
    Command::Txn(TxnRequest {
        compare,
        ..Default::default()
    })
}

fn range(key: &str) -> RequestOp {
    let key = b(key);
    op(Request::RequestRange(RangeRequest {
        key,
        ..Default::default()
    }))
}

#[test]
fn a_user_does_no_more_than_its_roles_allow() {
    let mut store = with_ada();
    let denials = [
        Command::Put(put("z", "2")),
        Command::Put(put("m", "2")),
        delete("a", "n", false),
        delete("a", "\0", false),
        txn(vec![op_put("b", "1"), op_put("m", "1")]),
        txn(vec![op_txn(Vec::new(), vec![op_put("m", "1")])]),
        txn(vec![op_delete("z", "")]),
        txn(vec![range("m")]),
        compare("m"),
        change(user_add("eve")),
        change(Change::Disable(AuthDisableRequest {})),
    ];
    for (number, command) in denials.into_iter().enumerate() {
        let said = refusal(by(&mut store, "ada", command.clone()));
        assert_eq!(said, DENIED, "case {number}");
        let said = refusal(by(&mut store, "nobody", command.clone()));
        assert_eq!(said, DENIED, "case {number} by a user that is not there");
        let said = refusal(store.run(command));
        assert_eq!(said, "etcdserver: user name is empty", "case {number}");
    }
    assert_eq!(store.list(), "");
}

#[test]
fn a_full_store_still_asks_for_permission() {
    let mut store = with_ada();
    by(&mut store, "root", Command::Put(put("z", "1"))).unwrap();
    let alarm = AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 1,
        alarm: AlarmType::Nospace as i32,
    };
    store.run(Command::Alarm(alarm)).unwrap();
    let disable = change(Change::Disable(AuthDisableRequest {}));
    for command in [delete("z", "", false), disable] {
        assert_eq!(refusal(by(&mut store, "ada", command)), DENIED);
    }
    assert_eq!(store.list(), "z=1");
}

#[test]
fn a_user_does_what_its_roles_allow() {
    let mut store = with_ada();
    by(&mut store, "ada", Command::Put(put("a", "1"))).unwrap();
    by(&mut store, "root", Command::Put(put("z", "1"))).unwrap();
    let allowed = [
        put_prev("a"),
        delete("a", "m", true),
        txn(vec![range("z"), op_put("b", "1"), op_delete("c", "d")]),
        compare("z"),
    ];
    for (number, command) in allowed.into_iter().enumerate() {
        let said = by(&mut store, "ada", command);
        assert!(said.is_ok(), "case {number}: {said:?}");
    }
    let write_only = [
        role_add("drop"),
        grant("drop", Type::Write, "x", ""),
        grant_role("ada", "drop"),
    ];
    for one in write_only {
        by(&mut store, "root", change(one)).unwrap();
    }
    by(&mut store, "ada", Command::Put(put("x", "1"))).unwrap();
    // What was there before is a read, also within a transaction.
    let nested = txn(vec![op_delete("x", "")]);
    for command in [put_prev("x"), delete("x", "", true), nested] {
        assert_eq!(refusal(by(&mut store, "ada", command)), DENIED);
    }
    assert_eq!(store.list(), "b=1 x=1 z=1");
}

#[test]
fn a_lease_belongs_to_those_who_may_write_all_of_it() {
    let mut store = with_ada();
    let id = 7;
    let lease = Command::LeaseGrant(LeaseGrant {
        id,
        ttl_seconds: 60,
    });
    assert_eq!(
        refusal(store.run(lease.clone())),
        "etcdserver: user name is empty"
    );
    by(&mut store, "ada", lease).unwrap();
    let hang = |key: &str| PutRequest {
        lease: id,
        ..put(key, "1")
    };
    let revoke = |expired| {
        Command::LeaseRevoke(LeaseRevoke {
            ids: vec![id],
            expired,
        })
    };
    by(&mut store, "ada", Command::Put(hang("a"))).unwrap();
    by(&mut store, "root", Command::Put(hang("y"))).unwrap();
    let denied = "etcdserver: permission denied";
    assert_eq!(refusal(by(&mut store, "ada", revoke(false))), denied);
    assert_eq!(
        refusal(by(&mut store, "ada", Command::Put(hang("b")))),
        denied
    );
    let success = vec![op(Request::RequestPut(hang("b")))];
    let nested = Command::Txn(TxnRequest {
        success,
        ..Default::default()
    });
    assert_eq!(refusal(by(&mut store, "ada", nested)), denied);
    let auth = store.store.auth();
    let ada = Caller {
        user: "ada",
        revision: auth.revision(),
    };
    assert!(store.store.check_lease_write(ada, LeaseId(id)).is_err());
    // Time asks nobody.
    store.run(revoke(true)).unwrap();
    assert_eq!(store.list(), "");
}

#[test]
fn a_permission_revoked_before_the_write_is_applied_denies_it() {
    let mut store = with_ada();
    let found_out = store.store.auth().revision();
    by(&mut store, "root", change(revoke("half", "a", "m"))).unwrap();
    let write = Command::Put(put("a", "late"));
    let said = refusal(by_at(&mut store, "ada", found_out, write.clone()));
    assert_eq!(said, "etcdserver: revision of auth store is old");
    assert_eq!(
        refusal(by(&mut store, "ada", write.clone())),
        "etcdserver: permission denied"
    );
    // Even when both come in one round.
    by(
        &mut store,
        "root",
        change(grant("half", Type::Write, "a", "")),
    )
    .unwrap();
    let revision = store.store.auth().revision();
    let request = |user: &str, command| RaftRequest {
        user: user.to_owned(),
        auth_revision: revision,
        command: Some(command),
        ..Default::default()
    };
    let requests = [
        request("root", change(revoke_role("ada", "half"))),
        request("ada", write),
    ];
    let (replies, _) = store.apply_requests(&requests);
    assert!(matches!(
        replies[1].result,
        Some(raft_reply::Result::Refusal(_))
    ));
    assert_eq!(store.list(), "");
}

/// Keys over two letters, the lowest byte among them.
fn key(longest: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(0_u8..2, 1..=longest).prop_map(Bytes::from)
}

fn span() -> impl Strategy<Value = Span> {
    let end = prop_oneof![
        Just(Bytes::new()),
        Just(Bytes::from_static(&[0])),
        key(2),
        key(2)
    ];
    (key(2), end).prop_map(|(key, end)| Span::new(&key, &end))
}

/// All keys of up to three letters. Bounds have two, and a single key ends one letter later: so wherever something is
/// missing, it is missing from one of these on.
fn universe() -> Vec<Bytes> {
    let mut all = vec![Vec::new()];
    for len in 0..3 {
        let longer: Vec<Vec<u8>> = all
            .iter()
            .filter(|key| key.len() == len)
            .flat_map(|key| [0, 1].map(|next| [key.as_slice(), &[next]].concat()))
            .collect();
        all.extend(longer);
    }
    all.into_iter().skip(1).map(Bytes::from).collect()
}

proptest! {
    #[test]
    fn grants_cover_what_their_keys_do(
        granted in prop::collection::vec(span(), 0..6),
        asked in span(),
    ) {
        let coverage = Coverage::new(granted.clone());
        let allowed = |key: &Bytes| granted.iter().any(|span| span.contains(key));
        if !asked.is_empty() {
            let every = universe().iter().filter(|key| asked.contains(key)).all(allowed);
            // The last byte string before an open end is not among them, but a range that reaches it is open itself.
            let open = matches!(&asked, Span::Range { end: None, .. });
            let open_granted = granted.iter().any(|span| matches!(span, Span::Range { end: None, .. }));
            prop_assert_eq!(coverage.covers(&asked), every && (!open || open_granted));
        }
        for key in universe() {
            prop_assert_eq!(coverage.covers(&Span::Key(key.clone())), allowed(&key));
        }
    }
}
