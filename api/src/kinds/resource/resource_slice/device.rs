//! One device: its name, attributes by which it can be chosen, and capacities.

use serde_json::{Map, Value};

use crate::kinds::resource::checks::{label, qualified_name};
use crate::kinds::value::Get;
use crate::kinds::{Errors, Path};

const ATTRIBUTES_AND_CAPACITIES_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 64;

/// Checks a device.
pub(super) fn validate_device(device: &Value, path: &Path<'_>, errors: &mut Errors) {
    label(device.text("name"), &path.child("name"), errors);
    let count = |key: &str| device.at(key).as_object().map_or(0, Map::len);
    let total = count("attributes") + count("capacity");
    if total > ATTRIBUTES_AND_CAPACITIES_MAX {
        let detail = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_AND_CAPACITIES_MAX}"
        );
        errors.invalid(path, &Value::from(total), detail);
    }
    let at = path.child("attributes");
    for (name, attribute) in device.entries("attributes") {
        let at = at.key(name);
        qualified_name(name, &at, errors);
        validate_attribute(attribute, &at, errors);
    }
    let at = path.child("capacity");
    for (name, _) in device.entries("capacity") {
        qualified_name(name, &at.key(name), errors);
    }
}

fn validate_attribute(attribute: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["string", "version"] {
        let text = attribute.text(key);
        let at = path.child(key);
        if key == "version" && attribute.has(key) && !is_semantic_version(text) {
            let detail = "must be a string compatible with semver.org spec 2.0.0";
            errors.invalid(&at, text, detail);
        }
        if text.len() > VALUE_BYTES_MAX {
            errors.too_long(&at, VALUE_BYTES_MAX);
        }
    }
    let kinds = ["bool", "int", "string", "version"];
    let detail = "exactly one value must be specified";
    match kinds.iter().filter(|key| attribute.has(key)).count() {
        0 => errors.invalid(path, "", detail),
        1 => {}
        _ => errors.invalid(path, attribute, detail),
    }
}

/// Three numbers, then perhaps the parts of a pre-release after a dash and of a build after a plus.
fn is_semantic_version(text: &str) -> bool {
    let (text, build) = match text.split_once('+') {
        None => (text, None),
        Some((text, build)) => (text, Some(build)),
    };
    let (core, release) = match text.split_once('-') {
        None => (text, None),
        Some((core, release)) => (core, Some(release)),
    };
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner)
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let no_leading_zero = |part: &str| part == "0" || !part.starts_with('0');
    let number = |part: &str| is_number(part) && no_leading_zero(part);
    let release_part = |text: &str| part(text) && (!is_number(text) || no_leading_zero(text));
    core.split('.').count() == 3
        && core.split('.').all(number)
        && release.is_none_or(|release| release.split('.').all(release_part))
        && build.is_none_or(|build| build.split('.').all(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["1.2.3", "0.0.0-alpha.0", "1.0.0-0a.x-y+b.01", "10.20.30+a"] {
            assert!(is_semantic_version(good), "{good}");
        }
        for bad in [
            "", "1.2", "01.2.3", "1.2.3.4", "1.2.3-", "1.2.3-01", "1.2.3+", "v1.2.3",
        ] {
            assert!(!is_semantic_version(bad), "{bad}");
        }
    }
}
