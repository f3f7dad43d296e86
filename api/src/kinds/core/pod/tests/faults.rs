//! Faults that reviews found in updates of pods.

use super::*;

const MIRROR: &str = "kubernetes.io/config.mirror";

fn status_update(new: Value, old: &Value) -> Vec<String> {
    let mut new = new;
    Pod.prepare_for_status_update(&mut new, old);
    let errors = Pod.validate_status_update(&new, old);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_mirror_pod_became_a_plain_one_by_an_update_of_its_status() {
    let mut plain = pod();
    Pod.default(&mut plain);
    let marked = |value: &str| {
        let mut pod = plain.clone();
        pod["metadata"]["annotations"] = json!({MIRROR: value});
        pod
    };
    let (mirror, other) = (marked("a"), marked("b"));
    let at = format!("metadata.annotations[{MIRROR}]: Forbidden: ");
    let kept = [format!(
        "{at}may not remove or update mirror pod annotation"
    )];
    let added = [format!("{at}may not add mirror pod annotation")];
    for (new, old, expected) in [
        (&plain, &mirror, &kept),
        (&other, &mirror, &kept),
        (&mirror, &plain, &added),
    ] {
        assert_eq!(status_update(new.clone(), old), expected);
        assert_eq!(update(&Pod, new.clone(), old.clone()), expected);
    }
    assert!(status_update(mirror.clone(), &mirror).is_empty());
}

#[test]
fn an_added_toleration_was_not_validated() {
    let old = pod();
    let new = with(
        old.clone(),
        "/spec/tolerations",
        json!([{"key": "a", "operator": "Sometimes"}]),
    );
    assert_eq!(
        update(&Pod, new, old),
        [
            "spec.tolerations[0].operator: Unsupported value: \"Sometimes\": supported values: \"Equal\", \"Exists\""
        ]
    );
}
