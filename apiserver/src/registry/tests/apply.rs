//! Server-side apply through the registry: created, merged, refused, forced, and nothing written for nothing.

use super::*;

fn deployment(replicas: Option<i64>, image: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

fn web() -> Target {
    Target::of("apps", "deployments", "default", "web").unwrap()
}

fn by(manager: &str, force: bool) -> Context {
    Context {
        field_manager: manager.to_owned(),
        force,
        ..Context::internal()
    }
}

async fn apply(api: &TestApi, context: &Context, object: &Value) -> Result<Value, Status> {
    let body = object.to_string();
    let answer = api
        .registry
        .patch(context, &web(), PatchKind::Apply, body.as_bytes())
        .await?;
    Ok(answer.into_value())
}

fn managers(object: &Value) -> Vec<(&str, &str)> {
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            (
                entry["manager"].as_str().unwrap(),
                entry["operation"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn an_object_is_created_and_the_same_again_writes_nothing() {
    let api = TestApi::start().await;
    let me = by("me", false);
    let body = deployment(None, "a").to_string();
    let created = api
        .registry
        .patch(&me, &web(), PatchKind::Apply, body.as_bytes())
        .await
        .unwrap();
    assert_eq!(created.code, 201);
    let created = created.into_value();
    assert_eq!(managers(&created), [("me", "Apply")]);
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"];
    assert!(
        fields["f:spec"].get("f:replicas").is_none(),
        "a default is nobody's: {fields}"
    );
    let again = apply(&api, &me, &deployment(None, "a")).await.unwrap();
    assert_eq!(again, created);
}

#[tokio::test]
async fn what_others_own_is_refused_and_force_takes_it() {
    let api = TestApi::start().await;
    let me = by("me", false);
    apply(&api, &me, &deployment(Some(2), "a")).await.unwrap();
    // Somebody scales it, in the usual way.
    let scaler = by("scaler", false);
    let patch = json!({"spec": {"replicas": 5}}).to_string();
    let scaled = api
        .registry
        .patch(&scaler, &web(), PatchKind::Merge, patch.as_bytes())
        .await
        .unwrap()
        .into_value();
    assert_eq!(managers(&scaled), [("me", "Apply"), ("scaler", "Update")]);
    let refused = apply(&api, &me, &deployment(Some(2), "b"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), 409);
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
    );
    // Who does not care for the number leaves it to the other.
    let left = apply(&api, &me, &deployment(None, "b")).await.unwrap();
    assert_eq!(left["spec"]["replicas"], 5);
    assert_eq!(
        left["spec"]["template"]["spec"]["containers"][0]["image"],
        "b"
    );
    let forced = apply(&api, &by("me", true), &deployment(Some(1), "b"))
        .await
        .unwrap();
    assert_eq!(forced["spec"]["replicas"], 1);
    assert_eq!(managers(&forced), [("me", "Apply")]);
}

#[tokio::test]
async fn a_scale_is_applied_to_the_object_itself() {
    let api = TestApi::start().await;
    let me = by("me", false);
    apply(&api, &me, &deployment(Some(2), "a")).await.unwrap();
    let scale = Target {
        subresource: "scale".to_owned(),
        ..web()
    };
    let wish = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "labels": {"x": "y"}},
        "spec": {"replicas": 5},
    });
    let body = wish.to_string();
    let refused = api
        .registry
        .patch(
            &by("scaler", false),
            &scale,
            PatchKind::Apply,
            body.as_bytes(),
        )
        .await
        .unwrap_err();
    assert_eq!(refused.code(), 409);
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas"
    );
    let scaled = api
        .registry
        .patch(
            &by("scaler", true),
            &scale,
            PatchKind::Apply,
            body.as_bytes(),
        )
        .await
        .unwrap()
        .into_value();
    assert_eq!(scaled["kind"], "Scale");
    assert_eq!(scaled["spec"]["replicas"], 5);
    let object = api.registry.get(&web(), None).await.unwrap().into_value();
    assert_eq!(object["spec"]["replicas"], 5);
    assert_eq!(object["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(managers(&object), [("me", "Apply"), ("scaler", "Apply")]);
    let entry = &object["metadata"]["managedFields"][1];
    assert_eq!(entry["subresource"], "scale");
    assert_eq!(entry["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
}

#[tokio::test]
async fn what_is_not_wished_any_more_goes() {
    let api = TestApi::start().await;
    let me = by("me", false);
    let mut object = deployment(None, "a");
    object["metadata"]["annotations"] = json!({"x": "1", "y": "2"});
    apply(&api, &me, &object).await.unwrap();
    object["metadata"]["annotations"] = json!({"y": "2"});
    let after = apply(&api, &me, &object).await.unwrap();
    assert_eq!(after["metadata"]["annotations"], json!({"y": "2"}));
    assert_eq!(
        after["metadata"]["generation"], 1,
        "the spec did not change"
    );
}

#[tokio::test]
async fn a_status_has_managers_of_its_own() {
    let api = TestApi::start().await;
    apply(&api, &by("me", false), &deployment(Some(1), "a"))
        .await
        .unwrap();
    let status = Target {
        subresource: "status".to_owned(),
        ..web()
    };
    let patch = json!({"status": {"replicas": 1}, "spec": {"replicas": 9}}).to_string();
    let controller = by("controller", false);
    let after = api
        .registry
        .patch(&controller, &status, PatchKind::Merge, patch.as_bytes())
        .await
        .unwrap()
        .into_value();
    assert_eq!(after["spec"]["replicas"], 1);
    let entry = &after["metadata"]["managedFields"][1];
    assert_eq!(
        (&entry["manager"], &entry["subresource"], &entry["fieldsV1"]),
        (
            &json!("controller"),
            &json!("status"),
            &json!({"f:status": {"f:replicas": {}}})
        )
    );
}

#[tokio::test]
async fn an_apply_must_say_what_it_is_about() {
    let api = TestApi::start().await;
    let me = by("me", false);
    let mut nameless = deployment(None, "a");
    nameless.as_object_mut().unwrap().shift_remove("kind");
    assert_eq!(apply(&api, &me, &nameless).await.unwrap_err().code(), 400);
    let mut managed = deployment(None, "a");
    managed["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply"}]);
    let refused = apply(&api, &me, &managed).await.unwrap_err();
    assert_eq!(refused.message, "metadata.managedFields must be nil");
}
