//! What gRPC authorises is what it does.

use serde_json::json;

use super::*;
use crate::authz::live::Live;
use crate::chain::objects::Change;
use crate::testing::{TestApi, config_map};

/// Jane may do all to one config map and read logs in the default namespace, and all to the namespace itself.
fn authorizer() -> Arc<Live> {
    let live = Live::new();
    live.apply(
        "roles",
        Change::Set(json!({"metadata": {"name": "r", "namespace": "default"}, "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["pods/log", "pods/exec", "nodes", "namespaces"], "verbs": ["*"]},
        ]})),
    );
    live.apply(
        "rolebindings",
        Change::Set(
            json!({"metadata": {"name": "r", "namespace": "default"},
            "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]}),
        ),
    );
    live
}

fn target(resource: &str, name: &str, subresource: &str) -> pb::Target {
    pb::Target {
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        ..pb::Target::default()
    }
}

struct Jane {
    resources: Resources,
    _api: TestApi,
}

impl Jane {
    async fn new() -> Self {
        let api = TestApi::start().await;
        let resources = Resources {
            registry: Arc::clone(&api.registry),
            authorizer: authorizer(),
        };
        for name in ["mine", "other"] {
            api.create("", "configmaps", "default", config_map(name, json!({})))
                .await;
        }
        api.create("", "pods", "default", crate::testing::pod("p"))
            .await;
        Self {
            resources,
            _api: api,
        }
    }

    /// The code of the refusal, or 200.
    async fn enter(&self, verb: &str, target: &pb::Target) -> u16 {
        let request = Self::request(());
        let entered = self
            .resources
            .enter(&request, Some(target), verb, NO_SELECTORS, ONE);
        entered.await.map_or_else(|status| status.code(), |_| 200)
    }

    fn request<T>(message: T) -> Request<T> {
        let jane = User::authenticated("jane", Vec::<String>::new());
        let mut request = Request::new(message);
        request
            .extensions_mut()
            .insert(Caller::internal(Arc::new(jane), "test"));
        request
    }
}

#[tokio::test]
async fn a_name_was_authorised_and_then_ignored() {
    let jane = Jane::new().await;
    let mine = target("configmaps", "mine", "");
    for (verb, code) in [
        ("get", 200),
        ("watch", 200),
        ("delete", 200),
        ("list", 405),
        ("deletecollection", 405),
        ("create", 405),
    ] {
        assert_eq!(jane.enter(verb, &mine).await, code, "{verb}");
    }
    assert_eq!(jane.enter("list", &target("configmaps", "", "")).await, 403);
}

#[tokio::test]
async fn a_log_reader_got_the_pod_over_grpc() {
    let jane = Jane::new().await;
    for (subresource, code) in [("log", 405), ("exec", 405), ("", 403)] {
        let message = pb::GetRequest {
            target: Some(target("pods", "p", subresource)),
            ..pb::GetRequest::default()
        };
        let got = jane.resources.get_one(Jane::request(message)).await;
        let got = got.map_or_else(|status| status.code(), |_| 200);
        assert_eq!(got, code, "{subresource}");
    }
}

#[tokio::test]
async fn a_namespaced_role_reached_cluster_scoped_objects() {
    let jane = Jane::new().await;
    assert_eq!(jane.enter("delete", &target("nodes", "n1", "")).await, 404);
    assert_eq!(jane.enter("list", &target("nodes", "", "")).await, 404);
    let mut own = target("namespaces", "default", "");
    assert_eq!(jane.enter("get", &own).await, 200);
    own.namespace.clear();
    assert_eq!(jane.enter("get", &own).await, 200);
    // The name of another namespace, and of none.
    assert_eq!(
        jane.enter("get", &target("namespaces", "kube-system", ""))
            .await,
        403
    );
    assert_eq!(jane.enter("list", &own).await, 405);
}
