//! What fields the types of the API have, of which shape, and how lists and maps merge.
//!
//! The facts come from `generated/schema.tsv`, which `xtask codegen` derives from k8s-openapi and k8s-pb. It does not validate
//! values: `decode` does, and kinds do the rest. Invariant: the graph is built once, on first use, and never changes.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::meta::GroupVersionKind;

mod table;
#[cfg(test)]
mod tests;

/// The package of the types every group shares.
pub const META_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A type with named fields.
#[derive(Debug)]
pub struct Type {
    /// The definition's name, such as `io.k8s.api.apps.v1.DeploymentSpec`.
    pub name: &'static str,
    /// The kind, when objects of this type stand alone.
    pub gvk: Option<GroupVersionKind>,
    /// Whether the whole value is owned and replaced as one.
    pub atomic: bool,
    /// Sorted by name.
    fields: Vec<Field>,
}

/// A field of a type.
#[derive(Debug)]
pub struct Field {
    /// The name in JSON.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// The tag in protobuf; 0 when the field is not there (apiVersion and kind travel in the envelope).
    pub tag: u32,
    /// The messages on the way to the field, outermost first, where Go embeds a struct: tag and Go name.
    pub inlined: Vec<(u32, &'static str)>,
    /// Whether it must be present.
    pub required: bool,
    /// How the list merges in server-side apply.
    pub list: ListKind,
    /// Whether the map or struct is owned and replaced as one.
    pub atomic: bool,
    /// How strategic merge patches treat it.
    pub strategy: Strategy,
    /// The key that identifies items in strategic merge patches.
    pub merge_key: Option<&'static str>,
    /// The default, as JSON text.
    pub default: Option<&'static str>,
}

/// How a list merges in server-side apply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListKind {
    /// Nothing is said, which means atomic.
    #[default]
    Unset,
    /// Replaced as one.
    Atomic,
    /// Items are unique values.
    Set,
    /// Items are identified by these fields.
    Map(Vec<&'static str>),
}

/// How strategic merge patches treat a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strategy {
    /// Lists are merged item by item.
    pub merge: bool,
    /// Maps are replaced.
    pub replace: bool,
    /// Patches may name the keys that stay.
    pub retain_keys: bool,
}

/// A reference to a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(u16);

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A boolean.
    Bool,
    /// A number of 32 bits.
    Int32,
    /// A number of 64 bits.
    Int64,
    /// A floating point number.
    Double,
    /// A text.
    String,
    /// Bytes, base64 in JSON.
    Bytes,
    /// See `quantity`.
    Quantity,
    /// See `intstr`.
    IntOrString,
    /// A time in seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
    /// Any object or value, kept as it came.
    Raw,
    /// A set of fields in managedFields.
    FieldsV1,
    /// Any JSON value, in the schemas of custom resources.
    Json,
    /// A schema or a list of schemas.
    SchemaOrArray,
    /// A schema or a boolean.
    SchemaOrBool,
    /// A schema or a list of texts.
    SchemaOrStrings,
    /// An object with named fields.
    Object(TypeId),
    /// A list.
    List(Box<Shape>),
    /// A map with text keys.
    Map(Box<Shape>),
}

struct Graph {
    types: Vec<Type>,
    by_name: HashMap<&'static str, TypeId>,
    by_gvk: HashMap<GroupVersionKind, TypeId>,
}

static GRAPH: LazyLock<Graph> = LazyLock::new(|| {
    let types = table::read(include_str!("generated/schema.tsv"));
    let ids = || {
        (0..types.len()).map(|id| TypeId(u16::try_from(id).expect("there are a few hundred types")))
    };
    let by_name = types.iter().map(|ty| ty.name).zip(ids()).collect();
    let by_gvk = types
        .iter()
        .zip(ids())
        .filter_map(|(ty, id)| Some((ty.gvk.clone()?, id)))
        .collect();
    Graph {
        types,
        by_name,
        by_gvk,
    }
});

/// The type of a kind.
pub fn lookup(gvk: &GroupVersionKind) -> Option<&'static Type> {
    if let Some(id) = GRAPH.by_gvk.get(gvk) {
        return Some(id.get());
    }
    // These belong to every group.
    let shared = ["DeleteOptions", "WatchEvent"].contains(&gvk.kind.as_ref());
    if shared {
        by_name(&format!("{META_V1}.{}", gvk.kind))
    } else {
        None
    }
}

/// The type of a definition.
pub fn by_name(name: &str) -> Option<&'static Type> {
    GRAPH.by_name.get(name).map(|id| id.get())
}

/// All types, sorted by name.
pub fn types() -> &'static [Type] {
    &GRAPH.types
}

impl TypeId {
    /// The type.
    pub fn get(self) -> &'static Type {
        &GRAPH.types[usize::from(self.0)]
    }
}

impl Type {
    /// The field called `name` in JSON.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let found = self
            .fields
            .binary_search_by(|field| field.name.cmp(name))
            .ok()?;
        Some(&self.fields[found])
    }

    /// The fields, sorted by name.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The last part of the name, as Go calls the struct: `DeploymentSpec`.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// With the package, as Go prints the type: `v1.DeploymentSpec`.
    pub fn go_type(&self) -> &'static str {
        let end = self.name.rfind('.').unwrap_or(0);
        let start = self.name[..end].rfind('.').map_or(0, |at| at + 1);
        &self.name[start..]
    }
}

impl Shape {
    /// The type as Go prints it in messages.
    pub fn go_type(&self) -> String {
        match self {
            Shape::Bool => "bool".to_owned(),
            Shape::Int32 | Shape::IntOrString => "int32".to_owned(),
            Shape::Int64 => "int64".to_owned(),
            Shape::Double => "float64".to_owned(),
            Shape::String | Shape::Time | Shape::MicroTime => "string".to_owned(),
            Shape::Bytes => "[]uint8".to_owned(),
            Shape::Quantity => "resource.Quantity".to_owned(),
            Shape::Raw => "runtime.RawExtension".to_owned(),
            Shape::FieldsV1 => "v1.FieldsV1".to_owned(),
            Shape::Json => "v1.JSON".to_owned(),
            Shape::SchemaOrArray => "v1.JSONSchemaPropsOrArray".to_owned(),
            Shape::SchemaOrBool => "v1.JSONSchemaPropsOrBool".to_owned(),
            Shape::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".to_owned(),
            Shape::Object(id) => id.get().go_type().to_owned(),
            Shape::List(item) => format!("[]{}", item.go_type()),
            Shape::Map(item) => format!("map[string]{}", item.go_type()),
        }
    }

    /// The type of the objects in it, through lists and maps.
    pub fn object(&self) -> Option<&'static Type> {
        match self {
            Shape::Object(id) => Some(id.get()),
            Shape::List(item) | Shape::Map(item) => item.object(),
            _ => None,
        }
    }
}
