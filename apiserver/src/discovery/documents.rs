//! The discovery documents as values.
//!
//! Pure functions of the registry of kinds. Invariant: resources stand in the registry's order, which is by name within a
//! version, as clients print them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_api::kinds::{Group, Kinds, ResourceDescriptor, Subresource};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Bytes of a hash that are shown.
const HASH_BYTES: usize = 8;

/// `/api`.
pub(super) fn core_versions(kinds: &Kinds) -> Value {
    let core = kinds
        .groups()
        .into_iter()
        .find(|group| group.name.is_empty());
    json!({
        "kind": "APIVersions",
        "versions": core.map(|group| group.versions).unwrap_or_default(),
        "serverAddressByClientCIDRs": [],
    })
}

/// `/apis`.
pub(super) fn group_list(kinds: &Kinds) -> Value {
    let groups = kinds
        .groups()
        .into_iter()
        .filter(|group| !group.name.is_empty());
    let groups: Vec<Value> = groups.map(|group| group_fields(&group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(super) fn group(group: &Group) -> Value {
    let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(into), Value::Object(fields)) = (document.as_object_mut(), group_fields(group)) {
        into.extend(fields);
    }
    document
}

fn group_fields(group: &Group) -> Value {
    let version = |version: &&str| json!({"groupVersion": format!("{}/{version}", group.name), "version": version});
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({
        "name": group.name,
        "versions": versions,
        "preferredVersion": versions.first(),
    })
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub(super) fn resource_list(kinds: &Kinds, group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for descriptor in kinds.in_version(group, version) {
        let mut fields = resource(descriptor);
        if let Some(hash) = storage_version_hash(kinds, descriptor) {
            fields["storageVersionHash"] = hash.into();
        }
        resources.push(fields);
        resources.extend(
            descriptor
                .subresources
                .iter()
                .map(|sub| subresource(descriptor, sub)),
        );
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut document = json!({"kind": "APIResourceList"});
    // The oldest of these documents has never said its own version.
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    document["groupVersion"] = group_version.into();
    document["resources"] = resources.into();
    document
}

/// Tells clients that migrate stored objects when the version changes in which a resource is stored: the first of the
/// registry's views of what lies under its prefix.
fn storage_version_hash(kinds: &Kinds, descriptor: &ResourceDescriptor) -> Option<String> {
    if descriptor.is_virtual() {
        return None;
    }
    let stored = kinds
        .all()
        .find(|kind| kind.storage_prefix == descriptor.storage_prefix)?;
    let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    let digest = Sha256::digest(text);
    Some(STANDARD.encode(digest.get(..HASH_BYTES)?))
}

fn resource(descriptor: &ResourceDescriptor) -> Value {
    let mut fields = Map::new();
    fields.insert("name".into(), descriptor.resource.into());
    fields.insert("singularName".into(), descriptor.singular.into());
    fields.insert("namespaced".into(), descriptor.namespaced.into());
    fields.insert("kind".into(), descriptor.kind.into());
    fields.insert("verbs".into(), descriptor.verbs.into());
    add_names(&mut fields, descriptor);
    Value::Object(fields)
}

fn add_names(fields: &mut Map<String, Value>, descriptor: &ResourceDescriptor) {
    if !descriptor.short_names.is_empty() {
        fields.insert("shortNames".into(), descriptor.short_names.into());
    }
    if !descriptor.categories.is_empty() {
        fields.insert("categories".into(), descriptor.categories.into());
    }
}

fn subresource(descriptor: &ResourceDescriptor, sub: &Subresource) -> Value {
    let mut fields = Map::new();
    fields.insert(
        "name".into(),
        format!("{}/{}", descriptor.resource, sub.name).into(),
    );
    fields.insert("singularName".into(), "".into());
    fields.insert("namespaced".into(), descriptor.namespaced.into());
    if !sub.version.is_empty() {
        fields.insert("group".into(), sub.group.into());
        fields.insert("version".into(), sub.version.into());
    }
    fields.insert("kind".into(), sub.kind.into());
    fields.insert("verbs".into(), sub.verbs.into());
    Value::Object(fields)
}

/// All resources in one document, of the core group or of the others.
pub(super) fn aggregated(kinds: &Kinds, document_version: &str, core: bool) -> Value {
    let groups = kinds
        .groups()
        .into_iter()
        .filter(|group| group.name.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|group| {
            let version = |version: &&str| {
                let resources = kinds.in_version(group.name, version).into_iter().map(aggregated_resource);
                json!({
                    "version": version,
                    "resources": resources.collect::<Vec<_>>(),
                    "freshness": "Current",
                })
            };
            let metadata = match group.name {
                "" => json!({"creationTimestamp": null}),
                name => json!({"name": name, "creationTimestamp": null}),
            };
            json!({"metadata": metadata, "versions": group.versions.iter().map(version).collect::<Vec<_>>()})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{document_version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(descriptor: &ResourceDescriptor) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut fields = Map::new();
    fields.insert("resource".into(), descriptor.resource.into());
    fields.insert(
        "responseKind".into(),
        kind(descriptor.group, descriptor.version, descriptor.kind),
    );
    fields.insert(
        "scope".into(),
        if descriptor.namespaced {
            "Namespaced"
        } else {
            "Cluster"
        }
        .into(),
    );
    fields.insert("singularResource".into(), descriptor.singular.into());
    fields.insert("verbs".into(), descriptor.verbs.into());
    add_names(&mut fields, descriptor);
    let subresources: Vec<Value> = descriptor
        .subresources
        .iter()
        .map(|sub| {
            let response_kind = match sub.version {
                "" => kind(descriptor.group, descriptor.version, sub.kind),
                version => kind(sub.group, version, sub.kind),
            };
            json!({"subresource": sub.name, "responseKind": response_kind, "verbs": sub.verbs})
        })
        .collect();
    if !subresources.is_empty() {
        fields.insert("subresources".into(), subresources.into());
    }
    Value::Object(fields)
}
