//! A small state with everything in it, and a use of all reading code on a state that is not to be trusted.

use std::sync::Arc;

use bytes::Bytes;
use corten_proto::corten::store::v1::auth_command::Command as Change;
use corten_proto::corten::store::v1::{
    AuthCommand, AuthEnable, AuthUserPassword, ClusterLevel, LeaseGrant, RaftRequest, raft_reply,
    raft_request::Command,
};
use corten_proto::etcd::authpb::Permission;
use corten_proto::etcd::etcdserverpb::{
    AlarmRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserGrantRoleRequest,
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};
use corten_store_core::auth::{Auth, Caller};
use corten_store_core::backend::{Backend, Batch, Keyspace};
use corten_store_core::memory::MemoryBackend;
use corten_store_core::{LeaseId, Position, Revision, Span, Store, level};

use crate::replica::backup;

/// Users and roles, which are told apart from the last command on.
fn users() -> Vec<Command> {
    use Change as C;
    let user = |name: &str| AuthUserPassword {
        name: name.to_owned(),
        // As bcrypt writes it.
        password_hash: format!("$2b$04${}", "x".repeat(53)),
        no_password: false,
    };
    let grant = |user: &str, role: &str| AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    };
    let allow = |perm_type, key: &str, range_end: &str| AuthRoleGrantPermissionRequest {
        name: "some".to_owned(),
        perm: Some(Permission {
            perm_type,
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }),
    };
    let role = AuthRoleAddRequest {
        name: "some".to_owned(),
    };
    let token_key = Bytes::from_static(b"a key of some length");
    let changes = [
        C::UserAdd(user("root")),
        C::UserGrantRole(grant("root", "root")),
        C::UserAdd(user("ada")),
        C::RoleAdd(role),
        C::RoleGrantPermission(allow(0, "a", "c")),
        C::RoleGrantPermission(allow(1, "b", "d")),
        C::RoleGrantPermission(allow(2, "x", "\0")),
        C::UserGrantRole(grant("ada", "some")),
        C::Enable(AuthEnable { token_key }),
    ];
    let command = |change| {
        Command::Auth(AuthCommand {
            command: Some(change),
        })
    };
    changes.into_iter().map(command).collect()
}

/// Somebody of every kind is in it.
pub(super) fn state() -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let (store, mut writer) = Store::open(Arc::clone(&backend)).expect("opened");
    let put = |key: &str, lease| {
        Command::Put(PutRequest {
            key: key.to_owned().into(),
            value: "value".into(),
            lease,
            ..Default::default()
        })
    };
    let level = level::AUTH;
    let commands = [
        Command::ClusterLevel(ClusterLevel { level }),
        Command::LeaseGrant(LeaseGrant {
            id: 7,
            ttl_seconds: 60,
        }),
        put("a", 0),
        put("b\0c", 7),
        put("a", 0),
        Command::DeleteRange(DeleteRangeRequest {
            key: "a".into(),
            ..Default::default()
        }),
        put("d", 0),
        Command::Compact(CompactionRequest {
            revision: 3,
            physical: false,
        }),
        Command::Alarm(AlarmRequest {
            action: 1,
            member_id: 5,
            alarm: 1,
        }),
    ];
    for (index, command) in (1..).zip(commands.into_iter().chain(users())) {
        let request = RaftRequest {
            user: "root".to_owned(),
            auth_revision: store.auth().revision(),
            command: Some(command),
            ..Default::default()
        };
        let mut round = writer.begin();
        let reply = round.apply(Position { term: 1, index }, &request);
        let result = reply.expect("applied").result;
        assert!(
            !matches!(result, Some(raft_reply::Result::Refusal(_))),
            "{request:?}: {result:?}"
        );
        round.commit().expect("committed");
    }
    let mut round = writer.begin();
    let at = Position { term: 1, index: 99 };
    round.set_membership(at, Bytes::from_static(b"members"));
    round.commit().expect("committed");
    backend
}

/// What `Maintenance.Snapshot` would stream of it.
pub(super) fn backup() -> Vec<u8> {
    let mut bytes = Vec::new();
    backup::write(&state(), |piece| {
        bytes.extend_from_slice(&piece);
        true
    })
    .expect("written");
    bytes
}

/// The rows of each keyspace, one after the other, with lengths of one byte.
pub(super) fn rows_as_bytes() -> Vec<Vec<u8>> {
    let backend = state();
    let mut bytes = Vec::new();
    for (number, space) in (0_u8..).zip(Keyspace::ALL) {
        let mut cursor = backend.scan(space, &[], None).expect("scanned");
        while let Some(key) = cursor.key() {
            let value = cursor.value();
            let len = |row: &[u8]| u8::try_from(row.len()).expect("short");
            bytes.extend_from_slice(&[number, len(key), len(value)]);
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            cursor.advance().expect("advanced");
        }
    }
    vec![bytes]
}

/// Whatever rows these bytes make.
pub(super) fn from_bytes(mut bytes: &[u8]) -> MemoryBackend {
    let backend = MemoryBackend::new();
    let mut batch = Batch::default();
    while let [number, key_len, value_len, rest @ ..] = bytes {
        let space = Keyspace::ALL[usize::from(*number) % Keyspace::ALL.len()];
        let key_len = usize::from(*key_len).min(rest.len());
        let (key, rest) = rest.split_at(key_len);
        let value_len = usize::from(*value_len).min(rest.len());
        let (value, rest) = rest.split_at(value_len);
        batch.put(space, key.to_vec(), Bytes::copy_from_slice(value));
        bytes = rest;
    }
    backend.write(batch).expect("memory takes everything");
    backend
}

/// Reads everything in every way that a member does. Errors are fine.
pub(super) fn use_rows(backend: &Arc<MemoryBackend>) {
    let backend: Arc<dyn Backend> = Arc::clone(backend) as _;
    let Ok((store, _writer)) = Store::open(Arc::clone(&backend)) else {
        return;
    };
    for revision in [0, 1, 3, 4, 6, i64::MAX] {
        let range = RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            revision,
            ..Default::default()
        };
        let _ = store.range(&range);
        let _ = store.range(&RangeRequest { limit: 1, ..range });
        let _ = store.hash_kv(revision);
    }
    let _ = store.hash();
    let _ = store.leases();
    let _ = store.lease(LeaseId(7));
    let _ = store.lease_keys(LeaseId(7));
    let _ = store.alarms();
    use_users(&store.auth());
    let everything = Span::new(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
    let _ = store.history(Revision::new(3), &[(Revision::new(3), &everything)]);
    let mut compaction = store.compaction();
    // Each step takes rows away or ends.
    for _ in 0..1000 {
        match compaction.step(100) {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
    }
    panic!("the compaction goes on for ever");
}

/// Asks for whoever is there, and for somebody who is not, what they may do.
fn use_users(auth: &Auth) {
    let key = |text: &'static [u8]| Bytes::from_static(text);
    let everything = Span::new(&key(b"\0"), &key(b"\0"));
    let parts = [
        Span::new(&key(b"b"), &Bytes::new()),
        Span::new(&key(b"b"), &key(b"c")),
        Span::new(&key(b"x"), &key(b"\0")),
    ];
    let nobody = "nobody".to_owned();
    for name in auth.users().chain([&nobody]) {
        let caller = Caller {
            user: name,
            revision: auth.revision(),
        };
        let _ = auth.check_root(caller);
        let all = (
            auth.check_read(caller, &everything).is_ok(),
            auth.check_write(caller, &everything).is_ok(),
        );
        for part in &parts {
            assert!(!all.0 || auth.check_read(caller, part).is_ok(), "{part:?}");
            assert!(!all.1 || auth.check_write(caller, part).is_ok(), "{part:?}");
        }
        if let Some(user) = auth.user(name) {
            let _ = user.password_hash.parse::<bcrypt::HashParts>();
        }
    }
    for name in auth.roles() {
        let _ = auth.has_role("ada", name);
    }
}
