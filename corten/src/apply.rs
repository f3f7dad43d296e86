//! `corten apply`: creates the objects of a YAML file, or merges them into what is there. Enough for demos and first steps on
//! a machine without kubectl; kubectl is the tool for everything else.

use std::path::Path;

use anyhow::{Context, Result, bail};
use corten_api::kinds;
use corten_client::client::Patch;
use corten_client::{Client, ClientConfig, Target};
use serde_json::Value;

/// Applies every document of `file`; returns a line for each.
pub async fn apply(config: &ClientConfig, file: &Path) -> Result<Vec<String>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let client = Client::connect(config)?.with_field_manager("corten-apply");
    let mut lines = Vec::new();
    for (index, document) in text.split("\n---").enumerate() {
        if document
            .lines()
            .all(|line| line.trim().is_empty() || line.starts_with('#'))
        {
            continue;
        }
        let object: Value = serde_saphyr::from_str(document)
            .with_context(|| format!("document {} is not valid YAML", index + 1))?;
        lines.push(apply_one(&client, &object).await?);
    }
    Ok(lines)
}

async fn apply_one(client: &Client, object: &Value) -> Result<String> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let Some(descriptor) = kinds::registry().type_meta(api_version, kind) else {
        bail!("this version of Corten knows no {kind} in {api_version}");
    };
    let mut target = Target::resource(descriptor.group, descriptor.version, descriptor.resource);
    if descriptor.namespaced {
        let namespace = text("/metadata/namespace");
        target = target.in_namespace(if namespace.is_empty() {
            "default"
        } else {
            namespace
        });
    }
    let created = client
        .create_raw(&target, serde_json::to_vec(object)?)
        .await;
    let shown = format!("{}/{name}", descriptor.singular);
    match created {
        Ok(_) => Ok(format!("{shown} created")),
        Err(error) if error.is_already_exists() => {
            let patch = Patch::Strategic(object.clone());
            client
                .patch_raw(&target.named(name), &patch)
                .await
                .with_context(|| format!("cannot change {shown}"))?;
            Ok(format!("{shown} configured"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot create {shown}")),
    }
}
