//! LimitRanges of the namespace: defaults for new pods, and bounds for what pods and claims ask for.
//!
//! Invariant: defaults come before bounds are looked at, and before anything is charged to a quota.

use corten_api::limits;
use corten_api::status::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::registry::Registry;

fn ranges(registry: &Registry, review: &Review<'_>) -> Vec<Value> {
    let Some(cache) = registry.caches().named("", "limitranges") else {
        return Vec::new();
    };
    let all = cache.snapshot();
    all.range(Some(&review.target.namespace), None)
        .map(|item| item.value())
        .collect()
}

/// Fills a pod in that is new or changes its size.
pub(super) fn admit(registry: &Registry, review: &Review<'_>, pod: &mut Value) {
    for range in ranges(registry, review) {
        limits::fill_in(&range, pod);
    }
}

/// Refuses what is out of bounds: new pods, pods of a new size, new claims, and claims that grow.
pub(super) fn validate(
    registry: &Registry,
    review: &Review<'_>,
    new: Option<&Value>,
) -> Result<(), Status> {
    let (Some(new), resource) = (new, review.target.descriptor.resource) else {
        return Ok(());
    };
    let looked_at = match review.operation {
        Operation::Create => review.is("", "pods") || review.is("", "persistentvolumeclaims"),
        Operation::Update => review.is_resize() || review.is("", "persistentvolumeclaims"),
        Operation::Delete => false,
    };
    if !looked_at {
        return Ok(());
    }
    for range in ranges(registry, review) {
        let faults = limits::faults(&range, resource, new);
        match &faults[..] {
            [] => {}
            [fault] => return Err(review.target.forbidden(fault)),
            faults => return Err(review.target.forbidden(&format!("[{}]", faults.join(", ")))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::registry::{Context, Target};
    use crate::testing::{TestApi, pod};

    #[tokio::test]
    async fn pods_are_filled_in_and_held_to_the_bounds() {
        let api = TestApi::start().await;
        let range = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}}]},
        });
        api.create("", "limitranges", "default", range).await;
        api.registry.caches().wait_fresh().await.unwrap();
        let made = api.create("", "pods", "default", pod("silent")).await;
        assert_eq!(
            made["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}})
        );
        let mut big = pod("big");
        big["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
        let target = Target::of("", "pods", "default", "").unwrap();
        let refused = api
            .registry
            .create(&Context::internal(), &target, big)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), 403);
        assert_eq!(
            refused.message,
            "pods \"big\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
        );
        let mut larger = made;
        larger["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("3");
        let mut target = Target::of("", "pods", "default", "silent").unwrap();
        target.subresource = "resize".to_owned();
        let refused = api
            .registry
            .update(&Context::internal(), &target, larger)
            .await
            .unwrap_err();
        assert_eq!(
            refused.message,
            "pods \"silent\" is forbidden: maximum cpu usage per Container is 1, but limit is 3"
        );
    }
}
