//! Tables of headers and the identities that they prove.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::bearer::{Found, StaticTokens, find};
use super::*;
use crate::authz::live::Live;
use crate::chain::objects::Change;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn bearer_tokens() {
    let rows: &[(&[(&str, &str)], Found)] = &[
        (&[], Found::Nothing),
        (
            &[("authorization", "Bearer abc")],
            Found::Token("abc".into()),
        ),
        (
            &[("authorization", "bearer  abc ")],
            Found::Token("abc".into()),
        ),
        (&[("authorization", "Bearer")], Found::Other),
        (&[("authorization", "Basic abc")], Found::Other),
        (
            &[(
                "sec-websocket-protocol",
                "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj",
            )],
            Found::Token("abc".into()),
        ),
        (
            &[("sec-websocket-protocol", "v4.channel.k8s.io")],
            Found::Nothing,
        ),
    ];
    for (given, expected) in rows {
        assert_eq!(find(&headers(given)), *expected, "{given:?}");
    }
}

#[tokio::test]
async fn who_is_asking() {
    let mut static_tokens = StaticTokens::default();
    static_tokens.add(
        "secret",
        User::authenticated("bootstrap", ["system:bootstrappers"]),
    );
    let authenticator = Authenticator {
        tokens: None,
        static_tokens,
    };
    let nobody = Peer::default();
    let certificate = Peer {
        user: Some(Arc::new(User::authenticated("cert", ["g"]))),
        address: None,
    };
    let name = |peer: Peer, given: HeaderMap, path: &'static str| {
        let authenticator = &authenticator;
        async move {
            authenticator
                .authenticate(&peer, &given, path)
                .await
                .ok()
                .map(|user| user.name.clone())
        }
    };
    let token = || headers(&[("authorization", "Bearer secret")]);
    let wrong = || headers(&[("authorization", "Bearer wrong")]);
    assert_eq!(
        name(nobody.clone(), token(), "/api").await.as_deref(),
        Some("bootstrap")
    );
    assert_eq!(name(nobody.clone(), wrong(), "/api").await, None);
    assert_eq!(
        name(nobody.clone(), wrong(), "/livez").await,
        None,
        "bad credentials never become anonymous"
    );
    assert_eq!(
        name(nobody.clone(), HeaderMap::new(), "/readyz/x")
            .await
            .as_deref(),
        Some("system:anonymous")
    );
    assert_eq!(
        name(nobody.clone(), HeaderMap::new(), "/version")
            .await
            .as_deref(),
        Some("system:anonymous")
    );
    assert_eq!(
        name(nobody.clone(), HeaderMap::new(), "/versions").await,
        None
    );
    assert_eq!(name(nobody, HeaderMap::new(), "/api/v1/pods").await, None);
    assert_eq!(
        name(certificate, wrong(), "/api").await.as_deref(),
        Some("cert")
    );
}

#[test]
fn a_certificate_without_a_name_proves_nothing() {
    assert!(
        Peer::of_certificate(&PeerIdentity::default(), None)
            .user
            .is_none()
    );
    let identity = PeerIdentity {
        common_name: "system:node:n1".into(),
        organizations: vec!["system:nodes".into()],
        sans: Vec::new(),
        fingerprint: [7; 32],
    };
    let user = Peer::of_certificate(&identity, None).user.expect("named");
    assert_eq!(user.node_name(), Some("n1"));
    assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    let id = format!("X509SHA256={}", "07".repeat(32));
    assert_eq!(user.extra[CREDENTIAL_ID], [id]);
}

fn impersonators() -> Arc<Live> {
    let live = Live::new();
    live.apply(
        "clusterroles",
        Change::Set(json!({"metadata": {"name": "imp"}, "rules": [
            {"apiGroups": [""], "resources": ["users"], "resourceNames": ["jane"], "verbs": ["impersonate"]},
            {"apiGroups": [""], "resources": ["groups"], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"], "verbs": ["impersonate"]},
        ]})),
    );
    live.apply(
        "clusterrolebindings",
        Change::Set(
            json!({"metadata": {"name": "imp"}, "roleRef": {"kind": "ClusterRole", "name": "imp"},
            "subjects": [{"kind": "User", "name": "bob"}]}),
        ),
    );
    live
}

#[test]
fn impersonation() {
    let live = impersonators();
    let bob = User::authenticated("bob", Vec::<String>::new());
    let root = User::authenticated("root", ["system:masters"]);
    let resolve =
        |user: &User, pairs: &[(&str, &str)]| impersonation::resolve(&headers(pairs), user, &*live);

    assert_eq!(resolve(&bob, &[]).expect("nothing asked"), None);
    let jane = resolve(
        &bob,
        &[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-extra-Scopes", "x"),
        ],
    );
    let jane = jane.expect("allowed").expect("somebody");
    assert_eq!(jane.name, "jane");
    assert_eq!(jane.groups, ["dev", "system:authenticated"]);
    assert_eq!(
        jane.extra,
        BTreeMap::from([("scopes".to_owned(), vec!["x".to_owned()])])
    );

    let refused = resolve(&bob, &[("impersonate-user", "joe")]).expect_err("not allowed");
    assert_eq!(
        refused.message,
        "users \"joe\" is forbidden: User \"bob\" cannot impersonate resource \"users\" in API group \"\" at the \
         cluster scope"
    );
    assert!(
        resolve(
            &bob,
            &[("impersonate-user", "jane"), ("impersonate-uid", "7")]
        )
        .is_err()
    );
    assert_eq!(
        resolve(&bob, &[("impersonate-group", "dev")])
            .expect_err("no user")
            .code(),
        400
    );

    let account = resolve(
        &root,
        &[("impersonate-user", "system:serviceaccount:ns:sa")],
    );
    let account = account.expect("allowed").expect("somebody");
    assert_eq!(
        account.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:ns",
            "system:authenticated"
        ]
    );
    let anonymous = resolve(&root, &[("impersonate-user", "system:anonymous")])
        .expect("allowed")
        .expect("somebody");
    assert_eq!(anonymous.groups, ["system:unauthenticated"]);

    let mut given = headers(&[
        ("impersonate-user", "x"),
        ("impersonate-extra-a", "y"),
        ("accept", "*/*"),
    ]);
    impersonation::strip(&mut given);
    assert_eq!(given.len(), 1);
}

#[test]
fn a_token_offered_as_a_subprotocol_went_on_to_the_node_agent() {
    let token = "base64url.bearer.authorization.k8s.io.YWJj";
    let both = format!("{token}, v5.channel.k8s.io,v4.channel.k8s.io");
    let rows: &[(&[&str], Option<&str>)] = &[
        (&[&both], Some("v5.channel.k8s.io, v4.channel.k8s.io")),
        (&["v4.channel.k8s.io", token], Some("v4.channel.k8s.io")),
        (&[token], None),
        (&["v4.channel.k8s.io"], Some("v4.channel.k8s.io")),
        (&[], None),
    ];
    let name = http::header::SEC_WEBSOCKET_PROTOCOL;
    for (given, expected) in rows {
        let mut headers = HeaderMap::new();
        for value in *given {
            headers.append(&name, HeaderValue::from_str(value).expect("a value"));
        }
        super::bearer::strip(&mut headers);
        let left: Vec<_> = headers.get_all(&name).iter().collect();
        let expected: Vec<_> = expected.iter().collect();
        assert_eq!(left, expected, "{given:?}");
    }
}
