//! Protection of storage in use: a claim, a volume or a class of attributes that is deleted stays until nobody uses it.
//! Watches PersistentVolumeClaims, PersistentVolumes, VolumeAttributesClasses and pods; writes one finalizer of each.
//! Admission puts the finalizers on what is new; here they are put on what is older, and taken off.

use std::sync::Arc;

use corten_client::ObjectName;
use corten_client::cache::{Cache, Change};
use corten_client::object::Object;
use corten_client::runner::{Controller, Plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::finalizer;

/// The index of pods by the claims that they name; see [`claims_of`].
pub const BY_CLAIM: &str = "claim";
const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

/// The claims that a pod on a node uses, as `namespace/name`: its own, and those made for its ephemeral volumes.
pub fn claims_of(pod: &Pod) -> Vec<String> {
    let Some(spec) = pod.spec.as_ref().filter(|spec| spec.node_name.is_some()) else {
        // Nobody mounts anything yet, and an agent refuses a claim that is going.
        return Vec::new();
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let over = matches!(
        pod.status
            .as_ref()
            .and_then(|status| status.phase.as_deref()),
        Some("Succeeded" | "Failed")
    );
    let volumes = spec.volumes.iter().flatten();
    let claims =
        volumes.filter_map(
            |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(claim), _) => Some(format!("{namespace}/{}", claim.claim_name)),
                (None, Some(_)) if !over => Some(format!("{namespace}/{name}-{}", volume.name)),
                _ => None,
            },
        );
    claims.collect()
}

/// What one plan depends on: the object, and whether somebody uses it.
pub struct View<K> {
    object: Arc<K>,
    used: bool,
}

fn plan<K: Object>(view: Option<&View<K>>, name: &str) -> Plan {
    let Some(View { object, used }) = view else {
        return Plan::nothing();
    };
    let going = object.metadata().deletion_timestamp.is_some();
    match (going, finalizer::is_on(&**object, name)) {
        (true, true) if !used => Plan::of([finalizer::take_off(&**object, name)]),
        (false, false) => Plan::of([finalizer::put_on(&**object, name)]),
        _ => Plan::nothing(),
    }
}

/// Claims stay while a pod that is on a node names them.
pub struct Claims {
    /// All claims.
    pub claims: Cache<PersistentVolumeClaim>,
    /// All pods, with the index [`BY_CLAIM`].
    pub pods: Cache<Pod>,
}

impl Claims {
    /// Keys to wake for a changed claim.
    pub fn of_claim(&self, change: &Change<PersistentVolumeClaim>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed pod: the claims it uses, and those it has used.
    pub fn of_pod(&self, change: &Change<Pod>) -> Vec<ObjectName> {
        let now = claims_of(change.object());
        let before = change.old().map(|old| claims_of(old)).unwrap_or_default();
        let names = now.iter().chain(&before);
        let names = names.filter_map(|claim| claim.split_once('/'));
        names
            .map(|(namespace, name)| ObjectName::new(namespace, name))
            .collect()
    }
}

impl Controller for Claims {
    type Key = ObjectName;
    type View = Option<View<PersistentVolumeClaim>>;

    fn name(&self) -> &'static str {
        "persistentvolumeclaim-protection-controller"
    }

    fn view(&self, key: &ObjectName) -> Self::View {
        let object = self.claims.get_named(key)?;
        let claim = format!("{}/{}", key.namespace, key.name);
        let used = !self.pods.by_index(BY_CLAIM, &claim).is_empty();
        Some(View { object, used })
    }

    fn plan(&self, view: &Self::View, _now: Timestamp) -> Plan {
        plan(view.as_ref(), CLAIM)
    }
}

/// Volumes stay while a claim has them.
pub struct Volumes {
    /// All volumes.
    pub volumes: Cache<PersistentVolume>,
}

impl Volumes {
    /// Keys to wake for a changed volume.
    pub fn of_volume(&self, change: &Change<PersistentVolume>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }
}

impl Controller for Volumes {
    type Key = ObjectName;
    type View = Option<View<PersistentVolume>>;

    fn name(&self) -> &'static str {
        "persistentvolume-protection-controller"
    }

    fn view(&self, key: &ObjectName) -> Self::View {
        let object = self.volumes.get_named(key)?;
        let phase = object.status.as_ref().and_then(|s| s.phase.as_deref());
        let used = phase == Some("Bound");
        Some(View { object, used })
    }

    fn plan(&self, view: &Self::View, _now: Timestamp) -> Plan {
        plan(view.as_ref(), VOLUME)
    }
}

/// Classes of attributes stay while a claim or a volume names them.
pub struct Classes {
    /// All classes of attributes.
    pub classes: Cache<VolumeAttributesClass>,
    /// All claims.
    pub claims: Cache<PersistentVolumeClaim>,
    /// All volumes.
    pub volumes: Cache<PersistentVolume>,
}

/// The class that a claim asks for, has, and is on its way to.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let spec = claim.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|s| s.current_volume_attributes_class_name.as_deref());
    let target = status
        .and_then(|status| status.modify_volume_status.as_ref())
        .and_then(|modify| modify.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten().collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    let spec = volume.spec.as_ref()?;
    spec.volume_attributes_class_name.as_deref()
}

impl Classes {
    /// Keys to wake for a changed class.
    pub fn of_class(&self, change: &Change<VolumeAttributesClass>) -> Vec<ObjectName> {
        vec![ObjectName::of(&**change.object())]
    }

    /// Keys to wake for a changed claim.
    pub fn of_claim(&self, change: &Change<PersistentVolumeClaim>) -> Vec<ObjectName> {
        let claims = change.old().into_iter().chain([change.object()]);
        let names = claims.flat_map(|claim| classes_of_claim(claim));
        names.map(|name| ObjectName::new("", name)).collect()
    }

    /// Keys to wake for a changed volume.
    pub fn of_volume(&self, change: &Change<PersistentVolume>) -> Vec<ObjectName> {
        let volumes = change.old().into_iter().chain([change.object()]);
        let names = volumes.filter_map(|volume| class_of_volume(volume));
        names.map(|name| ObjectName::new("", name)).collect()
    }
}

impl Controller for Classes {
    type Key = ObjectName;
    type View = Option<View<VolumeAttributesClass>>;

    fn name(&self) -> &'static str {
        "volumeattributesclass-protection-controller"
    }

    fn view(&self, key: &ObjectName) -> Self::View {
        let object = self.classes.get_named(key)?;
        let mut used = false;
        if object.metadata.deletion_timestamp.is_some() {
            let name = key.name.as_str();
            self.claims
                .for_each(|claim| used |= classes_of_claim(claim).contains(&name));
            self.volumes
                .for_each(|volume| used |= class_of_volume(volume) == Some(name));
        }
        Some(View { object, used })
    }

    fn plan(&self, view: &Self::View, _now: Timestamp) -> Plan {
        plan(view.as_ref(), CLASS)
    }
}

#[cfg(test)]
mod tests {
    use corten_client::cache::CacheOptions;
    use serde_json::{Value, json};

    use super::*;

    fn claim(going: bool, held: bool) -> PersistentVolumeClaim {
        let going = going.then_some("2026-01-01T00:00:00Z");
        let finalizers: &[&str] = if held { &[CLAIM] } else { &[] };
        let meta = json!({"name": "c", "namespace": "n", "uid": "u", "deletionTimestamp": going, "finalizers": finalizers});
        serde_json::from_value(json!({"metadata": meta})).expect("claim")
    }

    fn pod(node: Option<&str>, phase: &str, volume: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"nodeName": node, "containers": [], "volumes": [volume]},
            "status": {"phase": phase},
        }))
        .expect("pod")
    }

    fn planned(claim: PersistentVolumeClaim, pods: Vec<Pod>) -> Vec<String> {
        let controller = Claims {
            claims: Cache::fixed([claim], CacheOptions::all()),
            pods: Cache::fixed(pods, CacheOptions::all().index(BY_CLAIM, claims_of)),
        };
        let view = controller.view(&ObjectName::new("n", "c"));
        let plan = controller.plan(&view, Timestamp::UNIX_EPOCH);
        plan.actions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_claim_goes_once_no_pod_on_a_node_uses_it() {
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let other = json!({"name": "v", "persistentVolumeClaim": {"claimName": "d"}});
        let own = json!({"name": "c", "ephemeral": {}});
        assert!(planned(claim(true, true), vec![pod(Some("h"), "Running", &named)]).is_empty());
        assert!(planned(claim(true, true), vec![pod(Some("h"), "Succeeded", &named)]).is_empty());
        for free in [
            vec![],
            vec![pod(None, "Pending", &named)],
            vec![pod(Some("h"), "Running", &other)],
            vec![pod(Some("h"), "Failed", &own)],
        ] {
            assert_eq!(planned(claim(true, true), free).len(), 1);
        }
        assert!(planned(claim(true, false), vec![]).is_empty());
        assert!(planned(claim(false, true), vec![]).is_empty());
        assert_eq!(planned(claim(false, false), vec![]).len(), 1);
    }

    #[test]
    fn ephemeral_claims_are_named_after_pod_and_volume() {
        let own = json!({"name": "v", "ephemeral": {}});
        assert_eq!(claims_of(&pod(Some("h"), "Running", &own)), ["n/p-v"]);
    }

    #[test]
    fn a_class_goes_once_nobody_names_it() {
        let class: VolumeAttributesClass = serde_json::from_value(json!({
            "metadata": {"name": "gold", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [CLASS]},
            "driverName": "d",
        }))
        .expect("class");
        let mut user = claim(false, true);
        user.spec =
            serde_json::from_value(json!({"volumeAttributesClassName": "gold"})).expect("spec");
        for (claims, actions) in [(vec![user], 0), (vec![], 1)] {
            let controller = Classes {
                classes: Cache::fixed([class.clone()], CacheOptions::all()),
                claims: Cache::fixed(claims, CacheOptions::all()),
                volumes: Cache::fixed(None, CacheOptions::all()),
            };
            let view = controller.view(&ObjectName::new("", "gold"));
            let plan = controller.plan(&view, Timestamp::UNIX_EPOCH);
            assert_eq!(plan.actions.len(), actions);
        }
    }
}
