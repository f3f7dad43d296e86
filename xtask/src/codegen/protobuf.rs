//! Reads k8s-pb: protobuf tags, and the markers in comments. Not the comments themselves.
//! Invariant: a message is found by the `key` of its definition, such as `io.k8s.api.apps.v1.deployment`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use syn::{Attribute, Expr, Fields, Item, ItemStruct, Lit, Meta};

use super::rust_type::RustType;

/// One message.
#[derive(Debug)]
pub(crate) struct Message {
    /// The struct's name here, which differs from Go's in case only.
    pub(crate) name: String,
    /// By their name without case and underscores.
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) markers: Markers,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) tag: u32,
    /// The key of the definition it refers to, when it is a message.
    pub(crate) message: Option<String>,
    pub(crate) markers: Markers,
}

/// `+key=value` lines.
pub(crate) type Markers = Vec<(String, String)>;

/// Where the crate keeps each family of definitions.
const FAMILIES: [(&str, &str); 4] = [
    ("api", "io.k8s.api"),
    ("apimachinery", "io.k8s.apimachinery"),
    ("apiextensions_apiserver", "io.k8s.apiextensions-apiserver"),
    ("kube_aggregator", "io.k8s.kube-aggregator"),
];

/// All messages by the key of their definition.
pub(crate) fn read(folder: &Path) -> anyhow::Result<BTreeMap<String, Message>> {
    let mut out = BTreeMap::new();
    for (family, prefix) in FAMILIES {
        for path in super::rust_files(&folder.join(family))? {
            let relative = path
                .parent()
                .context("a file lies in a folder")?
                .strip_prefix(folder)?;
            let module: Vec<String> = relative
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect();
            let file = syn::parse_file(&std::fs::read_to_string(&path)?)
                .with_context(|| path.display().to_string())?;
            for item in &file.items {
                if let Item::Struct(item) = item {
                    let name = format!("{}.{}", definition(prefix, &module[1..]), item.ident);
                    out.insert(key(&name), message(item, &module));
                }
            }
        }
    }
    Ok(out)
}

fn definition(prefix: &str, module: &[String]) -> String {
    let mut name = prefix.to_owned();
    for part in module {
        name.push('.');
        name.push_str(part);
    }
    name
}

/// Definitions compare without case in their last part: `HTTPGetAction` is `HttpGetAction` here.
pub(crate) fn key(definition: &str) -> String {
    let (package, name) = definition.rsplit_once('.').unwrap_or(("", definition));
    format!("{package}.{}", flat(name))
}

/// Names compare without case, underscores and hyphens: `podIPs` is `pod_i_ps` here and `pod_ips` there.
pub(crate) fn flat(name: &str) -> String {
    name.trim_start_matches("r#")
        .chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn message(item: &ItemStruct, module: &[String]) -> Message {
    let mut fields = BTreeMap::new();
    if let Fields::Named(named) = &item.fields {
        for field in &named.named {
            let Some(ident) = &field.ident else { continue };
            let Some(tag) = tag(&field.attrs) else {
                continue;
            };
            let message = RustType::read(&field.ty).and_then(|ty| message_name(&ty, module));
            fields.insert(
                flat(&ident.to_string()),
                Field {
                    tag,
                    message,
                    markers: markers(&field.attrs),
                },
            );
        }
    }
    Message {
        name: item.ident.to_string(),
        fields,
        markers: markers(&item.attrs),
    }
}

fn message_name(ty: &RustType, module: &[String]) -> Option<String> {
    if let Some(inner) = ty.arguments.last() {
        return message_name(inner, module);
    }
    let climbs = ty.path.iter().filter(|part| *part == "super").count();
    let first = ty.path.first()?.as_str();
    if ty.path.len() > 1 && climbs == 0 {
        return None;
    }
    if ty.path.len() == 1 && (first == "String" || first.starts_with(|c: char| c.is_lowercase())) {
        return None;
    }
    let mut path: Vec<&str> = module[..module.len().checked_sub(climbs)?]
        .iter()
        .map(String::as_str)
        .collect();
    path.extend(ty.path.iter().skip(climbs).map(String::as_str));
    let (_, prefix) = FAMILIES.iter().find(|(family, _)| *family == path[0])?;
    let rest: Vec<String> = path[1..].iter().map(|part| (*part).to_owned()).collect();
    Some(key(&definition(prefix, &rest)))
}

fn tag(attributes: &[Attribute]) -> Option<u32> {
    let list = attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::List(list) if list.path.is_ident("prost") => Some(list.tokens.to_string()),
            _ => None,
        })?;
    let (_, rest) = list.split_once("tag = \"")?;
    rest.split('"').next()?.parse().ok()
}

fn markers(attributes: &[Attribute]) -> Markers {
    let mut out = Vec::new();
    for attribute in attributes {
        let Meta::NameValue(pair) = &attribute.meta else {
            continue;
        };
        let Expr::Lit(literal) = &pair.value else {
            continue;
        };
        let Lit::Str(text) = &literal.lit else {
            continue;
        };
        for line in text.value().lines() {
            if let Some((key, value)) = line
                .trim()
                .strip_prefix('+')
                .and_then(|marker| marker.split_once('='))
            {
                out.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    out
}
