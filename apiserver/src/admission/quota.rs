//! ResourceQuota: refuses what a namespace has no room for, and charges what is let in before it is stored.
//!
//! Counting anew is the controller's work: a write that fails after it was charged is taken off again there. Invariant: a charge
//! is a write under the quota's revision, so that two requests at two servers cannot both take the last of it.

use std::sync::Arc;

use corten_api::kinds::ResourceDescriptor;
use corten_api::quota::{self, Amounts};
use corten_api::status::Status;
use serde_json::{Value, json};

use super::{Operation, Review};
use crate::registry::{Registry, Target};

/// Kinds whose use can grow by an update.
const GROWING: [&str; 2] = ["persistentvolumeclaims", "services"];

/// Charges the quotas of the object's namespace, all or none as far as one can see before.
pub(super) async fn charge(
    registry: &Registry,
    review: &Review<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if !is_charged(review) {
        return Ok(());
    }
    let namespace = &review.target.namespace;
    let Some(cache) = registry.caches().named("", "resourcequotas") else {
        return Ok(());
    };
    let quotas: Vec<_> = cache
        .snapshot()
        .range(Some(namespace), None)
        .map(Arc::clone)
        .collect();
    let mut charged = Vec::new();
    for item in quotas {
        if charge_of(review, &item.value(), new, old)?.is_some() {
            charged.push(item);
        }
    }
    if review.context.dry_run {
        return Ok(());
    }
    for item in charged {
        let target = Target::of("", "resourcequotas", namespace, &item.name)?;
        let written = registry
            .change_own(&target, &mut |current| {
                let charged = charge_of(review, current, new, old)?;
                Ok(charged.unwrap_or_else(|| current.clone()))
            })
            .await;
        match written {
            // It was deleted meanwhile, and limits nobody any more.
            Err(status) if status.code() == 404 => {}
            written => written?,
        }
    }
    Ok(())
}

fn is_charged(review: &Review<'_>) -> bool {
    let ResourceDescriptor {
        group, resource, ..
    } = *review.target.descriptor;
    if review.is_resize() {
        return true;
    }
    let namespaced = !review.target.namespace.is_empty() && review.target.subresource.is_empty();
    let written = match review.operation {
        Operation::Create => true,
        Operation::Update => group.is_empty() && GROWING.contains(&resource),
        Operation::Delete => false,
    };
    // Events come and go by themselves.
    namespaced && written && resource != "events" && !review.target.descriptor.is_virtual()
}

/// The quota as it stands once the object is let in; none when it does not change by it.
fn charge_of(
    review: &Review<'_>,
    quota: &Value,
    new: &Value,
    old: Option<&Value>,
) -> Result<Option<Value>, Status> {
    let ResourceDescriptor {
        group, resource, ..
    } = *review.target.descriptor;
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let forbidden = |why: String| review.target.forbidden(&why);
    let hard = quota::amounts(&quota["status"]["hard"]);
    let usage = |object: &Value| -> Amounts {
        if !quota::takes_in(&quota["spec"], group, resource, object) {
            return Amounts::new();
        }
        let all = quota::usage(group, resource, object).into_iter();
        all.filter(|(name, _)| hard.contains_key(name)).collect()
    };
    let (after, before) = (usage(new), old.map(usage).unwrap_or_default());
    if group.is_empty()
        && resource == "pods"
        && quota::takes_in(&quota["spec"], group, resource, new)
    {
        let missing = quota::missing_in_pod(new, hard.keys());
        if !missing.is_empty() {
            return Err(forbidden(format!(
                "failed quota: {name}: must specify {missing}"
            )));
        }
    }
    let used = quota::amounts(&quota["status"]["used"]);
    let (mut requested, mut sums) = (Amounts::new(), used.clone());
    let mut unknown = Vec::new();
    for (what, amount) in &after {
        let more = before
            .get(what)
            .map_or(*amount, |before| amount.minus(*before));
        if more.is_zero() {
            continue;
        }
        let Some(used) = used.get(what) else {
            unknown.push(what.as_str());
            continue;
        };
        sums.insert(what.clone(), used.plus(more));
        if !more.is_negative() {
            requested.insert(what.clone(), more);
        }
    }
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        return Err(forbidden(format!(
            "status unknown for quota: {name}, resources: {unknown}"
        )));
    }
    if let Some(too_much) = too_much(&requested, &sums, &used, &hard) {
        return Err(forbidden(format!("exceeded quota: {name}, {too_much}")));
    }
    if sums == used {
        return Ok(None);
    }
    let mut charged = quota.clone();
    charged["status"]["used"] = json!(quota::to_json(&sums));
    Ok(Some(charged))
}

/// Of what is requested, what would be more than the quota has, in upstream's words; none when nothing is.
fn too_much(requested: &Amounts, sums: &Amounts, used: &Amounts, hard: &Amounts) -> Option<String> {
    let exceeds = |what: &&String| sums.get(*what) > hard.get(*what);
    let over: Vec<&String> = requested.keys().filter(exceeds).collect();
    let of = |amounts: &Amounts| {
        let held = over
            .iter()
            .filter_map(|what| Some(((*what).clone(), *amounts.get(*what)?)));
        quota::words(&held.collect())
    };
    (!over.is_empty()).then(|| {
        format!(
            "requested: {}, used: {}, limited: {}",
            of(requested),
            of(used),
            of(hard)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Answer, Context};
    use crate::testing::{TestApi, config_map, pod};

    async fn with_quota(hard: Value) -> TestApi {
        let api = TestApi::start().await;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
        let mut made = api.create("", "resourcequotas", "default", quota).await;
        let zeros: serde_json::Map<_, _> = hard
            .as_object()
            .unwrap()
            .keys()
            .map(|name| (name.clone(), json!("0")))
            .collect();
        made["status"] = json!({"hard": hard, "used": zeros});
        let mut target = Target::of("", "resourcequotas", "default", "q").unwrap();
        target.subresource = "status".to_owned();
        api.registry
            .update(&Context::internal(), &target, made)
            .await
            .unwrap();
        api.registry.caches().wait_fresh().await.unwrap();
        api
    }

    async fn create(
        api: &TestApi,
        context: &Context,
        resource: &str,
        object: Value,
    ) -> Result<Answer, Status> {
        let target = Target::of("", resource, "default", "").unwrap();
        api.registry.create(context, &target, object).await
    }

    async fn used(api: &TestApi) -> Value {
        api.registry.caches().wait_fresh().await.unwrap();
        api.get("", "resourcequotas", "default", "q").await["status"]["used"].clone()
    }

    #[tokio::test]
    async fn a_namespace_holds_no_more_than_its_quota() {
        let api = with_quota(json!({"configmaps": "2", "count/configmaps": "3"})).await;
        let internal = Context::internal();
        let dry = Context {
            dry_run: true,
            ..Context::internal()
        };
        create(&api, &dry, "configmaps", config_map("dry", json!({})))
            .await
            .unwrap();
        assert_eq!(used(&api).await["configmaps"], "0");
        for name in ["a", "b"] {
            create(&api, &internal, "configmaps", config_map(name, json!({})))
                .await
                .unwrap();
        }
        let refused = create(&api, &internal, "configmaps", config_map("c", json!({})))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), 403);
        assert_eq!(
            refused.message,
            "configmaps \"c\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
        );
        assert_eq!(
            used(&api).await,
            json!({"configmaps": "2", "count/configmaps": "2"})
        );
    }

    #[tokio::test]
    async fn requests_that_come_together_do_not_share_the_last_place() {
        let api = with_quota(json!({"configmaps": "5"})).await;
        let internal = Context::internal();
        let names: Vec<String> = (0..20).map(|i| format!("m{i}")).collect();
        let all = names
            .iter()
            .map(|name| create(&api, &internal, "configmaps", config_map(name, json!({}))));
        let made = futures::future::join_all(all).await;
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 5);
        assert!(
            made.iter()
                .filter_map(|made| made.as_ref().err())
                .all(|status| status.code() == 403)
        );
        assert_eq!(used(&api).await["configmaps"], "5");
    }

    #[tokio::test]
    async fn a_resize_takes_what_is_left_and_no_more() {
        let api = with_quota(json!({"cpu": "1"})).await;
        let mut small = pod("p");
        small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "600m"}});
        create(&api, &Context::internal(), "pods", small)
            .await
            .unwrap();
        api.registry.caches().wait_fresh().await.unwrap();
        let mut target = Target::of("", "pods", "default", "p").unwrap();
        target.subresource = "resize".to_owned();
        let present = api.get("", "pods", "default", "p").await;
        let resize = async |cpu: &str| {
            let mut wanted = present.clone();
            wanted["metadata"]["resourceVersion"] = json!("");
            wanted["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
            let context = Context::internal();
            api.registry.update(&context, &target, wanted).await
        };
        let refused = resize("1100m").await.unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"p\" is forbidden: exceeded quota: q, requested: cpu=500m, used: cpu=600m, limited: cpu=1"
        );
        let resized = resize("900m").await.unwrap().into_value();
        assert_eq!(resized["metadata"]["generation"], 2);
        assert_eq!(used(&api).await, json!({"cpu": "900m"}));
    }

    #[tokio::test]
    async fn pods_must_say_what_a_quota_counts() {
        let api = with_quota(json!({"cpu": "1", "limits.memory": "1Gi"})).await;
        let internal = Context::internal();
        let refused = create(&api, &internal, "pods", pod("p")).await.unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"p\" is forbidden: failed quota: q: must specify cpu for: c; limits.memory for: c"
        );
        let mut big = pod("p");
        big["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "600m"}, "limits": {"memory": "1Mi"}});
        create(&api, &internal, "pods", big.clone()).await.unwrap();
        big["metadata"]["name"] = json!("second");
        let refused = create(&api, &internal, "pods", big).await.unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"second\" is forbidden: exceeded quota: q, requested: cpu=600m, used: cpu=600m, limited: cpu=1"
        );
    }
}
