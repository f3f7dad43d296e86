//! Paths and operations, one for each verb of each resource and subresource.
//! Invariant: an operation carries its action and kind, which is how kubectl finds it.

use serde_json::{Map, Value, json};

use super::definitions::{PATCH, kind_json};
use super::{Dialect, Document, parameters};
use crate::kinds::{ResourceDescriptor, Subresource};
use crate::meta::{GroupVersion, GroupVersionKind};
use crate::schema;

const MEDIA_TYPES: [&str; 2] = ["application/json", "application/yaml"];
const WATCH_MEDIA_TYPES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/json;stream=watch",
];
const PATCH_TYPES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";

/// One operation before it is written down.
struct Operation {
    method: &'static str,
    action: &'static str,
    gvk: GroupVersionKind,
    /// The definition of the body, when there is one.
    body: Option<&'static str>,
    /// The definition of the answer; `None` for streams.
    answer: Option<&'static str>,
    id: String,
    description: String,
}

fn camel(text: &str) -> String {
    let mut out = String::new();
    for part in text.split(['.', '-', '/']) {
        let mut chars = part.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

fn tag(group: &str, version: &str) -> String {
    let group = group.split('.').next().unwrap_or_default();
    format!(
        "{}_{version}",
        if group.is_empty() { "core" } else { group }
    )
}

impl Document {
    /// The path that lists a version's resources.
    pub(super) fn add_discovery_of(&mut self, group_version: &GroupVersion) {
        let GroupVersion { group, version } = group_version;
        let answer = self.refer(RESOURCE_LIST);
        let id = format!(
            "get{}{}APIResources",
            camel(group_name(group)),
            camel(version)
        );
        let mut operation = json!({
            "description": "get available resources",
            "operationId": id,
            "tags": [tag(group, version)],
        });
        self.write_answers(&mut operation, &[("200", "OK")], Some(answer), &MEDIA_TYPES);
        self.paths.insert(
            format!("{}/", root(group, version)),
            json!({"get": operation}),
        );
    }

    pub(super) fn add_resource(&mut self, descriptor: &'static ResourceDescriptor) {
        let root = root(descriptor.group, descriptor.version);
        let resource = descriptor.resource;
        let collection = match descriptor.namespaced {
            true => format!("{root}/namespaces/{{namespace}}/{resource}"),
            false => format!("{root}/{resource}"),
        };
        self.add_collection(descriptor, &collection);
        if descriptor.namespaced && descriptor.has_verb("list") {
            let operation = collection_operation(descriptor, "list", "ForAllNamespaces");
            self.add(descriptor, &format!("{root}/{resource}"), operation);
        }
        self.add_item(descriptor, &format!("{collection}/{{name}}"));
        for subresource in descriptor.subresources {
            let path = format!("{collection}/{{name}}/{}", subresource.name);
            self.add_subresource(descriptor, subresource, &path);
        }
    }

    fn add_collection(&mut self, descriptor: &'static ResourceDescriptor, path: &str) {
        for verb in ["list", "create", "deletecollection"] {
            if descriptor.has_verb(verb) {
                self.add(descriptor, path, collection_operation(descriptor, verb, ""));
            }
        }
    }

    fn add_item(&mut self, descriptor: &'static ResourceDescriptor, path: &str) {
        for verb in ["get", "update", "patch", "delete"] {
            if descriptor.has_verb(verb) {
                let definition = definition(descriptor.group, descriptor.version, descriptor.kind);
                let gvk = GroupVersionKind::from_static(
                    descriptor.group,
                    descriptor.version,
                    descriptor.kind,
                );
                let operation = item_operation(descriptor, verb, definition, gvk, "");
                self.add(descriptor, path, operation);
            }
        }
    }

    fn add_subresource(
        &mut self,
        descriptor: &'static ResourceDescriptor,
        sub: &'static Subresource,
        path: &str,
    ) {
        let (group, version) = match sub.version {
            "" => (descriptor.group, descriptor.version),
            version => (sub.group, version),
        };
        let definition = definition(group, version, sub.kind);
        for verb in sub.verbs {
            let gvk = GroupVersionKind::from_static(group, version, sub.kind);
            let operation = item_operation(descriptor, verb, definition, gvk, sub.name);
            self.add(descriptor, path, operation);
        }
    }

    fn add(&mut self, descriptor: &ResourceDescriptor, path: &str, operation: Operation) {
        let dialect = self.dialect;
        let mut out = json!({
            "description": operation.description,
            "operationId": operation.id,
            "tags": [tag(descriptor.group, descriptor.version)],
            "parameters": parameters::of_action(dialect, operation.action),
        });
        let media_types: &[&str] = if operation.action == "list" {
            &WATCH_MEDIA_TYPES
        } else {
            &MEDIA_TYPES
        };
        let body = operation.body.map(|body| self.refer(body));
        self.write_body(&mut out, operation.action, body);
        let answers: &[(&str, &str)] = match operation.action {
            "post" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
            "put" | "patch" => &[("200", "OK"), ("201", "Created")],
            "delete" => &[("200", "OK"), ("202", "Accepted")],
            _ => &[("200", "OK")],
        };
        let answer = operation.answer.map(|answer| self.refer(answer));
        self.write_answers(&mut out, answers, answer, media_types);
        out["x-kubernetes-action"] = json!(operation.action);
        out["x-kubernetes-group-version-kind"] = kind_json(&operation.gvk);
        let parameters = parameters::of_path(dialect, path);
        let item = self
            .paths
            .entry(path)
            .or_insert_with(|| json!({"parameters": parameters}));
        item[operation.method] = out;
    }

    fn write_body(&self, operation: &mut Value, action: &str, body: Option<Value>) {
        let required = action != "delete" && action != "deletecollection";
        let types: &[&str] = if action == "patch" {
            &PATCH_TYPES
        } else {
            &["*/*"]
        };
        match self.dialect {
            Dialect::V2 => {
                operation["consumes"] = json!(types);
                let Some(body) = body else { return };
                let mut parameter = json!({"name": "body", "in": "body", "schema": body});
                if required {
                    parameter["required"] = json!(true);
                }
                if let Some(parameters) = operation["parameters"].as_array_mut() {
                    parameters.insert(0, parameter);
                }
            }
            Dialect::V3 => {
                let Some(body) = body else { return };
                let content: Map<String, Value> = types
                    .iter()
                    .map(|ty| ((*ty).to_owned(), json!({"schema": body})))
                    .collect();
                operation["requestBody"] = json!({"content": content});
                if required {
                    operation["requestBody"]["required"] = json!(true);
                }
            }
        }
    }

    fn write_answers(
        &self,
        operation: &mut Value,
        answers: &[(&str, &str)],
        schema: Option<Value>,
        types: &[&str],
    ) {
        let mut out = Map::new();
        for (code, description) in answers {
            let mut answer = json!({"description": description});
            match (&schema, self.dialect) {
                (Some(schema), Dialect::V2) => answer["schema"] = schema.clone(),
                (Some(schema), Dialect::V3) => {
                    let content: Map<String, Value> = types
                        .iter()
                        .map(|ty| ((*ty).to_owned(), json!({"schema": schema})))
                        .collect();
                    answer["content"] = Value::Object(content);
                }
                (None, _) => {}
            }
            out.insert((*code).to_owned(), answer);
        }
        out.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        operation["responses"] = Value::Object(out);
        if self.dialect == Dialect::V2 {
            operation["produces"] = json!(types);
            operation["schemes"] = json!(["https"]);
        }
    }
}

fn group_name(group: &str) -> &str {
    if group.is_empty() {
        "core"
    } else {
        group.split('.').next().unwrap_or_default()
    }
}

fn definition(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
) -> Option<&'static str> {
    schema::lookup(&GroupVersionKind::from_static(group, version, kind)).map(|ty| ty.name)
}

fn operation_id(
    descriptor: &ResourceDescriptor,
    verb: &str,
    subresource: &str,
    suffix: &str,
) -> String {
    let scope = if descriptor.namespaced && suffix.is_empty() {
        "Namespaced"
    } else {
        ""
    };
    let (group, version) = (
        camel(group_name(descriptor.group)),
        camel(descriptor.version),
    );
    let subresource = camel(subresource);
    format!(
        "{verb}{group}{version}{scope}{}{subresource}{suffix}",
        descriptor.kind
    )
}

fn collection_operation(
    descriptor: &'static ResourceDescriptor,
    verb: &str,
    suffix: &str,
) -> Operation {
    let gvk = GroupVersionKind::from_static(descriptor.group, descriptor.version, descriptor.kind);
    let own = definition(descriptor.group, descriptor.version, descriptor.kind);
    let list = definition(descriptor.group, descriptor.version, descriptor.list_kind);
    let kind = descriptor.kind;
    let (method, action, word, body, answer, what) = match verb {
        "list" => (
            "get",
            "list",
            "list",
            None,
            list,
            "list or watch objects of kind",
        ),
        "create" => ("post", "post", "create", own, own, "create"),
        _ => (
            "delete",
            "deletecollection",
            "deleteCollection",
            Some(DELETE_OPTIONS),
            Some(STATUS),
            "delete collection of",
        ),
    };
    let id = operation_id(descriptor, word, "", suffix);
    let description = format!("{what} {kind}");
    Operation {
        method,
        action,
        gvk,
        body,
        answer,
        id,
        description,
    }
}

fn item_operation(
    descriptor: &'static ResourceDescriptor,
    verb: &str,
    definition: Option<&'static str>,
    gvk: GroupVersionKind,
    subresource: &str,
) -> Operation {
    // Streams have no schema: their kinds only name the options in the query.
    let definition = definition.filter(|_| subresource != "log");
    let connect =
        definition.is_none() || matches!(subresource, "exec" | "attach" | "portforward" | "proxy");
    let (method, action, word, body, answer) = match verb {
        "get" if subresource == "log" => ("get", "get", "read", None, None),
        "get" if connect => ("get", "connect", "connectGet", None, None),
        "create" if connect => ("post", "connect", "connectPost", None, None),
        "get" => ("get", "get", "read", None, definition),
        "create" => ("post", "post", "create", definition, definition),
        "update" => ("put", "put", "replace", definition, definition),
        "patch" => ("patch", "patch", "patch", Some(PATCH), definition),
        _ => (
            "delete",
            "delete",
            "delete",
            Some(DELETE_OPTIONS),
            Some(STATUS),
        ),
    };
    let id = operation_id(descriptor, word, subresource, "");
    let of = if subresource.is_empty() {
        String::new()
    } else {
        format!("{subresource} of ")
    };
    let description = format!("{word} {of}the specified {}", descriptor.kind);
    Operation {
        method,
        action,
        gvk,
        body,
        answer,
        id,
        description,
    }
}
