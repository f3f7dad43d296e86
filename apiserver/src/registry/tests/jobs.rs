//! Jobs: names that the server finds reach their labels, and who deletes one is told what becomes of its pods.

use super::*;
use crate::registry::delete::Propagation;

fn job() -> Value {
    json!({
        "metadata": {"generateName": "pi-"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "perl:5"}]}}},
    })
}

#[tokio::test]
async fn generated_names_reach_the_labels() {
    let api = TestApi::start().await;
    let made = api.create("batch", "jobs", "default", job()).await;
    let (meta, spec) = (&made["metadata"], &made["spec"]);
    let labels = &spec["template"]["metadata"]["labels"];
    assert_eq!(labels["batch.kubernetes.io/job-name"], meta["name"]);
    let uid = "batch.kubernetes.io/controller-uid";
    assert_eq!(labels[uid], meta["uid"]);
    assert_eq!(spec["selector"]["matchLabels"][uid], meta["uid"]);
    assert_eq!(meta["labels"], *labels);
}

#[tokio::test]
async fn whoever_deletes_one_is_told_of_its_pods() {
    let api = TestApi::start().await;
    for (propagation, warned) in [(None, 1), (Some(Propagation::Background), 0)] {
        let made = api.create("batch", "jobs", "default", job()).await;
        let name = made["metadata"]["name"].as_str().unwrap();
        let target = Target::of("batch", "jobs", "default", name).unwrap();
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        let context = Context::internal();
        let answer = api.registry.delete(&context, &target, &options);
        let answer = answer.await.unwrap();
        assert_eq!(answer.warnings.len(), warned);
        let left = api.registry.get(&target, None).await;
        assert_eq!(
            left.is_ok(),
            propagation.is_none(),
            "the orphan finalizer holds it"
        );
    }
}
