//! Role-based access control: does a rule bound to this user match this request?
//!
//! Pure matching over a `Policy` snapshot. It knows nothing of super users or nodes (other authorizers do) and keeps
//! no state of its own. Invariant: rules only ever add permissions; there is no rule that takes one away.

use std::sync::Arc;

use crate::authn::User;
use crate::authz::policy::{Binding, Policy, Rule, Subject};
use crate::authz::{Attributes, Decision};

/// Decides by the rules of all bindings that name the user or one of the groups.
pub fn authorize(policy: &Policy, attributes: &Attributes<'_>) -> Decision {
    let mut missing = Vec::new();
    for (binding, subject) in bindings_for(policy, attributes.user, attributes.namespace) {
        match binding.rules(policy) {
            Some(rules) if rules.iter().any(|rule| allows(rule, attributes)) => {
                return Decision::Allow(explain(binding, subject));
            }
            Some(_) => {}
            None => missing.push(missing_role(binding)),
        }
    }
    missing.sort();
    missing.dedup();
    match missing.as_slice() {
        [] => Decision::NoOpinion(String::new()),
        [one] => Decision::NoOpinion(format!("RBAC: {one}")),
        several => Decision::NoOpinion(format!("RBAC: [{}]", several.join(", "))),
    }
}

/// The rules that a user has in a namespace (with the cluster-wide ones), or only the cluster-wide ones.
pub fn rules_for(policy: &Policy, user: &User, namespace: &str) -> Vec<Rule> {
    let bindings = bindings_for(policy, user, namespace);
    bindings
        .filter_map(|(binding, _)| binding.rules(policy))
        .flat_map(|rules| rules.iter().cloned())
        .collect()
}

/// ClusterRoleBindings first, as they are the likelier match for components.
fn bindings_for<'a>(
    policy: &'a Policy,
    user: &'a User,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Arc<Binding>, &'a str)> {
    let groups = user
        .groups
        .iter()
        .map(|group| Subject::Group(group.clone()));
    let subjects: Vec<Subject> = std::iter::once(Subject::User(user.name.clone()))
        .chain(groups)
        .collect();
    let mut found: Vec<(&Arc<Binding>, &str)> = Vec::new();
    for subject in &subjects {
        for binding in policy.bindings_of(subject) {
            if binding.namespace.is_empty() || binding.namespace == namespace {
                let words = binding.subjects.iter().find(|(bound, _)| bound == subject);
                found.push((binding, words.map_or("", |(_, words)| words)));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    found.into_iter()
}

fn explain(binding: &Binding, subject: &str) -> String {
    let role_kind = if binding.to_cluster_role {
        "ClusterRole"
    } else {
        "Role"
    };
    let role = &binding.role;
    if binding.namespace.is_empty() {
        format!(
            "RBAC: allowed by ClusterRoleBinding {:?} of {role_kind} {role:?} to {subject}",
            binding.name
        )
    } else {
        format!(
            "RBAC: allowed by RoleBinding \"{}/{}\" of {role_kind} {role:?} to {subject}",
            binding.name, binding.namespace
        )
    }
}

fn missing_role(binding: &Binding) -> String {
    let kind = if binding.to_cluster_role {
        "clusterrole"
    } else {
        "role"
    };
    format!(
        "{kind}.rbac.authorization.k8s.io {:?} not found",
        binding.role
    )
}

/// Whether one rule admits the request.
pub fn allows(rule: &Rule, attributes: &Attributes<'_>) -> bool {
    if !has_or_any(&rule.verbs, attributes.verb) {
        return false;
    }
    if !attributes.is_resource_request {
        return rule
            .non_resource_urls
            .iter()
            .any(|pattern| url_matches(pattern, attributes.path));
    }
    has_or_any(&rule.api_groups, attributes.group)
        && rule
            .resources
            .iter()
            .any(|pattern| resource_matches(pattern, attributes.resource, attributes.subresource))
        && (rule.resource_names.is_empty()
            || rule
                .resource_names
                .iter()
                .any(|name| name == attributes.name))
}

fn has_or_any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((_, "")) => false,
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((of, sub)) => of == resource && sub == subresource,
    }
}

/// A pattern ends with `*` or is exact.
pub fn url_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(_) => path.starts_with(pattern.trim_end_matches('*')),
        None => pattern == path,
    }
}
