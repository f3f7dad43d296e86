//! The rules of `crate::names` as kinds use them: with `generateName` prefixes, and a few texts.

use std::borrow::Cow;

use crate::names as rules;

/// Transport protocols of ports, in the order in which errors list them.
pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// What is wrong with what is not an address.
pub const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// What is wrong with what is not a range of addresses.
pub const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A generated name gets a suffix, so a prefix may end in a dash; the rules are for whole names.
fn whole(name: &str, prefix: bool) -> Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(stem) if prefix && !stem.is_empty() => {
            Cow::Owned(format!("{}a", &stem[..stem.len() - last_len(stem)]))
        }
        _ => Cow::Borrowed(name),
    }
}

fn last_len(text: &str) -> usize {
    text.chars().next_back().map_or(0, char::len_utf8)
}

/// RFC 1123 subdomain: most names.
pub fn subdomain(name: &str, prefix: bool) -> Vec<String> {
    rules::dns1123_subdomain(&whole(name, prefix))
}

/// RFC 1123 label.
pub fn label(name: &str, prefix: bool) -> Vec<String> {
    rules::dns1123_label(&whole(name, prefix))
}

/// RFC 1035 label.
pub fn label_1035(name: &str, prefix: bool) -> Vec<String> {
    rules::dns1035_label(&whole(name, prefix))
}

/// Anything that fits between two slashes.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix {
        rules::path_segment_prefix(name)
    } else {
        rules::path_segment(name)
    }
}

/// `name` or `domain/name`.
pub fn qualified_name(name: &str) -> Vec<String> {
    rules::qualified_name(name)
}

/// Value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    rules::label_value(value)
}

/// Key of a ConfigMap or Secret.
pub fn config_map_key(key: &str) -> Vec<String> {
    rules::config_key(key)
}

/// Name of a port.
pub fn port_name(name: &str) -> Vec<String> {
    rules::port_name(name)
}

/// Number of a port.
pub fn port(number: i64) -> Vec<String> {
    rules::port_number(number)
}

/// Name of an environment variable, as containers may set it.
pub fn env_var(name: &str) -> Vec<String> {
    rules::relaxed_env_var_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_may_end_in_a_dash() {
        assert!(subdomain("web-", true).is_empty());
        assert!(!subdomain("web-", false).is_empty());
        assert!(label("a-", true).is_empty());
        assert!(!label("-", true).is_empty());
        assert!(path_segment("..", true).is_empty());
        assert!(!path_segment("..", false).is_empty());
    }
}
