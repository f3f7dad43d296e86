//! Types as the two crates write them, reduced to path, arguments. Not a Rust type checker.
//! Invariant: `Option` and `Box` are peeled off, everything else is kept.

use syn::{GenericArgument, PathArguments, Type};

/// A type's path and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RustType {
    pub(crate) path: Vec<String>,
    pub(crate) arguments: Vec<RustType>,
    pub(crate) optional: bool,
}

impl RustType {
    pub(crate) fn read(ty: &Type) -> Option<Self> {
        let Type::Path(path) = ty else { return None };
        let segments: Vec<String> = path
            .path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        let arguments = match &path.path.segments.last()?.arguments {
            PathArguments::AngleBracketed(arguments) => {
                let types = arguments.args.iter().filter_map(|argument| match argument {
                    GenericArgument::Type(ty) => RustType::read(ty),
                    _ => None,
                });
                types.collect()
            }
            _ => Vec::new(),
        };
        let mut found = RustType {
            path: segments,
            arguments,
            optional: false,
        };
        match found.name() {
            "Option" => {
                found = found.arguments.into_iter().next()?;
                found.optional = true;
            }
            "Box" => found = found.arguments.into_iter().next()?,
            _ => {}
        }
        Some(found)
    }

    pub(crate) fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }
}
