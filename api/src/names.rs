//! The rules names follow: DNS labels and subdomains, label keys and values, ports, environment variables.
//! It says nothing of what the names are for. Invariant: a rule answers one message for each broken part, in
//! upstream's words, and no message at all when the name is good.

/// What a rule found wrong; empty means the name is good.
pub type Faults = Vec<String>;

/// Longest DNS label.
pub const DNS_LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const DNS_SUBDOMAIN_MAX: usize = 253;
/// Longest label value, and longest name part of a label key.
pub const LABEL_MAX: usize = 63;
/// Longest service port name (IANA).
pub const PORT_NAME_MAX: usize = 15;

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
    must start and end with an alphanumeric character";
const DNS1123_LABEL_RULE: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
    '-' or '.', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN_RULE: &str =
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
    an alphabetic character, and end with an alphanumeric character";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character";
const QUALIFIED_RULE: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const ENV_VAR: &str = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or \
    '.', and must not start with a digit";

fn rule_message(text: &str, examples: &[&str], rule: &str) -> String {
    let examples: Vec<String> = examples
        .iter()
        .map(|example| format!("'{example}'"))
        .collect();
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{rule}')");
    }
    format!(
        "{text} (e.g. {}, regex used for validation is '{rule}')",
        examples.join(",  or ")
    )
}

fn max_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// Whether every byte passes `inner`, and the first and last pass `edge`.
fn framed(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            edge(*first) && edge(*last) && bytes.iter().all(|byte| inner(*byte))
        }
        _ => false,
    }
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn lower_or_hyphen(byte: u8) -> bool {
    lower_alphanumeric(byte) || byte == b'-'
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn is_dns_label(text: &str) -> bool {
    framed(text, lower_alphanumeric, lower_or_hyphen)
}

/// A DNS label as RFC 1123 has it, lower case: names of Services' namespaces, containers, volumes.
pub fn dns1123_label(name: &str) -> Faults {
    let mut faults = Faults::new();
    if name.len() > DNS_LABEL_MAX {
        faults.push(max_characters(DNS_LABEL_MAX));
    }
    if !is_dns_label(name) {
        faults.push(rule_message(
            DNS1123_LABEL,
            &["my-name", "123-abc"],
            DNS1123_LABEL_RULE,
        ));
    }
    faults
}

/// DNS labels joined by dots: the name of most objects.
pub fn dns1123_subdomain(name: &str) -> Faults {
    let mut faults = Faults::new();
    if name.len() > DNS_SUBDOMAIN_MAX {
        faults.push(max_characters(DNS_SUBDOMAIN_MAX));
    }
    if !name.split('.').all(is_dns_label) {
        faults.push(rule_message(
            DNS1123_SUBDOMAIN,
            &["example.com"],
            DNS1123_SUBDOMAIN_RULE,
        ));
    }
    faults
}

/// A DNS subdomain whose first label is `*`: hosts of ingresses.
pub fn wildcard_dns1123_subdomain(name: &str) -> Faults {
    let mut faults = Faults::new();
    if name.len() > DNS_SUBDOMAIN_MAX {
        faults.push(max_characters(DNS_SUBDOMAIN_MAX));
    }
    if !name
        .strip_prefix("*.")
        .is_some_and(|rest| rest.split('.').all(is_dns_label))
    {
        let text = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
            consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        faults.push(rule_message(
            text,
            &["*.example.com"],
            &format!(r"\*\.{DNS1123_SUBDOMAIN_RULE}"),
        ));
    }
    faults
}

/// A DNS label as RFC 1035 has it: no digit first. The name of Services.
pub fn dns1035_label(name: &str) -> Faults {
    let mut faults = Faults::new();
    if name.len() > DNS_LABEL_MAX {
        faults.push(max_characters(DNS_LABEL_MAX));
    }
    if !is_dns_label(name) || !name.as_bytes()[0].is_ascii_lowercase() {
        faults.push(rule_message(
            DNS1035_LABEL,
            &["my-name", "abc-123"],
            "[a-z]([-a-z0-9]*[a-z0-9])?",
        ));
    }
    faults
}

/// A name that is one segment of a URL path: RBAC objects.
pub fn path_segment(name: &str) -> Faults {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => path_segment_prefix(name),
    }
}

/// The start of such a name, as in generateName.
pub fn path_segment_prefix(name: &str) -> Faults {
    let forbidden = ['/', '%'].into_iter().filter(|c| name.contains(*c));
    forbidden
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// The key of a label, annotation or taint: an optional DNS subdomain with `/`, and a name.
pub fn qualified_name(key: &str) -> Faults {
    let mut faults = Faults::new();
    let mut parts = key.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|fault| format!("prefix part {fault}")),
                );
            }
            name
        }
        _ => {
            let message = qualified_message("a valid label key ");
            faults.push(format!(
                "{message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return faults;
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        faults.push(format!("name part {}", max_bytes(LABEL_MAX)));
    }
    if !framed(name, alphanumeric, label_byte) {
        faults.push(qualified_message("name part "));
    }
    faults
}

fn qualified_message(subject: &str) -> String {
    rule_message(
        &format!("{subject}{QUALIFIED}"),
        &["MyName", "my.name", "123-abc"],
        QUALIFIED_RULE,
    )
}

/// The value of a label.
pub fn label_value(value: &str) -> Faults {
    let mut faults = Faults::new();
    if value.len() > LABEL_MAX {
        faults.push(max_bytes(LABEL_MAX));
    }
    if !value.is_empty() && !framed(value, alphanumeric, label_byte) {
        let text = format!(
            "a valid label must be an empty string or {}",
            QUALIFIED.trim_start_matches("must ")
        );
        let rule = format!("({QUALIFIED_RULE})?");
        faults.push(rule_message(
            &text,
            &["MyValue", "my_value", "12345"],
            &rule,
        ));
    }
    faults
}

/// A port's name as IANA has it.
pub fn port_name(name: &str) -> Faults {
    let mut faults = Faults::new();
    if name.len() > PORT_NAME_MAX {
        faults.push(max_characters(PORT_NAME_MAX));
    }
    if name.is_empty() || !name.bytes().all(lower_or_hyphen) {
        faults.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// A port's number.
pub fn port_number(port: i64) -> Faults {
    in_range(port, 1, 65535)
}

/// A number within bounds, both included.
pub fn in_range(value: i64, min: i64, max: i64) -> Faults {
    if (min..=max).contains(&value) {
        return Faults::new();
    }
    vec![format!("must be between {min} and {max}, inclusive")]
}

/// The strict rule for the name of an environment variable.
pub fn env_var_name(name: &str) -> Faults {
    let mut faults = Faults::new();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let digit_first = name.as_bytes().first().is_none_or(u8::is_ascii_digit);
    if digit_first || !name.bytes().all(good) {
        let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        faults.push(rule_message(
            ENV_VAR,
            &examples,
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
        ));
    }
    faults.extend(dotted(name));
    faults
}

/// The rule upstream uses since v1.34: any printable ASCII but `=`.
pub fn relaxed_env_var_name(name: &str) -> Faults {
    if name.is_empty() {
        return vec!["environment variable name must not be empty".to_owned()];
    }
    if name
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
    {
        return Faults::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// A key in the data of ConfigMaps and Secrets.
pub fn config_key(key: &str) -> Faults {
    let mut faults = Faults::new();
    if key.len() > DNS_SUBDOMAIN_MAX {
        faults.push(max_characters(DNS_SUBDOMAIN_MAX));
    }
    if key.is_empty() || !key.bytes().all(label_byte) {
        let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        faults.push(rule_message(
            text,
            &["key.name", "KEY_NAME", "key-name"],
            "[-._a-zA-Z0-9]+",
        ));
    }
    faults.extend(dotted(key));
    faults
}

/// Names that would climb out of a folder.
fn dotted(name: &str) -> Option<String> {
    match name {
        "." | ".." => Some(format!("must not be '{name}'")),
        name if name.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// A percentage such as `25%`.
pub fn percent(text: &str) -> Faults {
    let digits = text.strip_suffix('%').filter(|digits| !digits.is_empty());
    if digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Faults::new();
    }
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![rule_message(rule, &["1%", "93%"], "[0-9]+%")]
}

/// The name of an HTTP header.
pub fn http_header_name(name: &str) -> Faults {
    if !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Faults::new();
    }
    let text = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![rule_message(text, &["X-Header-Name"], "[-A-Za-z0-9]+")]
}

/// The path of a URL, or what looks like one.
pub fn http_path(path: &str) -> Faults {
    const SIGNS: &[u8] = b"/-._~%!$&'()*+,;=:";
    let good = |byte: u8| byte.is_ascii_alphanumeric() || SIGNS.contains(&byte);
    if !path.is_empty() && path.bytes().all(good) {
        return Faults::new();
    }
    let rule = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    vec![rule_message("Invalid path", &[], rule)]
}

/// The reason of a condition.
pub fn condition_reason(reason: &str) -> Faults {
    let bytes = reason.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',' | b':');
    let good = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes
            .last()
            .is_some_and(|byte| !matches!(byte, b',' | b':'))
        && bytes.iter().all(inner);
    if good {
        return Faults::new();
    }
    let text = "a condition reason must start with alphabetic character, optionally followed by a string of \
        alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = [
        "my_name",
        "MY_NAME",
        "MyName",
        "ReasonA,ReasonB",
        "ReasonA:ReasonB",
    ];
    vec![rule_message(
        text,
        &examples,
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
    )]
}

#[cfg(test)]
mod tests;
