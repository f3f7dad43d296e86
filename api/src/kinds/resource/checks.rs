//! Checks that several kinds of this group need: names of drivers' things, selectors, configuration, bounded lists.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kinds::storage::validate_driver_name;
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path, names};

/// Longest name of a pool of devices.
const POOL_NAME_BYTES_MAX: usize = 253;
/// Longest name of an attribute, without its domain.
const IDENTIFIER_BYTES_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
/// What only a driver understands, as JSON.
pub(super) const OPAQUE_BYTES_MAX: usize = 10 * 1024;
const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
    alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
    '[A-Za-z_][A-Za-z0-9_]*')";

/// The items of a list, or none when there are too many to look at.
pub(super) fn bounded<'a>(
    items: &'a [Value],
    max: usize,
    path: &Path<'_>,
    errors: &mut Errors,
) -> &'a [Value] {
    if items.len() > max {
        errors.too_many(path, items.len(), max);
        return &[];
    }
    items
}

/// Refuses keys that stand twice.
pub(super) fn unique<'a>(
    keys: impl Iterator<Item = &'a str>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let mut seen = BTreeSet::new();
    for (i, key) in keys.enumerate() {
        if !seen.insert(key) {
            errors.duplicate(&path.index(i), key);
        }
    }
}

/// Checks a name that is a DNS label.
pub(super) fn label(name: &str, path: &Path<'_>, errors: &mut Errors) {
    errors.invalid_each(path, name, names::label(name, false));
}

/// Checks the name of a pool: subdomains joined by slashes.
pub(super) fn pool_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > POOL_NAME_BYTES_MAX {
        errors.too_long(path, POOL_NAME_BYTES_MAX);
    }
    for part in name.split('/') {
        errors.invalid_each(path, part, names::subdomain(part, false));
    }
}

/// Checks the name of an attribute or capacity: an identifier, with or without the domain of a driver.
pub(super) fn qualified_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.invalid(path, "", "the domain must not be empty");
            } else {
                validate_driver_name(domain, path, errors);
            }
            if id.is_empty() {
                errors.invalid(path, "", "the name must not be empty");
            } else {
                identifier(id, path, errors);
            }
        }
        // More slashes are let through by upstream too.
        _ => {}
    }
}

/// Checks such a name with its domain.
pub(super) fn fully_qualified_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    qualified_name(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.invalid(path, name, detail);
    }
}

fn identifier(id: &str, path: &Path<'_>, errors: &mut Errors) {
    if id.len() > IDENTIFIER_BYTES_MAX {
        errors.too_long(path, IDENTIFIER_BYTES_MAX);
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let digit_first = id.as_bytes().first().is_none_or(u8::is_ascii_digit);
    if digit_first || !id.bytes().all(inner) {
        errors.invalid(path, id, IDENTIFIER);
    }
}

/// Checks the expressions that choose devices. They are not compiled.
pub(super) fn selectors(selectors: &[Value], path: &Path<'_>, errors: &mut Errors) {
    for (i, selector) in bounded(selectors, SELECTORS_MAX, path, errors)
        .iter()
        .enumerate()
    {
        let at = path.index(i);
        let at = at.child("cel");
        let Some(cel) = selector.opt("cel") else {
            errors.required(&at, "");
            continue;
        };
        let expression = cel.text("expression");
        let at = at.child("expression");
        if expression.len() > EXPRESSION_BYTES_MAX {
            errors.too_long(&at, EXPRESSION_BYTES_MAX);
        } else if expression.trim().is_empty() {
            errors.invalid(&at, expression, "compilation failed: no expression");
        }
    }
}

/// Checks what is passed on to a driver. What is `stored` already may be longer than is let in today.
pub(super) fn configuration(config: &Value, stored: bool, path: &Path<'_>, errors: &mut Errors) {
    let at = path.child("opaque");
    let Some(opaque) = config.opt("opaque") else {
        errors.required(&at, "");
        return;
    };
    validate_driver_name(opaque.text("driver"), &at.child("driver"), errors);
    let max = if stored { usize::MAX } else { OPAQUE_BYTES_MAX };
    raw_object(
        opaque.at("parameters"),
        max,
        &at.child("parameters"),
        errors,
    );
}

/// Checks JSON whose meaning is the driver's: an object of so many bytes.
pub(super) fn raw_object(raw: &Value, bytes_max: usize, path: &Path<'_>, errors: &mut Errors) {
    if raw.is_null() {
        errors.required(path, "");
    } else if bytes_max < usize::MAX && raw.to_string().len() > bytes_max {
        errors.too_long(path, bytes_max);
    } else if !raw.is_object() {
        errors.invalid(path, "<value omitted>", "must be a valid JSON object");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pools_and_attributes() {
        let faults = |check: fn(&str, &Path<'_>, &mut Errors), name: &str| {
            let mut errors = Errors::new();
            check(name, &Path::new("x"), &mut errors);
            errors.len()
        };
        for (name, expected) in [("a", 0), ("a/b.c", 0), ("", 1), ("a/", 1), ("A", 1)] {
            assert_eq!(faults(pool_name, name), expected, "{name}");
        }
        for (name, expected) in [
            ("model", 0),
            ("gpu.example.com/model", 0),
            ("/model", 1),
            ("a/", 1),
            ("1a", 1),
            ("a-b", 1),
        ] {
            assert_eq!(faults(qualified_name, name), expected, "{name}");
        }
        assert_eq!(faults(fully_qualified_name, "model"), 1);
    }
}
