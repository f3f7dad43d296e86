//! Parameters of paths and queries. Their descriptions are ours. Invariant: kubectl looks for `dryRun`, `fieldManager` and
//! `fieldValidation` here before it sends them.

use serde_json::{Value, json};

use super::Dialect;

type Spec = (&'static str, &'static str, &'static str);

const LIST: &[Spec] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Ask for bookmark events in a watch.",
    ),
    (
        "continue",
        "string",
        "Where the previous page of a list ended, as the server said.",
    ),
    (
        "fieldSelector",
        "string",
        "Restricts the objects by their fields.",
    ),
    (
        "labelSelector",
        "string",
        "Restricts the objects by their labels.",
    ),
    ("limit", "integer", "How many objects a page may hold."),
    (
        "resourceVersion",
        "string",
        "The revision to read at, or to watch from.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion constrains a list.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Begin a watch with the objects that exist.",
    ),
    ("timeoutSeconds", "integer", "How long the call may take."),
    ("watch", "boolean", "Watch for changes instead of listing."),
];

const WRITE: &[Spec] = &[
    (
        "dryRun",
        "string",
        "With `All`, everything is checked and nothing is stored.",
    ),
    (
        "fieldManager",
        "string",
        "The name of who makes the change.",
    ),
    (
        "fieldValidation",
        "string",
        "What unknown and duplicate fields cause: Ignore, Warn or Strict.",
    ),
];

const FORCE: &[Spec] = &[(
    "force",
    "boolean",
    "Take over fields of other managers in server-side apply.",
)];

const DELETE: &[Spec] = &[
    (
        "dryRun",
        "string",
        "With `All`, everything is checked and nothing is deleted.",
    ),
    (
        "gracePeriodSeconds",
        "integer",
        "How long the object may take to go.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: use propagationPolicy.",
    ),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: Orphan, Background or Foreground.",
    ),
];

const PRETTY: Spec = ("pretty", "string", "With `true`, the answer is indented.");

/// The query parameters of an action.
pub(super) fn of_action(dialect: Dialect, action: &str) -> Vec<Value> {
    let specs: Vec<&Spec> = match action {
        "list" | "watch" | "watchlist" => LIST.iter().collect(),
        "post" | "put" => WRITE.iter().collect(),
        "patch" => WRITE.iter().chain(FORCE).collect(),
        "delete" => DELETE.iter().collect(),
        "deletecollection" => {
            let list = LIST
                .iter()
                .filter(|(name, ..)| !matches!(*name, "allowWatchBookmarks" | "watch"));
            DELETE.iter().chain(list).collect()
        }
        _ => Vec::new(),
    };
    specs.into_iter().map(|spec| query(dialect, spec)).collect()
}

/// The parameters every operation of a path shares.
pub(super) fn of_path(dialect: Dialect, path: &str) -> Vec<Value> {
    let mut out = Vec::new();
    for (name, description) in [
        ("name", "The object's name."),
        ("namespace", "The object's namespace."),
        ("path", "The path behind it."),
    ] {
        if path.contains(&format!("{{{name}}}")) {
            out.push(parameter(
                dialect,
                name,
                "path",
                "string",
                description,
                true,
            ));
        }
    }
    out.push(query(dialect, &PRETTY));
    out
}

fn query(dialect: Dialect, (name, kind, description): &Spec) -> Value {
    parameter(dialect, name, "query", kind, description, false)
}

fn parameter(
    dialect: Dialect,
    name: &str,
    place: &str,
    kind: &str,
    description: &str,
    required: bool,
) -> Value {
    let mut out = json!({"name": name, "in": place, "description": description});
    let mut schema = json!({"type": kind});
    if place == "query" {
        schema["uniqueItems"] = json!(true);
    }
    match (dialect, schema) {
        (Dialect::V3, schema) => out["schema"] = schema,
        (Dialect::V2, Value::Object(schema)) => {
            schema.into_iter().for_each(|(key, value)| out[key] = value)
        }
        _ => {}
    }
    if required {
        out["required"] = json!(true);
    }
    out
}
