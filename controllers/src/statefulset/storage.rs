//! The claims of a pod's volumes: their names, how they are made out of templates, how a pod mounts them. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::name_of;

fn templates(set: &StatefulSet) -> impl Iterator<Item = &PersistentVolumeClaim> {
    let spec = set.spec.as_ref();
    spec.into_iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten())
}

fn template_name(template: &PersistentVolumeClaim) -> &str {
    template.metadata.name.as_deref().unwrap_or_default()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template_name(template), name_of(set))
}

/// The names of an ordinal's claims.
pub(super) fn names(set: &StatefulSet, ordinal: i32) -> Vec<String> {
    let all = templates(set).map(|template| claim_name(set, template, ordinal));
    all.collect()
}

/// Whether a claim of this name is one of the set's, for whichever ordinal.
pub(super) fn uses(set: &StatefulSet, claim: &str) -> bool {
    templates(set).any(|template| {
        let rest = claim.strip_prefix(template_name(template));
        let rest = rest.and_then(|rest| rest.strip_prefix('-')?.strip_prefix(name_of(set)));
        let ordinal = rest.and_then(|rest| rest.strip_prefix('-'));
        ordinal.is_some_and(|ordinal| ordinal.parse::<i32>().is_ok())
    })
}

/// The claims of an ordinal, as they are to be made. Owners come later: `retention` knows them.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selector = set.spec.as_ref().map(|spec| &spec.selector);
    let own = selector.and_then(|selector| selector.match_labels.clone());
    let make = |template: &PersistentVolumeClaim| {
        let mut labels: BTreeMap<_, _> = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(own.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(set, template, ordinal)),
                namespace: set.metadata.namespace.clone(),
                labels: (!labels.is_empty()).then_some(labels),
                ..template.metadata.clone()
            },
            spec: template.spec.clone(),
            status: None,
        }
    };
    templates(set).map(make).collect()
}

fn mounted(volume: &Volume) -> Option<&str> {
    let source = volume.persistent_volume_claim.as_ref()?;
    Some(source.claim_name.as_str())
}

/// Whether a pod has a volume for each of its claims.
pub(super) fn is_mounted(set: &StatefulSet, pod: &Pod, ordinal: i32) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    templates(set).all(|template| {
        let name = template_name(template);
        let volume = volumes.and_then(|volumes| volumes.iter().find(|v| v.name == name));
        volume.and_then(mounted) == Some(claim_name(set, template, ordinal).as_str())
    })
}

/// Gives a pod its claims as volumes. A volume of the template that has a claim's name gives way.
pub(super) fn mount(set: &StatefulSet, spec: &mut PodSpec, ordinal: i32) {
    let volume = |template: &PersistentVolumeClaim| Volume {
        name: template_name(template).to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    };
    let mut volumes: Vec<Volume> = templates(set).map(volume).collect();
    let taken: Vec<String> = volumes.iter().map(|volume| volume.name.clone()).collect();
    let others = spec.volumes.take().unwrap_or_default();
    volumes.extend(others.into_iter().filter(|v| !taken.contains(&v.name)));
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
}
