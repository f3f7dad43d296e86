//! The RBAC objects, indexed by the subjects that they bind.
//!
//! It holds what Role, ClusterRole, RoleBinding and ClusterRoleBinding say and nothing else; matching a request is
//! `rbac`'s part. A [`Policy`] is a persistent value: cloning it is cheap, so readers keep a consistent snapshot while
//! one writer prepares the next. Invariant: the subject index names exactly the bindings that are stored.

use std::sync::Arc;

use imbl::{HashMap, HashSet};
use serde_json::Value;

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `*` or verbs.
    pub verbs: Vec<String>,
    /// `*` or API groups.
    pub api_groups: Vec<String>,
    /// `*`, `pods`, `pods/log` or `*/scale`.
    pub resources: Vec<String>,
    /// Empty: every name.
    pub resource_names: Vec<String>,
    /// `*`, `/healthz` or `/api/*`.
    pub non_resource_urls: Vec<String>,
}

/// Whom a binding names, service accounts already turned into their user names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user name.
    User(String),
    /// A group name.
    Group(String),
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Empty for a ClusterRoleBinding.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whom it binds, with the words that an explanation uses for them.
    pub subjects: Vec<(Subject, String)>,
    /// True when it refers to a ClusterRole.
    pub to_cluster_role: bool,
    /// Name of the role.
    pub role: String,
}

/// Namespace (empty for cluster-wide) and name.
type Key = (String, String);

/// Everything RBAC knows.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: HashMap<Key, Arc<Binding>>,
    by_subject: HashMap<Subject, HashSet<Key>>,
}

impl Policy {
    /// Takes over an object of the group rbac.authorization.k8s.io; other objects are ignored.
    pub fn set(&mut self, resource: &str, object: &Value) {
        let key = key_of(object);
        match resource {
            "roles" | "clusterroles" => {
                self.roles.insert(key, rules_of(object).into());
            }
            "rolebindings" | "clusterrolebindings" => {
                self.unbind(&key);
                let binding = Arc::new(Binding::of(object));
                for (subject, _) in &binding.subjects {
                    self.by_subject
                        .entry(subject.clone())
                        .or_default()
                        .insert(key.clone());
                }
                self.bindings.insert(key, binding);
            }
            _ => {}
        }
    }

    /// Forgets an object. Cluster-wide and namespaced ones never collide: only the latter have a namespace.
    pub fn remove(&mut self, resource: &str, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match resource {
            "roles" | "clusterroles" => {
                self.roles.remove(&key);
            }
            "rolebindings" | "clusterrolebindings" => self.unbind(&key),
            _ => {}
        }
    }

    /// The rules of a ClusterRole (empty namespace) or Role.
    pub fn rules(&self, namespace: &str, name: &str) -> Option<&Arc<[Rule]>> {
        self.roles.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The bindings that name the subject, those of other namespaces included.
    pub fn bindings_of(&self, subject: &Subject) -> impl Iterator<Item = &Arc<Binding>> {
        let keys = self.by_subject.get(subject);
        keys.into_iter()
            .flatten()
            .filter_map(|key| self.bindings.get(key))
    }

    fn unbind(&mut self, key: &Key) {
        let Some(old) = self.bindings.remove(key) else {
            return;
        };
        for (subject, _) in &old.subjects {
            let emptied = self.by_subject.get_mut(subject).is_some_and(|keys| {
                keys.remove(key);
                keys.is_empty()
            });
            if emptied {
                self.by_subject.remove(subject);
            }
        }
    }
}

impl Binding {
    fn of(object: &Value) -> Self {
        let (namespace, name) = key_of(object);
        let subjects = object["subjects"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let subjects = subjects
            .iter()
            .filter_map(|value| subject_of(value, &namespace))
            .collect();
        let role = &object["roleRef"];
        Self {
            namespace,
            name,
            subjects,
            to_cluster_role: role["kind"] == "ClusterRole",
            role: text(&role["name"]),
        }
    }

    /// The rules that the binding grants, `None` when its role does not exist.
    pub fn rules<'a>(&self, policy: &'a Policy) -> Option<&'a Arc<[Rule]>> {
        policy.rules(
            if self.to_cluster_role {
                ""
            } else {
                &self.namespace
            },
            &self.role,
        )
    }
}

fn subject_of(value: &Value, namespace: &str) -> Option<(Subject, String)> {
    let name = text(&value["name"]);
    match value["kind"].as_str()? {
        "User" => Some((Subject::User(name.clone()), format!("User {name:?}"))),
        "Group" => Some((Subject::Group(name.clone()), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let own = value["namespace"]
                .as_str()
                .filter(|own| !own.is_empty())
                .unwrap_or(namespace);
            let user = format!("system:serviceaccount:{own}:{name}");
            Some((
                Subject::User(user),
                format!("ServiceAccount \"{name}/{own}\""),
            ))
        }
        _ => None,
    }
}

/// The rules of a Role or ClusterRole object.
pub fn rules_of(object: &Value) -> Vec<Rule> {
    object["rules"]
        .as_array()
        .map(|rules| rules.iter().map(Rule::of).collect())
        .unwrap_or_default()
}

impl Rule {
    /// Reads one element of `rules`.
    pub fn of(value: &Value) -> Self {
        Self {
            verbs: texts(&value["verbs"]),
            api_groups: texts(&value["apiGroups"]),
            resources: texts(&value["resources"]),
            resource_names: texts(&value["resourceNames"]),
            non_resource_urls: texts(&value["nonResourceURLs"]),
        }
    }

    /// The element of `rules`, without the empty lists.
    pub fn to_value(&self) -> Value {
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ];
        let present = fields.into_iter().filter(|(_, list)| !list.is_empty());
        Value::Object(
            present
                .map(|(name, list)| (name.to_owned(), list.clone().into()))
                .collect(),
        )
    }
}

fn key_of(object: &Value) -> Key {
    (
        text(&object["metadata"]["namespace"]),
        text(&object["metadata"]["name"]),
    )
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .map(|list| list.iter().map(text).collect())
        .unwrap_or_default()
}
