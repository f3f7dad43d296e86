//! Reads k8s-openapi: definitions, JSON names, types, what is required, and which kinds there are.
//! Invariant: fields stand in the order of their JSON names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use syn::{Fields, ImplItem, Item, ItemImpl, ItemStruct};

use super::rust_type::RustType;

/// One definition.
#[derive(Debug, Default)]
pub(crate) struct Definition {
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) kind: Option<Kind>,
}

/// One field: its Rust type and whether it must be there.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) ty: RustType,
    pub(crate) required: bool,
}

/// What `impl Resource` says.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub list_kind: Option<String>,
}

/// All definitions by their full name, such as `io.k8s.api.apps.v1.Deployment`.
pub(crate) fn read(folder: &Path) -> anyhow::Result<BTreeMap<String, Definition>> {
    let mut out = BTreeMap::new();
    for path in super::rust_files(folder)? {
        let text = std::fs::read_to_string(&path)?;
        let Some(name) = text
            .strip_prefix("// Generated from definition ")
            .and_then(|rest| rest.lines().next())
        else {
            continue;
        };
        let definition = read_definition(&text).with_context(|| path.display().to_string())?;
        out.insert(name.trim().to_owned(), definition);
    }
    Ok(out)
}

fn read_definition(text: &str) -> anyhow::Result<Definition> {
    let file = syn::parse_file(text)?;
    let mut definition = Definition::default();
    let names = json_names(text);
    let required = required(text);
    for item in &file.items {
        match item {
            Item::Struct(item) => definition.fields = fields(item, &names, &required),
            Item::Impl(item) => read_impl(item, &mut definition),
            _ => {}
        }
    }
    if definition.kind.is_some() {
        definition
            .fields
            .entry("apiVersion".to_owned())
            .or_insert_with(text_field);
        definition
            .fields
            .entry("kind".to_owned())
            .or_insert_with(text_field);
        // The crate makes metadata mandatory; the API does not.
        if let Some(metadata) = definition.fields.get_mut("metadata") {
            metadata.required = false;
        }
    }
    Ok(definition)
}

fn text_field() -> Field {
    let ty = RustType {
        path: vec!["String".to_owned()],
        arguments: Vec::new(),
        optional: true,
    };
    Field {
        ty,
        required: false,
    }
}

fn fields(
    item: &ItemStruct,
    names: &BTreeMap<String, String>,
    required: &BTreeSet<String>,
) -> BTreeMap<String, Field> {
    let Fields::Named(named) = &item.fields else {
        return BTreeMap::new();
    };
    let field = |field: &syn::Field| {
        let ident = field.ident.as_ref()?.to_string();
        let ident = ident.trim_start_matches("r#");
        let name = names
            .get(ident.trim_end_matches('_'))
            .or_else(|| names.get(ident))?
            .clone();
        let ty = RustType::read(&field.ty)?;
        let required = required.contains(&name);
        Some((name, Field { ty, required }))
    };
    named.named.iter().filter_map(field).collect()
}

/// Rust field to JSON name, from the arms of the decoder.
fn json_names(text: &str) -> BTreeMap<String, String> {
    let arm = |line: &str| {
        let (name, key) = line
            .trim()
            .strip_prefix('"')?
            .split_once("\" => Field::Key_")?;
        Some((
            key.trim_end_matches(',').trim_end_matches('_').to_owned(),
            name.to_owned(),
        ))
    };
    text.lines().filter_map(arm).collect()
}

/// The names listed in the JSON schema's `required`.
fn required(text: &str) -> BTreeSet<String> {
    let Some((_, rest)) = text.split_once("\n            \"required\": [") else {
        return BTreeSet::new();
    };
    let list = rest.split(']').next().unwrap_or_default();
    list.split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn read_impl(item: &ItemImpl, definition: &mut Definition) {
    let Some((_, path, _)) = &item.trait_ else {
        return;
    };
    let name = path
        .segments
        .last()
        .map(|segment| segment.ident.to_string())
        .unwrap_or_default();
    if name != "Resource" && name != "ListableResource" {
        return;
    }
    let kind = definition.kind.get_or_insert_default();
    for item in &item.items {
        let ImplItem::Const(item) = item else {
            continue;
        };
        let syn::Expr::Lit(literal) = &item.expr else {
            continue;
        };
        let syn::Lit::Str(text) = &literal.lit else {
            continue;
        };
        match item.ident.to_string().as_str() {
            "GROUP" => kind.group = text.value(),
            "VERSION" => kind.version = text.value(),
            "KIND" => kind.kind = text.value(),
            "LIST_KIND" => kind.list_kind = Some(text.value()),
            _ => {}
        }
    }
}
