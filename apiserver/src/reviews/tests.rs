//! Reviews and their answers.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::authn::bearer::StaticTokens;
use crate::chain::objects::Change;

struct Bench {
    authenticator: Authenticator,
    authorizer: Arc<Live>,
}

impl Bench {
    fn new() -> Self {
        let mut static_tokens = StaticTokens::default();
        static_tokens.add("secret", User::authenticated("boot", ["g"]));
        let authorizer = Live::new();
        authorizer.apply(
            "clusterroles",
            Change::Set(json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]})),
        );
        authorizer.apply("clusterrolebindings", Change::Set(json!({"metadata": {"name": "r"},
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]})));
        Self {
            authenticator: Authenticator {
                tokens: None,
                static_tokens,
            },
            authorizer,
        }
    }

    async fn ask(&self, kind: &str, spec: Value) -> Result<Value, Status> {
        let reviewer = Reviewer {
            authenticator: &self.authenticator,
            authorizer: &self.authorizer,
        };
        let jane = User::authenticated("jane", Vec::<String>::new());
        reviewer
            .answer(kind, &jane, "ns", json!({"spec": spec}))
            .await
            .map(|review| review["status"].clone())
    }
}

#[tokio::test]
async fn access_reviews_give_the_authorizers_answer() {
    let bench = Bench::new();
    let pods = |verb: &str| json!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "ns"}});
    let mine = bench
        .ask("SelfSubjectAccessReview", pods("get"))
        .await
        .expect("answered");
    assert_eq!(
        mine,
        json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"r\" of ClusterRole \"r\" to User \"jane\""})
    );
    let mine = bench
        .ask("SelfSubjectAccessReview", pods("list"))
        .await
        .expect("answered");
    assert_eq!(mine, json!({"allowed": false}));
    let url = json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}});
    assert_eq!(
        bench
            .ask("SelfSubjectAccessReview", url)
            .await
            .expect("answered")["allowed"],
        true
    );

    let mut other = pods("get");
    assert_eq!(
        bench
            .ask("SubjectAccessReview", other.clone())
            .await
            .expect_err("no subject")
            .code(),
        422
    );
    other["user"] = "joe".into();
    assert_eq!(
        bench
            .ask("SubjectAccessReview", other.clone())
            .await
            .expect("answered")["allowed"],
        false
    );
    assert_eq!(
        bench
            .ask("LocalSubjectAccessReview", other.clone())
            .await
            .expect("answered")["allowed"],
        false
    );
    other["resourceAttributes"]["namespace"] = "else".into();
    assert_eq!(
        bench
            .ask("LocalSubjectAccessReview", other)
            .await
            .expect_err("elsewhere")
            .code(),
        422
    );
    assert_eq!(
        bench
            .ask("SelfSubjectAccessReview", json!({}))
            .await
            .expect_err("nothing asked")
            .code(),
        422
    );
}

#[tokio::test]
async fn rules_tokens_and_oneself() {
    let bench = Bench::new();
    let rules = bench
        .ask("SelfSubjectRulesReview", json!({"namespace": "ns"}))
        .await
        .expect("answered");
    assert_eq!(
        rules["resourceRules"],
        json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])
    );
    assert_eq!(
        rules["nonResourceRules"],
        json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}])
    );
    assert_eq!(
        bench
            .ask("SelfSubjectRulesReview", json!({}))
            .await
            .expect_err("no namespace")
            .code(),
        400
    );

    let good = bench
        .ask("TokenReview", json!({"token": "secret"}))
        .await
        .expect("answered");
    assert_eq!(
        (&good["authenticated"], &good["user"]["username"]),
        (&json!(true), &json!("boot"))
    );
    let bad = bench
        .ask("TokenReview", json!({"token": "wrong"}))
        .await
        .expect("answered");
    assert_eq!(bad["authenticated"], Value::Null);
    let me = bench
        .ask("SelfSubjectReview", Value::Null)
        .await
        .expect("answered");
    assert_eq!(
        me["userInfo"],
        json!({"username": "jane", "groups": ["system:authenticated"]})
    );
}
