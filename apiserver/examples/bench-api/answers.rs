//! The same objects to both servers, good and bad ones of every kind: do they answer the same?
//!
//! Objects are created with `dryRun`. Of a success the whole object counts, of a refusal its code, reason, fields and their
//! reasons; sentences and order may differ. `answers.json` has the objects, `answers-known.tsv` the differences that are
//! known, with why. Invariant: a difference that nobody knows, and a known one that is gone, both fail.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Call, Connection};
use super::report::say;
use super::servers::Side;

const CASES: &str = include_str!("answers.json");
const KNOWN: &str = include_str!("answers-known.tsv");
/// Fields that no two servers have the same.
const OWN: [&str; 4] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
];
/// The rest of a name that the server makes up.
const RANDOM_CHARS: usize = 5;

#[derive(Deserialize)]
struct Case {
    name: String,
    path: String,
    object: Value,
}

/// Fails when the sides differ otherwise than is known.
pub(crate) async fn compare(sides: &[Side]) -> Result<()> {
    let [ours, theirs] = sides else {
        anyhow::bail!("answers are compared between two sides");
    };
    let cases: Vec<Case> = serde_json::from_str(CASES).context("answers.json")?;
    let known: BTreeMap<&str, &str> = KNOWN.lines().filter_map(|l| l.split_once('\t')).collect();
    let (ours, theirs) = (ours.admin.connect().await?, theirs.admin.connect().await?);
    let mut differing = BTreeSet::new();
    for case in &cases {
        let (here, there) = (answer(&ours, case).await?, answer(&theirs, case).await?);
        if here == there {
            continue;
        }
        differing.insert(case.name.as_str());
        match known.get(case.name.as_str()) {
            Some(why) => say(&format!("{}: differs as known: {why}", case.name)),
            None => say(&format!(
                "{}: DIFFERS\n  upstream {there}\n  corten   {here}",
                case.name
            )),
        }
    }
    let gone: Vec<&&str> = known
        .keys()
        .filter(|name| !differing.contains(*name))
        .collect();
    let new = differing
        .iter()
        .filter(|name| !known.contains_key(*name))
        .count();
    say(&format!(
        "{} objects: {} answered differently, {new} of them otherwise than is known",
        cases.len(),
        differing.len()
    ));
    ensure!(new == 0, "{new} answers differ otherwise than is known");
    ensure!(
        gone.is_empty(),
        "these are known to differ and do not: {gone:?}"
    );
    Ok(())
}

async fn answer(connection: &Connection, case: &Case) -> Result<Value> {
    let path = format!("{}?dryRun=All", case.path);
    let call = Call::post(path, Bytes::from(case.object.to_string()));
    let (code, body) = connection.ask(call).await?;
    let mut body: Value = serde_json::from_slice(&body).with_context(|| case.name.clone())?;
    if code < 400 {
        let token = token_volume(&body);
        clean(&mut body, token.as_deref());
        return Ok(json!({"code": code, "object": body}));
    }
    let causes = body["details"]["causes"].as_array();
    let causes: BTreeSet<String> = causes
        .into_iter()
        .flatten()
        .map(|cause| format!("{} {}", cause["field"], cause["reason"]))
        .collect();
    Ok(json!({"code": code, "reason": body["reason"], "causes": causes}))
}

/// The name of the volume with the token, of which each server makes up the end.
fn token_volume(pod: &Value) -> Option<String> {
    let volumes = pod["spec"]["volumes"].as_array()?;
    let mut names = volumes.iter().filter_map(|volume| volume["name"].as_str());
    let name = names.find(|name| name.starts_with("kube-api-access-"))?;
    Some(name.to_owned())
}

/// Leaves out what no two servers have the same.
fn clean(value: &mut Value, token: Option<&str>) {
    match value {
        Value::Object(fields) => clean_fields(fields, token),
        Value::Array(items) => items.iter_mut().for_each(|item| clean(item, token)),
        Value::String(text) if Some(text.as_str()) == token => {
            text.truncate(text.len() - RANDOM_CHARS);
        }
        _ => {}
    }
}

fn clean_fields(fields: &mut Map<String, Value>, token: Option<&str>) {
    fields.retain(|key, _| !OWN.contains(&key.as_str()));
    for (key, value) in fields.iter_mut() {
        if key.ends_with("Time") && value.is_string() {
            *value = "some time".into();
        }
        clean(value, token);
    }
}
