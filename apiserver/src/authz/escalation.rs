//! Nobody grants what he does not hold: checks on writes of roles and bindings.
//!
//! Called by admission for the group rbac.authorization.k8s.io, after ordinary authorization. It does not decide who
//! may write roles at all. Invariant: a user can widen his own or anybody's rights only within his own, or with the
//! explicit verbs `escalate` (on the role) and `bind` (on the role referred to).

use serde_json::Value;

use crate::authn::User;
use crate::authz::policy::{Policy, Rule, rules_of};
use crate::authz::{Attributes, Authorizer, rbac};

/// The API group of the objects in question.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// A write as admission sees it.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Who writes.
    pub user: &'a User,
    /// roles, clusterroles, rolebindings or clusterrolebindings.
    pub resource: &'a str,
    /// Empty for cluster-wide objects.
    pub namespace: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// The stored object, for updates.
    pub old: Option<&'a Value>,
    /// The object to be stored.
    pub new: &'a Value,
}

/// `Err` holds the text behind `... is forbidden: `.
pub fn check(
    policy: &Policy,
    authorizer: &dyn Authorizer,
    write: &Write<'_>,
) -> Result<(), String> {
    let wanted = match write.resource {
        "roles" | "clusterroles" => role_rules_to_prove(authorizer, write),
        "rolebindings" | "clusterrolebindings" => binding_rules_to_prove(policy, authorizer, write),
        _ => None,
    };
    let Some(wanted) = wanted else { return Ok(()) };
    let held = rbac::rules_for(policy, write.user, write.namespace);
    let lacking: Vec<Rule> = wanted
        .iter()
        .flat_map(single_permissions)
        .filter(|permission| !held.iter().any(|rule| covers(rule, permission)))
        .collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(refusal(write.user, &lacking))
    }
}

/// What a role write grants anew: `None` when nothing has to be proved.
fn role_rules_to_prove(authorizer: &dyn Authorizer, write: &Write<'_>) -> Option<Vec<Rule>> {
    let rules = rules_of(write.new);
    // Labels count: by them a role is taken up into aggregated ones.
    let unchanged = write
        .old
        .is_some_and(|old| changes_for_the_collector_only(old, write.new));
    let question = Attributes::resource(write.user, "escalate", GROUP, write.resource)
        .in_namespace(write.namespace)
        .named(write.name);
    if unchanged || authorizer.authorize(&question).is_allowed() {
        return None;
    }
    let mut wanted = rules;
    // An aggregated role can come to hold anything, so its author must hold everything.
    let aggregates = |role: &Value| !role["aggregationRule"].is_null();
    if aggregates(write.new) || write.old.is_some_and(aggregates) {
        let all = || vec!["*".to_owned()];
        wanted.push(Rule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..Rule::default()
        });
        wanted.push(Rule {
            verbs: all(),
            non_resource_urls: all(),
            ..Rule::default()
        });
    }
    Some(wanted)
}

/// Whether only that changes by which the garbage collector does its work; it holds none of the rights in question.
fn changes_for_the_collector_only(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in [
                "finalizers",
                "ownerReferences",
                "managedFields",
                "resourceVersion",
            ] {
                metadata.shift_remove(field);
            }
        }
        object
    };
    rest(old) == rest(new)
}

fn binding_rules_to_prove(
    policy: &Policy,
    authorizer: &dyn Authorizer,
    write: &Write<'_>,
) -> Option<Vec<Rule>> {
    let role = &write.new["roleRef"];
    let unchanged = write
        .old
        .is_some_and(|old| changes_for_the_collector_only(old, write.new));
    let name = role["name"].as_str().unwrap_or_default();
    let (resource, role_namespace) = match role["kind"].as_str() {
        Some("Role") => ("roles", write.namespace),
        _ => ("clusterroles", ""),
    };
    let question = Attributes::resource(write.user, "bind", GROUP, resource)
        .in_namespace(write.namespace)
        .named(name);
    if unchanged || authorizer.authorize(&question).is_allowed() {
        return None;
    }
    // A role that does not exist yet cannot be judged: only the verb `bind` allows to bind it.
    Some(policy.rules(role_namespace, name).map_or_else(
        || {
            vec![Rule {
                verbs: vec!["*".into()],
                api_groups: vec!["*".into()],
                resources: vec!["*".into()],
                ..Rule::default()
            }]
        },
        |rules| rules.to_vec(),
    ))
}

/// A rule is the product of its lists; a union of rules can cover it only permission by permission.
fn single_permissions(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut out = Vec::new();
    for verb in &rule.verbs {
        for url in &rule.non_resource_urls {
            out.push(Rule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Rule::default()
            });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let base = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(base);
                } else {
                    let names = rule.resource_names.iter();
                    out.extend(names.map(|name| Rule {
                        resource_names: one(name),
                        ..base.clone()
                    }));
                }
            }
        }
    }
    out
}

fn covers(held: &Rule, wanted: &Rule) -> bool {
    let all_in = |held: &[String], wanted: &[String]| {
        held.iter().any(|item| item == "*") || wanted.iter().all(|item| held.contains(item))
    };
    let names = held.resource_names.is_empty()
        || (!wanted.resource_names.is_empty()
            && all_in(&held.resource_names, &wanted.resource_names));
    all_in(&held.verbs, &wanted.verbs)
        && all_in(&held.api_groups, &wanted.api_groups)
        && wanted
            .resources
            .iter()
            .all(|resource| covers_resource(&held.resources, resource))
        && wanted
            .non_resource_urls
            .iter()
            .all(|url| covers_url(&held.non_resource_urls, url))
        && names
}

fn covers_resource(held: &[String], wanted: &str) -> bool {
    let any_of = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    held.iter()
        .any(|item| item == "*" || item == wanted || Some(item) == any_of.as_ref())
}

fn covers_url(held: &[String], wanted: &str) -> bool {
    held.iter()
        .any(|pattern| pattern == wanted || rbac::url_matches(pattern, wanted))
}

fn refusal(user: &User, lacking: &[Rule]) -> String {
    /// A refusal lists the first few; thousands of lines would help nobody.
    const SHOWN: usize = 20;
    let groups: Vec<String> = user
        .groups
        .iter()
        .map(|group| format!("{group:?}"))
        .collect();
    let mut text = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:",
        user.name,
        groups.join(" ")
    );
    for rule in lacking.iter().take(SHOWN) {
        text.push('\n');
        text.push_str(&describe(rule));
    }
    text
}

fn describe(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let shown: Vec<String> = fields
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| {
            format!(
                "{name}:[{}]",
                list.iter()
                    .map(|item| format!("{item:?}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        })
        .collect();
    format!("{{{}}}", shown.join(", "))
}
