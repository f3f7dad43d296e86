//! Which flow a request belongs to: FlowSchemas, parsed and matched.
//!
//! Invariant: every request has a flow. What no schema matches goes the way of the catch-all one.

use std::sync::Arc;

use corten_api::kinds::flowcontrol::mandatory;
use serde_json::{Value, json};

use super::dealer::flow_hash;
use crate::authn::User;
use crate::request::RequestInfo;

const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Which object somebody means: the name for people, the uid for answers to clients, who need not know the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// Name of the object.
    pub name: Arc<str>,
    /// Its uid; empty when the server made it up.
    pub uid: Arc<str>,
}

impl Id {
    pub(super) fn of(object: &Value) -> Self {
        let meta = &object["metadata"];
        Self {
            name: text(&meta["name"]).into(),
            uid: text(&meta["uid"]).into(),
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The schema that matched.
    pub schema: Id,
    /// Name of the level it leads to.
    pub level: Arc<str>,
    /// Tells the flows of a schema apart.
    pub hash: u64,
}

/// All schemas, in the order in which they are tried.
#[derive(Debug)]
pub struct Classifier {
    schemas: Vec<Schema>,
    dangling: Vec<Arc<str>>,
}

impl Classifier {
    /// Parses the schemas; those whose level does not exist are set aside, and absent mandatory ones made up.
    pub(super) fn new(schemas: &[Value], level_exists: impl Fn(&str) -> bool) -> Self {
        let parsed = schemas.iter().map(Schema::parse);
        let (mut schemas, dangling): (Vec<Schema>, Vec<Schema>) =
            parsed.partition(|schema| level_exists(&schema.level));
        schemas.sort_by(|a, b| (a.precedence, &a.id.name).cmp(&(b.precedence, &b.id.name)));
        let [exempt, catch_all] = mandatory::schemas();
        let has = |name: &str| schemas.iter().any(|schema| &*schema.id.name == name);
        let (has_exempt, has_catch_all) = (has(mandatory::EXEMPT), has(mandatory::CATCH_ALL));
        if !has_exempt {
            schemas.insert(0, Schema::parse(exempt));
        }
        if !has_catch_all {
            schemas.push(Schema::parse(catch_all));
        }
        Self {
            schemas,
            dangling: dangling.into_iter().map(|schema| schema.id.name).collect(),
        }
    }

    /// The flow of a request.
    pub fn classify(&self, user: &User, info: &RequestInfo) -> Flow {
        let matching = self
            .schemas
            .iter()
            .find(|schema| schema.matches(user, info));
        let last_resort = || {
            let is_it = |schema: &&Schema| &*schema.id.name == mandatory::CATCH_ALL;
            self.schemas.iter().find(is_it)
        };
        match matching.or_else(last_resort) {
            Some(schema) => schema.flow(user, info),
            None => Schema::parse(&mandatory::schemas()[1]).flow(user, info),
        }
    }

    /// The schemas that requests are matched with, and the names of their levels.
    pub fn schemas(&self) -> impl Iterator<Item = (&Id, &Arc<str>)> {
        self.schemas
            .iter()
            .map(|schema| (&schema.id, &schema.level))
    }

    /// The schemas whose level does not exist.
    pub fn dangling(&self) -> &[Arc<str>] {
        &self.dangling
    }
}

/// The condition that a FlowSchema carries in its status, but for the time.
pub fn dangling_condition(level: &str, exists: bool) -> Value {
    let about =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, rest) = if exists {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    json!({"type": "Dangling", "status": status, "reason": reason, "message": format!("{about} {rest}")})
}

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Nothing: they are one.
    None,
    ByUser,
    ByNamespace,
}

#[derive(Debug)]
struct Schema {
    id: Id,
    precedence: i64,
    level: Arc<str>,
    method: Method,
    rules: Vec<Rule>,
}

/// Whom it is for, and for which of their requests.
#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<Resources>,
    paths: Vec<Paths>,
}

#[derive(Debug)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

#[derive(Debug)]
struct Resources {
    verbs: Words,
    groups: Words,
    resources: Words,
    namespaces: Words,
    cluster: bool,
}

#[derive(Debug)]
struct Paths {
    verbs: Words,
    paths: Vec<String>,
}

/// Any word, or one of a list.
#[derive(Debug)]
enum Words {
    Any,
    Of(Vec<String>),
}

impl Schema {
    fn parse(object: &Value) -> Self {
        let spec = &object["spec"];
        Self {
            id: Id::of(object),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or_default(),
            level: text(&spec["priorityLevelConfiguration"]["name"]).into(),
            method: match text(&spec["distinguisherMethod"]["type"]) {
                "ByUser" => Method::ByUser,
                "ByNamespace" => Method::ByNamespace,
                _ => Method::None,
            },
            rules: list(&spec["rules"]).iter().map(Rule::parse).collect(),
        }
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, info))
    }

    fn flow(&self, user: &User, info: &RequestInfo) -> Flow {
        let distinguisher = match self.method {
            Method::None => "",
            Method::ByUser => &user.name,
            Method::ByNamespace => &info.namespace,
        };
        Flow {
            schema: self.id.clone(),
            level: Arc::clone(&self.level),
            hash: flow_hash(&self.id.name, distinguisher),
        }
    }
}

impl Rule {
    fn parse(rule: &Value) -> Self {
        let subjects = list(&rule["subjects"]).iter();
        Self {
            subjects: subjects.filter_map(Subject::parse).collect(),
            resources: list(&rule["resourceRules"])
                .iter()
                .map(Resources::parse)
                .collect(),
            paths: list(&rule["nonResourceRules"])
                .iter()
                .map(Paths::parse)
                .collect(),
        }
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        if !self.subjects.iter().any(|subject| subject.matches(user)) {
            return false;
        }
        if info.is_resource_request {
            self.resources.iter().any(|rule| rule.matches(info))
        } else {
            self.paths.iter().any(|rule| rule.matches(info))
        }
    }
}

impl Subject {
    fn parse(subject: &Value) -> Option<Self> {
        let name = |field: &str| subject[field]["name"].as_str().map(str::to_owned);
        match text(&subject["kind"]) {
            "User" => name("user").map(Self::User),
            "Group" => name("group").map(Self::Group),
            "ServiceAccount" => Some(Self::ServiceAccount {
                namespace: text(&subject["serviceAccount"]["namespace"]).to_owned(),
                name: name("serviceAccount")?,
            }),
            _ => None,
        }
    }

    fn matches(&self, user: &User) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.in_group(name),
            Self::ServiceAccount { namespace, name } => {
                let account = user.name.strip_prefix(SERVICE_ACCOUNT_PREFIX);
                let parts = account.and_then(|account| account.split_once(':'));
                parts.is_some_and(|(theirs, account)| {
                    theirs == namespace && (name == "*" || name == account)
                })
            }
        }
    }
}

impl Resources {
    fn parse(rule: &Value) -> Self {
        Self {
            verbs: Words::parse(&rule["verbs"]),
            groups: Words::parse(&rule["apiGroups"]),
            resources: Words::parse(&rule["resources"]),
            namespaces: Words::parse(&rule["namespaces"]),
            cluster: rule["clusterScope"].as_bool().unwrap_or_default(),
        }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        let in_scope = match info.namespace.as_str() {
            "" => self.cluster,
            namespace => self.namespaces.has(namespace),
        };
        in_scope
            && self.verbs.has(&info.verb)
            && self.groups.has(&info.api_group)
            && self.resources.has_resource(info)
    }
}

impl Paths {
    fn parse(rule: &Value) -> Self {
        Self {
            verbs: Words::parse(&rule["verbs"]),
            paths: texts(&rule["nonResourceURLs"]),
        }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        self.verbs.has(&info.verb) && self.paths.iter().any(|path| covers(path, &info.path))
    }
}

/// Whether a path is the one of the rule, or below it: `/a`, `/a/` and `/a/*` all cover `/a/b`.
fn covers(rule: &str, path: &str) -> bool {
    if rule == "*" || rule == path {
        return true;
    }
    let folder = rule.strip_suffix('*').unwrap_or(rule);
    let folder = folder.strip_suffix('/').unwrap_or(folder);
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/'))
}

impl Words {
    fn parse(value: &Value) -> Self {
        let words = texts(value);
        match words.as_slice() {
            [only] if only == "*" => Self::Any,
            _ => Self::Of(words),
        }
    }

    fn has(&self, word: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of(words) => words.iter().any(|known| known == word),
        }
    }

    /// The same for `pods` and `pods/log`, without putting the two parts together.
    fn has_resource(&self, info: &RequestInfo) -> bool {
        match self {
            Self::Any => true,
            Self::Of(words) => words.iter().any(|known| {
                let rest = known.strip_prefix(info.resource.as_str());
                match (rest, info.subresource.as_str()) {
                    (Some(rest), "") => rest.is_empty(),
                    (Some(rest), subresource) => rest.strip_prefix('/') == Some(subresource),
                    (None, _) => false,
                }
            }),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = list(value).iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
