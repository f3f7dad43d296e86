//! Claims: made before their pod, mounted in it, owned as the policy says.

use serde_json::{Value, json};

use super::super::*;
use super::fixtures::*;

fn stored(change: Value) -> StatefulSet {
    let mut set = set(change);
    let template = json!([{
        "metadata": {"name": "data", "labels": {"tier": "disk"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    }]);
    if let Some(spec) = &mut set.spec {
        spec.volume_claim_templates = serde_json::from_value(template).expect("templates");
    }
    set
}

fn claim(ordinal: i32, owners: Value) -> PersistentVolumeClaim {
    let name = format!("data-web-{ordinal}");
    serde_json::from_value(json!({"metadata": {
        "name": name, "namespace": "d", "uid": name, "resourceVersion": "7", "ownerReferences": owners,
    }}))
    .expect("claim")
}

fn mounting(name: &str, state: &str) -> Pod {
    let mut pod = pod(name, "r2", state);
    let volume =
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": format!("data-{name}")}}]);
    pod.spec.get_or_insert_default().volumes = serde_json::from_value(volume).expect("volumes");
    pod
}

fn plan(set: StatefulSet, pods: Vec<Pod>, claims: Vec<PersistentVolumeClaim>) -> Plan {
    let revisions = vec![revision("r1", 1, "v1"), revision("r2", 2, "v2")];
    plan_of(&controller(set, pods, claims, revisions))
}

fn policy(deleted: &str, scaled: &str) -> Value {
    json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}})
}

fn pod_owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true})
}

#[test]
fn claims_come_before_their_pod() {
    let mut set = stored(json!({}));
    if let Some(spec) = &mut set.spec {
        let volumes = json!([{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]);
        let template = spec.template.spec.get_or_insert_default();
        template.volumes = serde_json::from_value(volumes).expect("volumes");
    }
    let plan = plan_of(&controller(set, vec![], vec![], vec![]));
    assert_eq!(
        words(&plan)[1..],
        ["create claims d/data-web-0", "create pods d/web-0"]
    );
    assert_eq!(
        events(&plan),
        [
            "Create Claim data-web-0 Pod web-0 in StatefulSet web success",
            "Create Pod web-0 in StatefulSet web successful"
        ]
    );
    let created: Vec<&Value> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Create { object, .. } => Some(object),
            _ => None,
        })
        .collect();
    assert_eq!(
        created[1]["metadata"],
        json!({"name": "data-web-0", "namespace": "d", "labels": {"app": "web", "tier": "disk"}})
    );
    assert_eq!(
        created[1]["spec"]["resources"]["requests"]["storage"],
        json!("1Gi")
    );
    assert_eq!(created[1]["status"], Value::Null);
    // The claim takes the place of the template's volume of that name.
    assert_eq!(
        created[2]["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}, {"name": "tmp", "emptyDir": {}}])
    );
}

#[test]
fn claims_are_used_again_unless_they_are_about_to_go() {
    let keep = || policy("Retain", "Retain");
    let drop = || policy("Retain", "Delete");
    let earlier = || json!([pod_owner("web-0", "earlier")]);
    let mut going = claim(0, json!([]));
    going.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("time"));
    for (policy, claim, expected, told) in [
        (
            keep(),
            claim(0, json!([])),
            vec!["create pods d/web-0"],
            "Create Pod web-0 in StatefulSet web successful",
        ),
        (
            keep(),
            claim(0, earlier()),
            vec!["create pods d/web-0"],
            "Create Pod web-0 in StatefulSet web successful",
        ),
        (drop(), claim(0, earlier()), vec![], ""),
        (
            keep(),
            going,
            vec![],
            "Create Pod web-0 in StatefulSet web failed error: pvc data-web-0 is being deleted",
        ),
    ] {
        let plan = plan(stored(policy), vec![], vec![claim]);
        assert_eq!(words(&plan), expected, "{told}");
        assert_eq!(events(&plan).join(""), told);
    }
}

#[test]
fn a_pending_pod_gets_a_claim_that_was_deleted() {
    let plan = plan(
        stored(json!({})),
        vec![mounting("web-0", "pending")],
        vec![],
    );
    assert_eq!(words(&plan), ["create claims d/data-web-0"]);
}

#[test]
fn a_pod_without_its_volumes_is_written_anew() {
    let claims = (0..3).map(|ordinal| claim(ordinal, json!([]))).collect();
    let plan = plan(stored(json!({})), row(&["up"]), claims);
    assert_eq!(words(&plan), ["update pods d/web-0", "create pods d/web-1"]);
}

/// The owners of the first claim that the plan writes, as kind and uid.
fn owners(plan: &Plan) -> Option<Vec<String>> {
    plan.actions.iter().find_map(|action| match action {
        Action::Patch {
            patch: corten_client::client::Patch::Merge(patch),
            target,
        } if target.resource == "persistentvolumeclaims" => {
            assert_eq!(patch["metadata"]["resourceVersion"], json!("7"));
            let owners = patch["metadata"]["ownerReferences"].as_array()?;
            let name = |owner: &Value| {
                format!(
                    "{} {}",
                    owner["kind"].as_str().unwrap_or_default(),
                    owner["uid"].as_str().unwrap_or_default()
                )
            };
            Some(owners.iter().map(name).collect())
        }
        _ => None,
    })
}

#[test]
fn owners_follow_the_policy() {
    let set_owner = || owner("u");
    let by_pod = |uid: &str| json!([pod_owner("web-0", uid)]);
    let weak = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u"}]);
    let other = || json!([{"apiVersion": "x/v1", "kind": "Backup", "name": "b", "uid": "b", "controller": true}]);
    let both = || json!([other()[0], set_owner()[0]]);
    let (retain, delete) = ("Retain", "Delete");
    for (number, (deleted, scaled, replicas, before, after)) in [
        (retain, retain, 1, json!([]), None),
        (retain, retain, 1, set_owner(), Some(vec![])),
        (delete, retain, 1, json!([]), Some(vec!["StatefulSet u"])),
        (delete, retain, 1, set_owner(), None),
        (delete, retain, 1, weak, Some(vec!["StatefulSet u"])),
        (retain, delete, 1, json!([]), None),
        (retain, delete, 1, set_owner(), Some(vec![])),
        (retain, delete, 0, json!([]), Some(vec!["Pod web-0"])),
        (retain, delete, 0, by_pod("web-0"), None),
        (delete, delete, 1, json!([]), Some(vec!["StatefulSet u"])),
        (delete, delete, 0, set_owner(), Some(vec!["Pod web-0"])),
        (
            delete,
            delete,
            1,
            by_pod("web-0"),
            Some(vec!["StatefulSet u"]),
        ),
        // What earlier ones left goes with them.
        (delete, delete, 1, by_pod("earlier"), None),
        (delete, retain, 1, owner("earlier"), None),
        // Somebody else manages it.
        (delete, retain, 1, other(), None),
        (delete, retain, 1, both(), Some(vec!["Backup b"])),
        (retain, retain, 1, other(), None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut set = stored(policy(deleted, scaled));
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(replicas);
        }
        let about = format!("{number}: {deleted} {scaled} {replicas} {before}");
        let plan = plan(set, vec![mounting("web-0", "up")], vec![claim(0, before)]);
        let after = after.map(|owners| owners.into_iter().map(str::to_owned).collect());
        assert_eq!(owners(&plan), after, "{about}");
    }
}

#[test]
fn a_claim_that_is_managed_elsewhere_is_told() {
    let other = json!([{"apiVersion": "x/v1", "kind": "Backup", "name": "b", "uid": "b", "controller": true}]);
    let plan = plan(
        stored(policy("Delete", "Retain")),
        vec![mounting("web-0", "pending")],
        vec![claim(0, other)],
    );
    assert!(
        events(&plan)[0].starts_with("PersistentVolumeClaim data-web-0 has a conflicting"),
        "{plan:?}"
    );
}
