//! Users over real gRPC: tokens, what each service asks for, and the exact refusals of etcd.

use std::time::Duration;

use bytes::Bytes;
use corten_proto::etcd::authpb::{Permission, UserAddOptions, permission::Type};
use corten_proto::etcd::etcdserverpb as pb;
use corten_store::memory;
use pb::auth_client::AuthClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

type Signed = InterceptedService<Channel, Token>;

/// Adds a token to each call.
#[derive(Clone)]
struct Token(Option<AsciiMetadataValue>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

/// Everything as one user.
#[derive(Clone)]
struct As(Channel, Token);

impl As {
    fn nobody(channel: &Channel) -> Self {
        Self(channel.clone(), Token(None))
    }

    fn token(channel: &Channel, token: &str) -> Self {
        let token = token.parse().expect("text");
        Self(channel.clone(), Token(Some(token)))
    }

    async fn login(channel: &Channel, name: &str, password: &str) -> Result<Self, Status> {
        let request = pb::AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let answer = AuthClient::new(channel.clone())
            .authenticate(request)
            .await?;
        Ok(Self::token(channel, &answer.into_inner().token))
    }

    fn signed(&self) -> Signed {
        InterceptedService::new(self.0.clone(), self.1.clone())
    }

    fn auth(&self) -> AuthClient<Signed> {
        AuthClient::new(self.signed())
    }

    fn kv(&self) -> KvClient<Signed> {
        KvClient::new(self.signed())
    }

    async fn put(&self, key: &str) -> Result<(), Status> {
        let request = pb::PutRequest {
            key: b(key),
            value: b("v"),
            ..Default::default()
        };
        self.kv().put(request).await.map(drop)
    }

    async fn get(&self, key: &str, end: &str) -> Result<usize, Status> {
        let request = pb::RangeRequest {
            key: b(key),
            range_end: b(end),
            ..Default::default()
        };
        let answer = self.kv().range(request).await?;
        Ok(answer.into_inner().kvs.len())
    }

    /// The first answer to a watch.
    async fn watch(&self, key: &str, end: &str) -> pb::WatchResponse {
        let create = pb::WatchCreateRequest {
            key: b(key),
            range_end: b(end),
            ..Default::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        let requests = tokio_stream::iter([request]);
        let answers = WatchClient::new(self.signed()).watch(requests).await;
        let next = answers.unwrap().into_inner().message().await;
        next.unwrap().expect("an answer")
    }

    async fn user_add(&self, name: &str, password: &str) -> Result<(), Status> {
        let request = pb::AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        self.auth().user_add(request).await.map(drop)
    }

    async fn grant(&self, user: &str, role: &str) -> Result<(), Status> {
        let (user, role) = (user.to_owned(), role.to_owned());
        let request = pb::AuthUserGrantRoleRequest { user, role };
        self.auth().user_grant_role(request).await.map(drop)
    }
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn said(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");
const BAD_LOGIN: (Code, &str) = (
    Code::InvalidArgument,
    "etcdserver: authentication failed, invalid user ID or password",
);

/// A store with auth on: root, and ada who may read and write `a` to `m`.
async fn with_users() -> (Channel, As, As) {
    let channel = memory::channel();
    let open = As::nobody(&channel);
    for name in ["root", "ada"] {
        open.user_add(name, &format!("pw of {name}")).await.unwrap();
    }
    for name in ["root", "half"] {
        let name = name.to_owned();
        let request = pb::AuthRoleAddRequest { name };
        open.auth().role_add(request).await.unwrap();
    }
    let request = pb::AuthRoleGrantPermissionRequest {
        name: "half".to_owned(),
        perm: Some(Permission {
            perm_type: Type::Readwrite as i32,
            key: b("a"),
            range_end: b("m"),
        }),
    };
    open.auth().role_grant_permission(request).await.unwrap();
    open.grant("root", "root").await.unwrap();
    open.grant("ada", "half").await.unwrap();
    open.auth()
        .auth_enable(pb::AuthEnableRequest {})
        .await
        .unwrap();
    let root = As::login(&channel, "root", "pw of root").await.unwrap();
    let ada = As::login(&channel, "ada", "pw of ada").await.unwrap();
    (channel, root, ada)
}

#[tokio::test]
async fn logins_and_tokens_are_refused_in_etcds_words() {
    let channel = memory::channel();
    let open = As::nobody(&channel);
    let status = open.auth().auth_status(pb::AuthStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    let early = As::login(&channel, "root", "x").await.err().unwrap();
    let not_enabled = "etcdserver: authentication is not enabled";
    assert_eq!(said(&early), (Code::FailedPrecondition, not_enabled));
    // A token is looked at only once auth is on.
    As::token(&channel, "stale").put("a").await.unwrap();
    let long = open.user_add("long", &"x".repeat(73)).await.unwrap_err();
    assert!(long.message().contains("exceeds 72 bytes"), "{long}");

    let (channel, root, _) = with_users().await;
    for (name, password) in [("ada", "wrong"), ("nobody", "pw of ada"), ("", "")] {
        let refused = As::login(&channel, name, password).await.err().unwrap();
        assert_eq!(said(&refused), BAD_LOGIN, "{name}");
    }
    let nobody = As::nobody(&channel);
    assert_eq!(said(&nobody.put("a").await.unwrap_err()), EMPTY);
    assert_eq!(said(&nobody.get("a", "").await.unwrap_err()), EMPTY);
    let forged = As::token(&channel, "rjpvLSNwaVWjIfMB.9");
    assert_eq!(said(&forged.put("a").await.unwrap_err()), BAD_TOKEN);
    assert_eq!(said(&forged.get("a", "").await.unwrap_err()), BAD_TOKEN);

    let request = pb::AuthUserAddRequest {
        name: "cert".to_owned(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    root.auth().user_add(request).await.unwrap();
    let refused = As::login(&channel, "cert", "").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unknown);
    assert!(refused.message().contains("no password user"), "{refused}");

    // Another password: what was given out for the old one is void.
    let ada = As::login(&channel, "ada", "pw of ada").await.unwrap();
    let request = pb::AuthUserChangePasswordRequest {
        name: "ada".to_owned(),
        password: "new".to_owned(),
        ..Default::default()
    };
    root.auth().user_change_password(request).await.unwrap();
    assert_eq!(said(&ada.put("a").await.unwrap_err()), BAD_TOKEN);
    let ada = As::login(&channel, "ada", "new").await.unwrap();
    ada.put("a").await.unwrap();
}

#[tokio::test]
async fn keys_and_watches_ask_for_permission() {
    let (channel, root, ada) = with_users().await;
    root.put("z").await.unwrap();
    ada.put("a").await.unwrap();
    assert_eq!(ada.get("a", "m").await.unwrap(), 1);
    for (key, end) in [("z", ""), ("a", "n"), ("a", "\0"), ("\0", "\0")] {
        let refused = ada.get(key, end).await.unwrap_err();
        assert_eq!(said(&refused), DENIED, "{key} {end}");
    }
    assert_eq!(said(&ada.put("z").await.unwrap_err()), DENIED);
    assert_eq!(root.get("\0", "\0").await.unwrap(), 2);
    // Transactions that only read do not go through the log.
    let range = pb::RangeRequest {
        key: b("z"),
        ..Default::default()
    };
    let op = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(range)),
    };
    let txn = pb::TxnRequest {
        failure: vec![op],
        ..Default::default()
    };
    assert_eq!(said(&ada.kv().txn(txn.clone()).await.unwrap_err()), DENIED);
    root.kv().txn(txn).await.unwrap();
    let compact = pb::CompactionRequest {
        revision: 2,
        physical: false,
    };
    assert_eq!(said(&ada.kv().compact(compact).await.unwrap_err()), DENIED);
    root.kv().compact(compact).await.unwrap();

    let watch = ada.watch("a", "m").await;
    assert!(watch.created && !watch.canceled, "{watch:?}");
    for (who, key, end, reason) in [
        (
            &ada,
            "a",
            "\0",
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
        (
            &ada,
            "",
            "",
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
        (
            &As::nobody(&channel),
            "a",
            "",
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
        (
            &As::token(&channel, "x"),
            "a",
            "",
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        ),
    ] {
        let watch = who.watch(key, end).await;
        assert!(watch.created && watch.canceled, "{watch:?}");
        assert_eq!((watch.watch_id, watch.cancel_reason.as_str()), (-1, reason));
    }
}

#[tokio::test]
async fn leases_ask_for_all_that_hangs_on_them() {
    let (channel, root, ada) = with_users().await;
    let lease = |who: &As| LeaseClient::new(who.signed());
    let grant = pb::LeaseGrantRequest { id: 5, ttl: 60 };
    let refused = lease(&As::nobody(&channel)).lease_grant(grant).await;
    assert_eq!(said(&refused.unwrap_err()), EMPTY);
    lease(&ada).lease_grant(grant).await.unwrap();
    let hang = |key: &str| pb::PutRequest {
        key: b(key),
        lease: 5,
        ..Default::default()
    };
    ada.kv().put(hang("a")).await.unwrap();
    let ttl = pb::LeaseTimeToLiveRequest { id: 5, keys: true };
    lease(&ada).lease_time_to_live(ttl).await.unwrap();
    let renew = async |who: &As| {
        let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 5 }]);
        let answers = lease(who).lease_keep_alive(requests).await?;
        answers
            .into_inner()
            .message()
            .await
            .map(|answer| answer.map(|answer| answer.ttl))
    };
    assert_eq!(renew(&ada).await.unwrap(), Some(60));
    root.kv().put(hang("z")).await.unwrap();
    assert_eq!(said(&renew(&ada).await.unwrap_err()), DENIED);
    assert_eq!(
        said(&lease(&ada).lease_time_to_live(ttl).await.unwrap_err()),
        DENIED
    );
    let leases = pb::LeaseLeasesRequest {};
    assert_eq!(
        said(&lease(&ada).lease_leases(leases).await.unwrap_err()),
        DENIED
    );
    let revoke = pb::LeaseRevokeRequest { id: 5 };
    assert_eq!(
        said(&lease(&ada).lease_revoke(revoke).await.unwrap_err()),
        DENIED
    );
    assert_eq!(
        said(&renew(&As::nobody(&channel)).await.unwrap_err()),
        EMPTY
    );
    let all = lease(&root)
        .lease_leases(leases)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.leases.len(), 1);
    assert_eq!(renew(&root).await.unwrap(), Some(60));
    lease(&root).lease_revoke(revoke).await.unwrap();
}

fn maintenance(who: &As) -> MaintenanceClient<Signed> {
    MaintenanceClient::new(who.signed())
}

fn cluster(who: &As) -> ClusterClient<Signed> {
    ClusterClient::new(who.signed())
}

#[tokio::test]
async fn what_tells_about_all_needs_a_name() {
    let (channel, root, ada) = with_users().await;
    let nobody = As::nobody(&channel);
    let list = pb::MemberListRequest { linearizable: true };
    for (who, expected) in [(&nobody, Some(EMPTY)), (&ada, None), (&root, None)] {
        let refusals = [
            maintenance(who).status(pb::StatusRequest {}).await.err(),
            maintenance(who)
                .alarm(pb::AlarmRequest::default())
                .await
                .err(),
            cluster(who).member_list(list).await.err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.as_ref().map(said), expected);
        }
    }
}

async fn maintain(who: &As) -> Vec<Option<Status>> {
    let activate = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate as i32,
        member_id: 1,
        alarm: pb::AlarmType::Nospace as i32,
    };
    let mut client = maintenance(who);
    vec![
        client.alarm(activate).await.err(),
        client.defragment(pb::DefragmentRequest {}).await.err(),
        client.hash(pb::HashRequest {}).await.err(),
        client.hash_kv(pb::HashKvRequest::default()).await.err(),
        client.snapshot(pb::SnapshotRequest {}).await.err(),
        client
            .move_leader(pb::MoveLeaderRequest { target_id: 1 })
            .await
            .err(),
        client
            .downgrade(pb::DowngradeRequest::default())
            .await
            .err(),
    ]
}

async fn change_members(who: &As) -> Vec<Option<Status>> {
    let mut client = cluster(who);
    vec![
        client
            .member_add(pb::MemberAddRequest::default())
            .await
            .err(),
        client
            .member_remove(pb::MemberRemoveRequest { id: 1 })
            .await
            .err(),
        client
            .member_update(pb::MemberUpdateRequest::default())
            .await
            .err(),
        client
            .member_promote(pb::MemberPromoteRequest { id: 1 })
            .await
            .err(),
    ]
}

async fn change_users(who: &As) -> Vec<Option<Status>> {
    vec![
        who.auth().auth_status(pb::AuthStatusRequest {}).await.err(),
        who.auth()
            .auth_disable(pb::AuthDisableRequest {})
            .await
            .err(),
        who.auth().user_list(pb::AuthUserListRequest {}).await.err(),
        who.auth().role_list(pb::AuthRoleListRequest {}).await.err(),
        who.user_add("eve", "pw").await.err(),
        who.grant("ada", "root").await.err(),
    ]
}

#[tokio::test]
async fn what_changes_all_is_for_root_alone() {
    let (channel, root, ada) = with_users().await;
    let nobody = As::nobody(&channel);
    for (who, expected) in [(&nobody, EMPTY), (&ada, DENIED)] {
        for calls in [
            maintain(who).await,
            change_members(who).await,
            change_users(who).await,
        ] {
            for (number, refusal) in calls.iter().enumerate() {
                assert_eq!(refusal.as_ref().map(said), Some(expected), "call {number}");
            }
        }
    }
    maintenance(&root).hash(pb::HashRequest {}).await.unwrap();
    root.auth()
        .auth_disable(pb::AuthDisableRequest {})
        .await
        .unwrap();
    nobody.put("z").await.unwrap();
}

#[tokio::test]
async fn everybody_may_look_at_itself_and_at_what_it_holds() {
    let (_, root, ada) = with_users().await;
    let user = |name: &str| pb::AuthUserGetRequest {
        name: name.to_owned(),
    };
    let role = |role: &str| pb::AuthRoleGetRequest {
        role: role.to_owned(),
    };
    let own = ada.auth().user_get(user("ada")).await.unwrap().into_inner();
    assert_eq!(own.roles, ["half"]);
    let perm = ada
        .auth()
        .role_get(role("half"))
        .await
        .unwrap()
        .into_inner()
        .perm;
    assert_eq!(perm[0].range_end, b("m"));
    assert_eq!(
        said(&ada.auth().user_get(user("root")).await.unwrap_err()),
        DENIED
    );
    assert_eq!(
        said(&ada.auth().role_get(role("root")).await.unwrap_err()),
        DENIED
    );
    let everything = root
        .auth()
        .role_get(role("root"))
        .await
        .unwrap()
        .into_inner()
        .perm;
    assert_eq!(everything[0].range_end, b("\0"));
}

#[tokio::test]
async fn a_revoked_role_ends_what_it_allowed() {
    let (_, root, ada) = with_users().await;
    ada.put("a").await.unwrap();
    let request = pb::AuthUserRevokeRoleRequest {
        name: "ada".to_owned(),
        role: "half".to_owned(),
    };
    // In flight with many writes: each is done before, or denied.
    let writes = async {
        for _ in 0..10_000 {
            if let Err(refused) = ada.put("a").await {
                return Some(refused);
            }
        }
        None
    };
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        root.auth().user_revoke_role(request).await
    };
    let (refused, revoked) = tokio::join!(writes, revoke);
    revoked.unwrap();
    let refused = refused.expect("denied at last");
    assert_eq!(said(&refused), DENIED);
    assert_eq!(said(&ada.get("a", "").await.unwrap_err()), DENIED);
}
