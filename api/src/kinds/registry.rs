//! The list of kinds and the lookups over it. Discovery, routing and decoding all start here.
//!
//! Invariant: groups stand in the order in which upstream lists them, resources by name within a version.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{
    ResourceDescriptor, apps, authentication, authorization, autoscaling, batch, certificates,
    coordination, core, discovery, events, flowcontrol, networking, node, policy, rbac, resource,
    scheduling, storage,
};

/// All built-in resources, grouped in discovery's order.
static BUILT_IN: &[&ResourceDescriptor] = &[
    // Core.
    &core::binding::DESCRIPTOR,
    &core::component_status::DESCRIPTOR,
    &core::config_map::DESCRIPTOR,
    &core::endpoints::DESCRIPTOR,
    &core::event::DESCRIPTOR,
    &core::limit_range::DESCRIPTOR,
    &core::namespace::DESCRIPTOR,
    &core::node::DESCRIPTOR,
    &core::persistent_volume_claim::DESCRIPTOR,
    &core::persistent_volume::DESCRIPTOR,
    &core::pod::DESCRIPTOR,
    &core::pod_template::DESCRIPTOR,
    &core::replication_controller::DESCRIPTOR,
    &core::resource_quota::DESCRIPTOR,
    &core::secret::DESCRIPTOR,
    &core::service_account::DESCRIPTOR,
    &core::service::DESCRIPTOR,
    // Named groups, most important first.
    &apps::controller_revision::DESCRIPTOR,
    &apps::daemon_set::DESCRIPTOR,
    &apps::deployment::DESCRIPTOR,
    &apps::replica_set::DESCRIPTOR,
    &apps::stateful_set::DESCRIPTOR,
    &events::event::DESCRIPTOR,
    &authentication::self_subject_review::DESCRIPTOR,
    &authentication::token_review::DESCRIPTOR,
    &authorization::local_subject_access_review::DESCRIPTOR,
    &authorization::self_subject_access_review::DESCRIPTOR,
    &authorization::self_subject_rules_review::DESCRIPTOR,
    &authorization::subject_access_review::DESCRIPTOR,
    &autoscaling::horizontal_pod_autoscaler::DESCRIPTOR,
    &autoscaling::horizontal_pod_autoscaler::v1::DESCRIPTOR,
    &batch::cron_job::DESCRIPTOR,
    &batch::job::DESCRIPTOR,
    &certificates::certificate_signing_request::DESCRIPTOR,
    &networking::ingress_class::DESCRIPTOR,
    &networking::ingress::DESCRIPTOR,
    &networking::ip_address::DESCRIPTOR,
    &networking::network_policy::DESCRIPTOR,
    &networking::service_cidr::DESCRIPTOR,
    &policy::pod_disruption_budget::DESCRIPTOR,
    &rbac::cluster_role_binding::DESCRIPTOR,
    &rbac::cluster_role::DESCRIPTOR,
    &rbac::role_binding::DESCRIPTOR,
    &rbac::role::DESCRIPTOR,
    &storage::csi_driver::DESCRIPTOR,
    &storage::csi_node::DESCRIPTOR,
    &storage::csi_storage_capacity::DESCRIPTOR,
    &storage::storage_class::DESCRIPTOR,
    &storage::volume_attachment::DESCRIPTOR,
    &storage::volume_attributes_class::DESCRIPTOR,
    &scheduling::priority_class::DESCRIPTOR,
    &coordination::lease::DESCRIPTOR,
    &node::runtime_class::DESCRIPTOR,
    &discovery::endpoint_slice::DESCRIPTOR,
    &resource::device_class::DESCRIPTOR,
    &resource::resource_claim::DESCRIPTOR,
    &resource::resource_claim_template::DESCRIPTOR,
    &resource::resource_slice::DESCRIPTOR,
    &flowcontrol::flow_schema::DESCRIPTOR,
    &flowcontrol::priority_level_configuration::DESCRIPTOR,
];

/// The built-in kinds.
pub fn registry() -> &'static Kinds {
    static KINDS: LazyLock<Kinds> = LazyLock::new(|| Kinds::new(BUILT_IN));
    &KINDS
}

/// One API group with its versions, the preferred one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name; empty for the core group.
    pub name: &'static str,
    /// Versions, preferred first.
    pub versions: Vec<&'static str>,
}

/// A set of kinds with its lookups.
#[derive(Debug)]
pub struct Kinds {
    all: &'static [&'static ResourceDescriptor],
    by_resource: HashMap<(&'static str, &'static str, &'static str), &'static ResourceDescriptor>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), &'static ResourceDescriptor>,
}

impl Kinds {
    fn new(all: &'static [&'static ResourceDescriptor]) -> Self {
        let by_resource = all
            .iter()
            .map(|d| ((d.group, d.version, d.resource), *d))
            .collect();
        let by_kind = all
            .iter()
            .map(|d| ((d.group, d.version, d.kind), *d))
            .collect();
        Self {
            all,
            by_resource,
            by_kind,
        }
    }

    /// The resource behind a path such as `/apis/apps/v1/deployments`.
    pub fn resource(
        &self,
        group: &str,
        version: &str,
        resource: &str,
    ) -> Option<&'static ResourceDescriptor> {
        self.by_resource.get(&(group, version, resource)).copied()
    }

    /// The resource that stores objects of a kind.
    pub fn kind(
        &self,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Option<&'static ResourceDescriptor> {
        self.by_kind.get(&(group, version, kind)).copied()
    }

    /// The resource for an object's `apiVersion` and `kind`.
    pub fn type_meta(&self, api_version: &str, kind: &str) -> Option<&'static ResourceDescriptor> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.kind(group, version, kind)
    }

    /// The first version of a resource in a group, for lookups that name no version.
    pub fn preferred(&self, group: &str, resource: &str) -> Option<&'static ResourceDescriptor> {
        self.all
            .iter()
            .copied()
            .find(|d| d.group == group && d.resource == resource)
    }

    /// All resources in discovery's order.
    pub fn all(&self) -> impl Iterator<Item = &'static ResourceDescriptor> + use<> {
        self.all.iter().copied()
    }

    /// The stored resources, each once: of several views of the same objects, the one whose form is stored.
    pub fn stored(&self) -> impl Iterator<Item = &'static ResourceDescriptor> + use<> {
        let all = self.all;
        let first = move |(i, descriptor): &(usize, &ResourceDescriptor)| {
            let prefix = descriptor.storage_prefix;
            !prefix.is_empty() && all[..*i].iter().all(|d| d.storage_prefix != prefix)
        };
        let stored = all.iter().copied().enumerate().filter(first);
        stored.map(|(_, descriptor)| descriptor)
    }

    /// The resources of one group and version, by name.
    pub fn in_version(&self, group: &str, version: &str) -> Vec<&'static ResourceDescriptor> {
        self.all()
            .filter(|d| d.group == group && d.version == version)
            .collect()
    }

    /// Groups in discovery's order; the core group comes first.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for descriptor in self.all() {
            match groups.iter_mut().find(|g| g.name == descriptor.group) {
                None => groups.push(Group {
                    name: descriptor.group,
                    versions: vec![descriptor.version],
                }),
                Some(group) if !group.versions.contains(&descriptor.version) => {
                    group.versions.push(descriptor.version);
                }
                Some(_) => {}
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_agree_with_the_list() {
        for descriptor in registry().all() {
            let found =
                registry().resource(descriptor.group, descriptor.version, descriptor.resource);
            assert_eq!(found.map(|d| d.kind), Some(descriptor.kind));
            let found = registry().type_meta(&descriptor.api_version(), descriptor.kind);
            assert_eq!(found.map(|d| d.resource), Some(descriptor.resource));
        }
    }

    #[test]
    fn groups_stand_in_discovery_order() {
        let names: Vec<_> = registry().groups().into_iter().map(|g| g.name).collect();
        let expected = [
            "",
            "apps",
            "events.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "autoscaling",
            "batch",
            "certificates.k8s.io",
            "networking.k8s.io",
            "policy",
            "rbac.authorization.k8s.io",
            "storage.k8s.io",
            "scheduling.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
            "discovery.k8s.io",
            "resource.k8s.io",
            "flowcontrol.apiserver.k8s.io",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn resources_and_subresources_stand_by_name() {
        for group in registry().groups() {
            for version in group.versions {
                let resources = registry().in_version(group.name, version);
                assert!(
                    resources.is_sorted_by_key(|d| d.resource),
                    "{}/{version}",
                    group.name
                );
                assert!(
                    resources
                        .iter()
                        .all(|d| d.subresources.is_sorted_by_key(|s| s.name))
                );
            }
        }
    }

    #[test]
    fn storage_prefixes_are_shared_only_by_views_of_one_kind() {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        let mut shared: Vec<(&str, &str)> = Vec::new();
        for descriptor in registry().all().filter(|d| !d.is_virtual()) {
            if let Some(other) = seen.insert(descriptor.storage_prefix, descriptor.kind) {
                assert_eq!(other, descriptor.kind);
                shared.push((descriptor.storage_prefix, other));
            }
        }
        let expected = [
            ("events", "Event"),
            ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        ];
        assert_eq!(shared, expected);
        assert_eq!(seen.get("minions"), Some(&"Node"));
        assert_eq!(seen.get("services/specs"), Some(&"Service"));
        assert_eq!(seen.get("services/endpoints"), Some(&"Endpoints"));
        assert_eq!(seen.get("ingress"), Some(&"Ingress"));
    }

    #[test]
    fn what_is_stored_is_listed_once() {
        let of_kind = |kind: &str| -> Vec<String> {
            let stored = registry().stored().filter(|d| d.kind == kind);
            stored.map(ResourceDescriptor::api_version).collect()
        };
        assert_eq!(of_kind("Event"), ["v1"]);
        assert_eq!(of_kind("HorizontalPodAutoscaler"), ["autoscaling/v2"]);
        assert_eq!(of_kind("Pod"), ["v1"]);
        assert!(registry().stored().all(|d| !d.is_virtual()));
    }

    #[test]
    fn the_first_view_of_a_prefix_is_what_is_stored() {
        let mut seen: HashMap<&str, &ResourceDescriptor> = HashMap::new();
        for descriptor in registry().all().filter(|d| !d.is_virtual()) {
            let first = seen.entry(descriptor.storage_prefix).or_insert(descriptor);
            let view = serde_json::json!({
                "apiVersion": descriptor.api_version(), "kind": descriptor.kind, "metadata": {"name": "x"}});
            let mut stored = view.clone();
            descriptor.strategy.encode_for_storage(&mut stored);
            assert_eq!(stored["apiVersion"], first.api_version());
            if first.version == descriptor.version && first.group == descriptor.group {
                assert_eq!(stored, view, "{descriptor:?}");
            }
            descriptor.strategy.decode_from_storage(&mut stored);
            assert_eq!(stored["apiVersion"], view["apiVersion"]);
        }
    }

    #[test]
    fn every_stored_kind_prints_as_many_cells_as_columns() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for descriptor in registry().all().filter(|d| !d.is_virtual()) {
            let object = serde_json::json!({"metadata": {"name": "x"}});
            let cells = super::super::table::row(descriptor, &object, now);
            assert_eq!(cells.len(), descriptor.columns.len(), "{descriptor:?}");
        }
    }
}
