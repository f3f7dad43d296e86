//! Tests of matching: subjects, resources, paths, order, and what is mandatory.

use super::*;

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.to_owned(),
        groups: groups.iter().copied().map(str::to_owned).collect(),
        ..User::default()
    }
}

fn resource(verb: &str, group: &str, resource: &str, namespace: &str) -> RequestInfo {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    RequestInfo {
        is_resource_request: true,
        verb: verb.to_owned(),
        api_group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        ..RequestInfo::default()
    }
}

fn path(path: &str) -> RequestInfo {
    RequestInfo {
        verb: "get".to_owned(),
        path: path.to_owned(),
        ..RequestInfo::default()
    }
}

fn schema(name: &str, precedence: i64, rule: &Value) -> Value {
    json!({
        "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {
            "priorityLevelConfiguration": {"name": "level"},
            "matchingPrecedence": precedence,
            "rules": [rule],
        },
    })
}

fn matches(rule: &Value, user: &User, info: &RequestInfo) -> bool {
    Schema::parse(&schema("a", 1, rule)).matches(user, info)
}

const ALL: &str = "system:authenticated";

#[test]
fn subjects() {
    let any = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let rule = |subject: Value| json!({"subjects": [subject], "nonResourceRules": any});
    let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}});
    let cases = [
        (json!({"kind": "User", "user": {"name": "ann"}}), true),
        (json!({"kind": "User", "user": {"name": "*"}}), true),
        (json!({"kind": "User", "user": {"name": "bob"}}), false),
        (json!({"kind": "Group", "group": {"name": ALL}}), true),
        (json!({"kind": "Group", "group": {"name": "*"}}), true),
        (json!({"kind": "Group", "group": {"name": "ann"}}), false),
        (json!({"kind": "Group"}), false),
        (account("n", "*"), false),
    ];
    let ann = user("ann", &[ALL]);
    for (subject, expected) in cases {
        let found = matches(&rule(subject.clone()), &ann, &path("/x"));
        assert_eq!(found, expected, "{subject}");
    }
    let robot = user("system:serviceaccount:n:robot", &[]);
    for (namespace, name, expected) in [
        ("n", "robot", true),
        ("n", "*", true),
        ("n", "rob", false),
        ("m", "*", false),
        ("", "*", false),
    ] {
        let found = matches(&rule(account(namespace, name)), &robot, &path("/x"));
        assert_eq!(found, expected, "{namespace}/{name}");
    }
}

#[test]
fn resources() {
    let rule = json!({
        "subjects": [{"kind": "User", "user": {"name": "*"}}],
        "resourceRules": [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["n"]},
            {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true},
        ],
    });
    let ann = user("ann", &[]);
    let cases = [
        (resource("get", "", "pods", "n"), true),
        (resource("get", "", "pods/log", "n"), true),
        (resource("get", "", "pods/exec", "n"), false),
        (resource("get", "", "podsets", "n"), false),
        (resource("get", "", "pods", "m"), false),
        (resource("list", "", "pods", ""), false),
        (resource("create", "", "pods", "n"), false),
        (resource("create", "apps", "deployments/scale", "m"), true),
        (resource("list", "apps", "deployments", ""), true),
        (path("/healthz"), false),
    ];
    for (info, expected) in cases {
        assert_eq!(matches(&rule, &ann, &info), expected, "{info:?}");
    }
}

#[test]
fn paths() {
    let cases = [
        ("*", "/anything", true),
        ("/healthz", "/healthz", true),
        ("/healthz", "/healthz/etcd", true),
        ("/healthz", "/healthzy", false),
        ("/a/*", "/a/b", true),
        ("/a/*", "/a", false),
        ("/a/", "/a/b", true),
        ("/", "/a", true),
    ];
    for (rule, path, expected) in cases {
        assert_eq!(covers(rule, path), expected, "{rule} {path}");
    }
}

#[test]
fn lower_precedence_goes_first_and_mandatory_ones_are_always_there() {
    let rule = json!({
        "subjects": [{"kind": "Group", "group": {"name": "*"}}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/a"]}],
    });
    let mut lost = schema("lost", 5, &rule);
    lost["spec"]["priorityLevelConfiguration"]["name"] = "nowhere".into();
    let schemas = [
        schema("late", 20, &rule),
        schema("b", 10, &rule),
        schema("a", 10, &rule),
        lost,
    ];
    let classifier = Classifier::new(&schemas, |level| level == "level");
    let names: Vec<&str> = classifier.schemas.iter().map(|s| &*s.id.name).collect();
    assert_eq!(names, ["exempt", "a", "b", "late", "catch-all"]);
    assert_eq!(classifier.dangling(), [Arc::from("lost")]);
    let flow_of = |user: &User, info: &RequestInfo| classifier.classify(user, info);
    let flow = flow_of(&user("ann", &[ALL]), &path("/a"));
    assert_eq!((&*flow.schema.uid, &*flow.level), ("uid-a", "level"));
    let flow = flow_of(&user("root", &["system:masters"]), &path("/a"));
    assert_eq!(&*flow.level, "exempt");
    let flow = flow_of(&user("ann", &[ALL]), &path("/b"));
    assert_eq!(&*flow.level, "catch-all");
    let flow = flow_of(&user("nobody", &[]), &path("/b"));
    assert_eq!(&*flow.level, "catch-all", "what matches nothing");
}

#[test]
fn flows_are_told_apart_as_the_schema_says() {
    let rule = json!({
        "subjects": [{"kind": "User", "user": {"name": "*"}}],
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
    });
    let hash = |method: Option<&str>, name: &str, namespace: &str| {
        let mut schema = schema("a", 1, &rule);
        if let Some(method) = method {
            schema["spec"]["distinguisherMethod"] = json!({"type": method});
        }
        let info = resource("get", "", "pods", namespace);
        Schema::parse(&schema).flow(&user(name, &[]), &info).hash
    };
    assert_eq!(hash(None, "ann", "x"), hash(None, "bob", "y"));
    assert_eq!(
        hash(Some("ByUser"), "ann", "x"),
        hash(Some("ByUser"), "ann", "y")
    );
    assert_ne!(
        hash(Some("ByUser"), "ann", "x"),
        hash(Some("ByUser"), "bob", "x")
    );
    let by_namespace = Some("ByNamespace");
    assert_eq!(
        hash(by_namespace, "ann", "x"),
        hash(by_namespace, "bob", "x")
    );
    assert_ne!(
        hash(by_namespace, "ann", "x"),
        hash(by_namespace, "ann", "y")
    );
}

#[test]
fn conditions_have_upstreams_words() {
    assert_eq!(
        dangling_condition("x", false),
        json!({
            "type": "Dangling", "status": "True", "reason": "NotFound",
            "message": "This FlowSchema references the PriorityLevelConfiguration object named \"x\" but there is no such object",
        })
    );
    assert_eq!(dangling_condition("x", true)["reason"], "Found");
}
