//! The default roles and their bindings, as data: here those of the whole cluster, beside it those of upstream's single
//! controllers and those of namespaces.
//!
//! Names and rights are the ones that people and charts expect to find in any cluster, plus `corten:` roles for our own
//! components. Reconciling them is the parent's job. A rule line reads `verbs | group | resources | names`; the group `core`
//! is the empty one, `*` any, `url` marks a list of paths. Invariant: every line parses, which a test shows.

mod controllers;
mod namespaced;

use serde_json::{Value, json};

use crate::authz::policy::Rule;

/// One default ClusterRole.
struct Role {
    name: &'static str,
    /// The aggregate (`admin`, `edit`, `view`) that this role flows into.
    flows_into: Option<&'static str>,
    /// Whether the rules are collected from the roles that flow into this one.
    collects: bool,
    /// One rule a line.
    rules: &'static str,
}

/// An object that has to be there.
pub(super) struct Wanted {
    /// The plural name of its kind.
    pub(super) resource: &'static str,
    /// Empty for what is of the whole cluster.
    pub(super) namespace: &'static str,
    pub(super) name: String,
    pub(super) object: Value,
}

/// All default roles.
pub(super) fn roles() -> Vec<Wanted> {
    let cluster = ROLES.iter().map(role_object);
    let controllers = controllers::CONTROLLERS.iter().map(|(name, rules)| {
        let name = format!("{}{name}", controllers::PREFIX);
        object("clusterroles", "", &name, json!({"rules": values(rules)}))
    });
    let namespaced = namespaced::ROLES.iter().map(|(namespace, name, rules)| {
        object("roles", namespace, name, json!({"rules": values(rules)}))
    });
    cluster.chain(controllers).chain(namespaced).collect()
}

/// All default bindings.
pub(super) fn bindings() -> Vec<Wanted> {
    const CLUSTER: &str = "clusterrolebindings";
    let cluster = BINDINGS
        .iter()
        .map(|(role, subjects)| binding(CLUSTER, "", role, ("ClusterRole", role), subjects));
    let controllers = controllers::CONTROLLERS.iter().map(|(account, _)| {
        let name = format!("{}{account}", controllers::PREFIX);
        let subject = format!("ServiceAccount kube-system/{account}");
        binding(CLUSTER, "", &name, ("ClusterRole", &name), &[&subject])
    });
    let namespaced = namespaced::BINDINGS
        .iter()
        .map(|(namespace, name, role, subjects)| {
            binding("rolebindings", namespace, name, ("Role", role), subjects)
        });
    cluster.chain(controllers).chain(namespaced).collect()
}

const fn role(name: &'static str, rules: &'static str) -> Role {
    Role {
        name,
        flows_into: None,
        collects: false,
        rules,
    }
}

/// Label that marks a role as part of an aggregate.
pub(super) fn aggregate_label(aggregate: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{aggregate}")
}

/// The ClusterRoles for people and components.
const ROLES: &[Role] = &[
    role("cluster-admin", "* | * | *\n* | url | *"),
    Role { name: "admin", flows_into: None, collects: true, rules: "" },
    Role { name: "edit", flows_into: Some("admin"), collects: true, rules: "" },
    Role { name: "view", flows_into: Some("edit"), collects: true, rules: "" },
    Role { name: "system:aggregate-to-admin", flows_into: Some("admin"), collects: false, rules: ADMIN },
    Role { name: "system:aggregate-to-edit", flows_into: Some("edit"), collects: false, rules: EDIT },
    Role { name: "system:aggregate-to-view", flows_into: Some("view"), collects: false, rules: VIEW },
    role(
        "system:discovery",
        "get | url | /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
    ),
    role(
        "system:basic-user",
        "create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews
         create | authentication.k8s.io | selfsubjectreviews",
    ),
    role("system:public-info-viewer", "get | url | /healthz /livez /readyz /version /version/"),
    role(
        "system:monitoring",
        "get | url | /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*
         get | core | nodes/metrics",
    ),
    role(
        "system:service-account-issuer-discovery",
        "get | url | /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
    ),
    role(
        "system:auth-delegator",
        "create | authentication.k8s.io | tokenreviews
         create | authorization.k8s.io | subjectaccessreviews",
    ),
    role(
        "system:kubelet-api-admin",
        "get list watch | core | nodes
         proxy | core | nodes
         * | core | nodes/log nodes/metrics nodes/proxy nodes/stats nodes/healthz nodes/pods nodes/configz nodes/checkpoint",
    ),
    role(
        "system:node-bootstrapper",
        "create get list watch | certificates.k8s.io | certificatesigningrequests",
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "create | certificates.k8s.io | certificatesigningrequests/nodeclient",
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "create | certificates.k8s.io | certificatesigningrequests/selfnodeclient",
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        "approve | certificates.k8s.io | signers | kubernetes.io/legacy-unknown",
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        "approve | certificates.k8s.io | signers | kubernetes.io/kubelet-serving",
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        "approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client",
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        "approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client-kubelet",
    ),
    role(
        "system:heapster",
        "get list watch | core | events namespaces nodes pods
         get list watch | extensions | deployments",
    ),
    role("system:kube-aggregator", "get list watch | core | endpoints services"),
    role("system:kube-dns", "list watch | core | endpoints services"),
    role("system:node", NODE),
    role("system:node-problem-detector", "get | core | nodes\npatch | core | nodes/status\ncreate patch update | core,events.k8s.io | events"),
    role("system:node-proxier", PROXIER),
    role("system:kube-scheduler", SCHEDULER),
    role("system:volume-scheduler", "get list patch update watch | core | persistentvolumes persistentvolumeclaims\nget list watch | storage.k8s.io | storageclasses"),
    role("system:kube-controller-manager", CONTROLLER_MANAGER),
    role(
        "system:persistent-volume-provisioner",
        "create delete get list watch | core | persistentvolumes
         get list update watch | core | persistentvolumeclaims
         get list watch | storage.k8s.io | storageclasses
         watch create update patch | core,events.k8s.io | events",
    ),
    role("corten:controllers", CONTROLLERS),
    role("corten:proxy", PROXY),
];

/// ClusterRoleBindings: role (also the binding's name), then the subjects as `User x` or `Group x`, or
/// `ServiceAccount namespace/name`.
const BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &["Group system:masters"]),
    ("system:discovery", &["Group system:authenticated"]),
    ("system:basic-user", &["Group system:authenticated"]),
    (
        "system:public-info-viewer",
        &["Group system:authenticated", "Group system:unauthenticated"],
    ),
    ("system:monitoring", &["Group system:monitoring"]),
    (
        "system:service-account-issuer-discovery",
        &["Group system:serviceaccounts"],
    ),
    ("system:node-proxier", &["User system:kube-proxy"]),
    (
        "system:kube-controller-manager",
        &["User system:kube-controller-manager"],
    ),
    ("system:kube-scheduler", &["User system:kube-scheduler"]),
    ("system:volume-scheduler", &["User system:kube-scheduler"]),
    ("system:kube-dns", &["ServiceAccount kube-system/kube-dns"]),
    ("system:node", &[]),
    (
        "corten:controllers",
        &["User system:kube-controller-manager"],
    ),
    ("corten:proxy", &["User system:kube-proxy"]),
];

const ADMIN: &str = "\
create | authorization.k8s.io | localsubjectaccessreviews
create delete deletecollection get list patch update watch | rbac.authorization.k8s.io | roles rolebindings";

const EDIT: &str = "\
get list watch | core | pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy
impersonate | core | serviceaccounts
create delete deletecollection patch update | core | pods pods/attach pods/exec pods/portforward pods/proxy
create | core | pods/eviction
create delete deletecollection patch update | core | configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy
create delete deletecollection patch update | core,events.k8s.io | events
create | core | serviceaccounts/token
create delete deletecollection patch update | apps | daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale
create delete deletecollection patch update | autoscaling | horizontalpodautoscalers
create delete deletecollection patch update | batch | cronjobs jobs
create delete deletecollection patch update | extensions | daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale
create delete deletecollection patch update | policy | poddisruptionbudgets
create delete deletecollection patch update | networking.k8s.io | ingresses networkpolicies
create delete deletecollection patch update | resource.k8s.io | resourceclaims resourceclaimtemplates
create delete deletecollection get list patch update watch | coordination.k8s.io | leases";

const VIEW: &str = "\
get list watch | core | configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status
get list watch | core | bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status
get list watch | core | namespaces
get list watch | discovery.k8s.io | endpointslices
get list watch | events.k8s.io | events
get list watch | apps | controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status
get list watch | autoscaling | horizontalpodautoscalers horizontalpodautoscalers/status
get list watch | batch | cronjobs cronjobs/status jobs jobs/status
get list watch | extensions | daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale
get list watch | policy | poddisruptionbudgets poddisruptionbudgets/status
get list watch | networking.k8s.io | ingresses ingresses/status networkpolicies
get list watch | resource.k8s.io | resourceclaims resourceclaims/status resourceclaimtemplates";

/// Nodes are admitted by the node authorizer; this role exists for those who bind it on purpose.
const NODE: &str = "\
create | authentication.k8s.io | tokenreviews
create | authorization.k8s.io | subjectaccessreviews localsubjectaccessreviews
get list watch | core | services
create get list watch patch update | core | nodes
patch update | core | nodes/status
create patch update | core,events.k8s.io | events
get list watch | core | pods
create delete | core | pods
patch update | core | pods/status
create | core | pods/eviction
get list watch | core | configmaps secrets
get | core | persistentvolumeclaims persistentvolumes endpoints serviceaccounts
get patch update | core | persistentvolumeclaims/status
get | resource.k8s.io | resourceclaims
deletecollection | resource.k8s.io | resourceslices
create | core | serviceaccounts/token
create get list watch | certificates.k8s.io | certificatesigningrequests
create delete get patch update | coordination.k8s.io | leases
get | storage.k8s.io | volumeattachments
get list watch | storage.k8s.io | csidrivers
create delete get patch update | storage.k8s.io | csinodes
get list watch | node.k8s.io | runtimeclasses";

const PROXIER: &str = "\
list watch | core | services endpoints
get list watch | core | nodes
create patch update | core,events.k8s.io | events
list watch | discovery.k8s.io | endpointslices
list watch | networking.k8s.io | servicecidrs";

/// What the data plane needs beyond Services: policies select pods and namespaces, DNS names pods, ingress needs its objects.
const PROXY: &str = "\
get list watch | core | pods namespaces services endpoints
get list watch | discovery.k8s.io | endpointslices
get list watch | networking.k8s.io | networkpolicies ingresses ingressclasses
patch update | networking.k8s.io | ingresses/status
create get list patch update watch | coordination.k8s.io | leases";

const SCHEDULER: &str = "\
create patch update | core,events.k8s.io | events
create get list patch update watch | coordination.k8s.io | leases
create delete deletecollection get list patch update watch | coordination.k8s.io | leasecandidates
get list watch | core | nodes namespaces
delete get list watch | core | pods
update | core | pods/finalizers
create | core | bindings pods/binding
patch update | core | pods/status
get list watch | core | replicationcontrollers services
get list watch | apps | replicasets statefulsets
get list watch | extensions | replicasets
get list watch | resource.k8s.io | deviceclasses resourceslices
get list patch update watch | resource.k8s.io | resourceclaims resourceclaims/status
get list watch | policy | poddisruptionbudgets
get list watch | scheduling.k8s.io | priorityclasses
get list watch | core | persistentvolumeclaims persistentvolumes
get list watch | storage.k8s.io | csinodes csidrivers csistoragecapacities storageclasses volumeattachments
create | authentication.k8s.io | tokenreviews
create | authorization.k8s.io | subjectaccessreviews";

const CONTROLLER_MANAGER: &str = "\
create patch update | core,events.k8s.io | events
create get list patch update watch | coordination.k8s.io | leases
create | core | secrets serviceaccounts
delete | core | secrets
get | core | configmaps namespaces secrets serviceaccounts
update | core | secrets serviceaccounts
create | authentication.k8s.io | tokenreviews
create | authorization.k8s.io | subjectaccessreviews
list watch | * | *
create | core | serviceaccounts/token";

/// All controllers run as one user, so this is the sum of what upstream gives to its controllers one by one: the garbage
/// collector and the namespace controller reach every kind, creation is limited to what controllers create.
const CONTROLLERS: &str = "\
delete deletecollection get list patch update watch | * | *
create | core | configmaps endpoints events namespaces nodes persistentvolumeclaims persistentvolumes pods pods/binding pods/eviction replicationcontrollers secrets serviceaccounts serviceaccounts/token services
create | apps | controllerrevisions daemonsets deployments replicasets statefulsets
create | batch | cronjobs jobs
create | discovery.k8s.io | endpointslices
create | events.k8s.io | events
create | coordination.k8s.io | leases
create | policy | poddisruptionbudgets
create | certificates.k8s.io | certificatesigningrequests
create | resource.k8s.io | resourceclaims
create | storage.k8s.io | volumeattachments csistoragecapacities
approve sign | certificates.k8s.io | signers
get | url | /healthz /livez /readyz /metrics /api /api/* /apis /apis/* /openapi/*";

/// Parses rule lines.
fn parse(lines: &str) -> Vec<Rule> {
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(parse_line)
        .collect()
}

fn parse_line(line: &str) -> Rule {
    let mut columns = line.split('|').map(str::trim);
    let mut column = || columns.next().unwrap_or_default();
    let words = |text: &str| {
        text.split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (verbs, group, resources, names) =
        (words(column()), column(), words(column()), words(column()));
    if group == "url" {
        return Rule {
            verbs,
            non_resource_urls: resources,
            ..Rule::default()
        };
    }
    let group_name = |name: String| if name == "core" { String::new() } else { name };
    let api_groups = words(group).into_iter().map(group_name).collect();
    Rule {
        verbs,
        api_groups,
        resources,
        resource_names: names,
        ..Rule::default()
    }
}

fn values(lines: &str) -> Vec<Value> {
    parse(lines).iter().map(Rule::to_value).collect()
}

fn role_object(role: &Role) -> Wanted {
    let mut wanted = object("clusterroles", "", role.name, json!({}));
    let fields = &mut wanted.object;
    if let Some(aggregate) = role.flows_into {
        fields["metadata"]["labels"][aggregate_label(aggregate)] = "true".into();
    }
    if role.collects {
        let label = aggregate_label(role.name);
        fields["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    } else {
        fields["rules"] = values(role.rules).into();
    }
    wanted
}

/// `role` is the kind and the name of the role.
fn binding(
    resource: &'static str,
    namespace: &'static str,
    name: &str,
    role: (&str, &str),
    subjects: &[&str],
) -> Wanted {
    let subject = |text: &&str| {
        let (kind, name) = text.split_once(' ').unwrap_or(("User", text));
        match (kind, name.split_once('/')) {
            ("ServiceAccount", Some((namespace, name))) => {
                json!({"kind": kind, "namespace": namespace, "name": name})
            }
            _ => json!({"kind": kind, "apiGroup": GROUP, "name": name}),
        }
    };
    let fields = json!({
        "roleRef": {"apiGroup": GROUP, "kind": role.0, "name": role.1},
        "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
    });
    object(resource, namespace, name, fields)
}

const GROUP: &str = "rbac.authorization.k8s.io";

fn object(
    resource: &'static str,
    namespace: &'static str,
    name: &str,
    mut object: Value,
) -> Wanted {
    object["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    object["kind"] = match resource {
        "clusterroles" => "ClusterRole",
        "clusterrolebindings" => "ClusterRoleBinding",
        "roles" => "Role",
        _ => "RoleBinding",
    }
    .into();
    object["metadata"] = metadata(name);
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    Wanted {
        resource,
        namespace,
        name: name.to_owned(),
        object,
    }
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {super::AUTOUPDATE: "true"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::policy::rules_of;

    #[test]
    fn every_line_parses_into_a_whole_rule() {
        for role in roles() {
            let collects = !role.object["aggregationRule"].is_null();
            let rules = rules_of(&role.object);
            assert_eq!(rules.is_empty(), collects, "{}", role.name);
            for rule in rules {
                let urls = !rule.non_resource_urls.is_empty();
                let resources = !rule.api_groups.is_empty() && !rule.resources.is_empty();
                assert!(
                    !rule.verbs.is_empty() && (urls != resources),
                    "{}: {rule:?}",
                    role.name
                );
                assert!(
                    rule.resources
                        .iter()
                        .all(|resource| !resource.contains('|'))
                );
            }
        }
    }

    #[test]
    fn every_binding_has_its_role() {
        let roles = roles();
        for binding in bindings() {
            let named = &binding.object["roleRef"]["name"];
            let mut known = roles.iter();
            assert!(
                known.any(|role| role.name == *named && role.namespace == binding.namespace),
                "{}",
                binding.name
            );
        }
    }
}
