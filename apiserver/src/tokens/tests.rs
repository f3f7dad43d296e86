//! Tokens from issue to refusal, over a handful of objects.

use std::sync::Arc;
use std::time::Instant;

use corten_base::clock::Clock;
use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::chain::objects::fake::Fake;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

struct FixedClock(Mutex<jiff::Timestamp>);

impl Clock for FixedClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> jiff::Timestamp {
        *self.0.lock()
    }
}

struct Bench {
    tokens: Tokens,
    objects: Arc<Fake>,
    clock: Arc<FixedClock>,
}

fn bench() -> Bench {
    let (private, public) = corten_base::pki::signing_key_pair().expect("a key");
    let objects = Fake::with(&[
        (
            Resource::core("serviceaccounts"),
            json!({"metadata": {"namespace": "a", "name": "sa", "uid": "sa-uid"}}),
        ),
        (
            Resource::core("pods"),
            json!({
                "metadata": {"namespace": "a", "name": "p", "uid": "pod-uid"},
                "spec": {"serviceAccountName": "sa", "nodeName": "n1"},
            }),
        ),
        (
            Resource::core("nodes"),
            json!({"metadata": {"name": "n1", "uid": "node-uid"}}),
        ),
    ]);
    let clock = Arc::new(FixedClock(Mutex::new(
        jiff::Timestamp::from_second(1_700_000_000).expect("a time"),
    )));
    let keys = Keys::new(&private, &[public]).expect("keys");
    let tokens = Tokens::new(keys, ISSUER, &[], objects.clone(), clock.clone());
    Bench {
        tokens,
        objects,
        clock,
    }
}

fn node(name: &str) -> User {
    User::authenticated(format!("system:node:{name}"), ["system:nodes"])
}

fn bound_to_pod(uid: &str) -> Value {
    json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}})
}

async fn issue(bench: &Bench, request: Value) -> String {
    let answer = bench
        .tokens
        .request(&node("n1"), "a", "sa", request)
        .await
        .expect("issued");
    answer["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

async fn verify(bench: &Bench, token: &str) -> Result<Verified, TokenError> {
    bench.tokens.verify(token, bench.tokens.audiences()).await
}

#[tokio::test]
async fn a_pods_token_names_everything_it_is_bound_to() {
    let bench = bench();
    let answer = bench
        .tokens
        .request(&node("n1"), "a", "sa", bound_to_pod("pod-uid"))
        .await
        .expect("issued");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        "2023-11-14T23:13:20Z"
    );
    let token = answer["status"]["token"].as_str().expect("a token");
    let user = verify(&bench, token).await.expect("good").user;
    assert_eq!(user.name, "system:serviceaccount:a:sa");
    assert_eq!(user.uid, "sa-uid");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated"
        ]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(
        user.extra["authentication.kubernetes.io/node-uid"],
        ["node-uid"]
    );
}

#[tokio::test]
async fn a_token_dies_with_what_it_is_bound_to() {
    let bench = bench();
    let token = issue(&bench, bound_to_pod("pod-uid")).await;
    bench.objects.put(
        Resource::core("pods"),
        json!({"metadata": {"namespace": "a", "name": "p", "uid": "other"}}),
    );
    assert!(matches!(
        verify(&bench, &token).await,
        Err(TokenError::Unbound("the pod"))
    ));
    bench.objects.remove(Resource::core("pods"), "a", "p");
    assert!(matches!(
        verify(&bench, &token).await,
        Err(TokenError::Unbound("the pod"))
    ));
    bench
        .objects
        .remove(Resource::core("serviceaccounts"), "a", "sa");
    assert!(matches!(
        verify(&bench, &token).await,
        Err(TokenError::Unbound("the service account"))
    ));
}

#[tokio::test]
async fn time_audience_issuer_and_signature_are_checked() {
    let bench = bench();
    let token = issue(&bench, bound_to_pod("pod-uid")).await;
    let other = bench.tokens.verify(&token, &["other".to_owned()]).await;
    assert!(matches!(other, Err(TokenError::Audience(_))));
    assert!(
        matches!(
            verify(&super::tests::bench(), &token).await,
            Err(TokenError::Signature)
        ),
        "another cluster's key"
    );

    let mut parts: Vec<&str> = token.split('.').collect();
    let none = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        r#"{"alg":"none"}"#,
    );
    parts[0] = &none;
    assert!(matches!(
        verify(&bench, &parts.join(".")).await,
        Err(TokenError::Signature)
    ));
    for garbage in ["", "..", "a.b.c", &token[..token.len() - 2]] {
        assert!(verify(&bench, garbage).await.is_err(), "{garbage}");
    }
    let later = jiff::Timestamp::from_second(1_700_003_600).expect("a time");
    *bench.clock.0.lock() = later;
    assert!(matches!(
        verify(&bench, &token).await,
        Err(TokenError::Time)
    ));
}

#[tokio::test]
async fn requests_that_must_not_be_served() {
    let bench = bench();
    let admin = User::authenticated("admin", ["system:masters"]);
    let n1 = node("n1");
    let n2 = node("n2");
    let request = |user: User, name: &'static str, body: Value| {
        let tokens = &bench.tokens;
        async move {
            tokens
                .request(&user, "a", name, body)
                .await
                .expect_err("refused")
        }
    };
    let short = request(
        admin.clone(),
        "sa",
        json!({"spec": {"expirationSeconds": 60}}),
    )
    .await;
    assert_eq!(short.code(), 422);
    assert!(
        short
            .message
            .contains("may not specify a duration less than 10 minutes"),
        "{}",
        short.message
    );
    assert_eq!(
        request(admin.clone(), "missing", json!({})).await.code(),
        404
    );
    assert_eq!(
        request(admin.clone(), "sa", bound_to_pod("stale"))
            .await
            .code(),
        409
    );
    let kind =
        json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Service", "name": "p"}}});
    assert_eq!(request(admin.clone(), "sa", kind).await.code(), 400);
    assert_eq!(request(admin, "sa", json!([])).await.code(), 400);
    assert_eq!(
        request(n1.clone(), "sa", json!({"spec": {}})).await.code(),
        403,
        "nodes bind their tokens to pods"
    );
    assert_eq!(
        request(n2, "sa", bound_to_pod("pod-uid")).await.code(),
        403,
        "the pod runs elsewhere"
    );
    let mine = bench
        .tokens
        .request(&n1, "a", "sa", bound_to_pod("pod-uid"))
        .await;
    assert!(mine.is_ok());
}

#[tokio::test]
async fn the_published_key_is_the_signing_key() {
    let bench = bench();
    let keys = bench.tokens.jwks();
    assert_eq!(
        keys["keys"].as_array().map(Vec::len),
        Some(1),
        "the same public key is listed once"
    );
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    let configuration = bench.tokens.openid_configuration("host");
    assert_eq!(
        configuration["jwks_uri"],
        format!("{ISSUER}/openid/v1/jwks")
    );
}

#[tokio::test]
async fn a_token_for_what_was_just_created_was_refused() {
    let bench = bench();
    let (accounts, pods) = (Resource::core("serviceaccounts"), Resource::core("pods"));
    // The cache has not seen the account yet, and of the pod only its forerunner.
    let forerunner = json!({
        "metadata": {"namespace": "a", "name": "p", "uid": "old-uid"},
        "spec": {"serviceAccountName": "sa", "nodeName": "n2"},
    });
    bench.objects.lag(accounts, "a", "sa", None);
    bench.objects.lag(pods, "a", "p", Some(forerunner.clone()));
    let token = issue(&bench, bound_to_pod("pod-uid")).await;
    bench.objects.lag(accounts, "a", "sa", None);
    assert!(
        bench
            .tokens
            .verify(&token, bench.tokens.audiences())
            .await
            .is_ok()
    );
    bench.objects.lag(pods, "a", "p", Some(forerunner));
    assert!(
        bench
            .tokens
            .verify(&token, bench.tokens.audiences())
            .await
            .is_ok()
    );
    bench.objects.remove(pods, "a", "p");
    assert!(
        bench
            .tokens
            .verify(&token, bench.tokens.audiences())
            .await
            .is_err()
    );
}
