//! Where a webhook is: a URL, or a Service of the cluster.

use serde_json::Value;

use crate::kinds::value::{Get, default_to};
use crate::kinds::{Errors, Path, names};
use crate::quote::quote;

/// What is told with each malformed URL.
const FORM: &str = "; desired format: https://host[/path]";

/// Fills in the port of the Service.
pub(super) fn default_client(client: &mut Value) {
    if let Some(service) = client.get_mut("service").filter(|s| s.is_object()) {
        default_to(service, "port", 443);
    }
}

/// Checks where the webhook is.
pub(super) fn validate_client(client: &Value, path: &Path<'_>, errors: &mut Errors) {
    match (client.opt_text("url"), client.opt("service")) {
        (Some(url), None) => validate_url(url, &path.child("url"), errors),
        (None, Some(service)) => validate_service(service, &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

/// The parts of a URL that are looked at.
#[derive(Debug, Default, PartialEq, Eq)]
struct Url<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// Takes a URL apart as Go does; what Go refuses to parse is refused with its words.
fn parse(text: &str) -> Result<Url<'_>, String> {
    let fault = |why: String| Err(format!("parse {}: {why}", quote(text)));
    if text.contains(|c: char| c.is_ascii_control()) {
        return fault("net/url: invalid control character in URL".to_owned());
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    let (scheme, rest) = match rest.split_once(':') {
        Some(("", _)) => return fault("missing protocol scheme".to_owned()),
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        Some((first, _)) if !first.contains('/') => {
            return fault("first path segment in URL cannot contain colon".to_owned());
        }
        _ => ("", rest),
    };
    let authority = rest.strip_prefix("//").unwrap_or("");
    let authority = authority.split('/').next().unwrap_or("");
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.contains(' ') {
        return fault("invalid character \" \" in host name".to_owned());
    }
    // Colons inside brackets belong to an IPv6 address.
    let after_address = host.rsplit(']').next().unwrap_or(host);
    if let Some((_, port)) = after_address.split_once(':')
        && !port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return fault(format!(
            "invalid port {} after host",
            quote(&format!(":{port}"))
        ));
    }
    Ok(Url {
        scheme,
        user,
        host,
        query,
        fragment,
    })
}

fn validate_url(text: &str, path: &Path<'_>, errors: &mut Errors) {
    let url = match parse(text) {
        Ok(url) => url,
        Err(why) => {
            errors.required(path, &format!("url must be a valid URL: {why}{FORM}"));
            return;
        }
    };
    if !url.scheme.eq_ignore_ascii_case("https") {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(path, url.scheme, detail);
    }
    if url.host.is_empty() {
        errors.invalid(path, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    if !url.fragment.is_empty() {
        let detail = "fragments are not permitted in the URL";
        errors.invalid(path, url.fragment, detail);
    }
    if !url.query.is_empty() {
        let detail = "query parameters are not permitted in the URL";
        errors.invalid(path, url.query, detail);
    }
}

fn validate_service(service: &Value, path: &Path<'_>, errors: &mut Errors) {
    for key in ["name", "namespace"] {
        if service.is_empty_at(key) {
            errors.required(&path.child(key), "");
        }
    }
    let port = service.int("port").unwrap_or(0);
    let faults = names::port(port);
    if !faults.is_empty() {
        let detail = format!("port is not valid: {}", faults.join(", "));
        errors.invalid(&path.child("port"), port, detail);
    }
    let at = path.child("path");
    let text = service.text("path");
    match text {
        "" | "/" => return,
        "//" => {
            errors.invalid(&at, text, "segment[0] may not be empty");
            return;
        }
        _ => {}
    }
    if !text.starts_with('/') {
        errors.invalid(&at, text, "must start with a '/'");
    }
    // Whatever the first character is, the segments begin behind it, as upstream counts them.
    let mut characters = text.chars();
    characters.next();
    let inner = characters.as_str();
    for (i, segment) in inner
        .strip_suffix('/')
        .unwrap_or(inner)
        .split('/')
        .enumerate()
    {
        if segment.is_empty() {
            errors.invalid(&at, text, format!("segment[{i}] may not be empty"));
            continue;
        }
        for fault in names::subdomain(segment, false) {
            errors.invalid(&at, text, format!("segment[{i}]: {fault}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(client: Value) -> Vec<String> {
        let mut client = client;
        default_client(&mut client);
        let mut errors = Errors::new();
        validate_client(&client, &Path::new("c"), &mut errors);
        errors.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn urls_are_https_and_nothing_else() {
        let none: Vec<String> = vec![];
        for good in [
            "https://a",
            "https://a.b:443/c/d",
            "HTTPS://[::1]:8/",
            "https://a:",
        ] {
            assert_eq!(check(json!({"url": good})), none, "{good}");
        }
        let cases = [
            (
                "http://a",
                vec!["Invalid value: \"http\": 'https' is the only"],
            ),
            (
                "a/b",
                vec![
                    "Invalid value: \"\": 'https'",
                    "Invalid value: \"\": host must",
                ],
            ),
            (
                "https:///x",
                vec!["Invalid value: \"\": host must be specified; desired"],
            ),
            (
                "https://u:p@a",
                vec!["Invalid value: \"u:p\": user information"],
            ),
            (
                "https://a#f",
                vec!["Invalid value: \"f\": fragments are not"],
            ),
            (
                "https://a?q=1",
                vec!["Invalid value: \"q=1\": query parameters"],
            ),
            (
                "https://a:x",
                vec![
                    "Required value: url must be a valid URL: parse \"https://a:x\": invalid port",
                ],
            ),
            (
                "a b:1",
                vec![
                    "Required value: url must be a valid URL: parse \"a b:1\": first path segment",
                ],
            ),
            (
                ":",
                vec![
                    "Required value: url must be a valid URL: parse \":\": missing protocol scheme",
                ],
            ),
        ];
        for (url, expected) in cases {
            let found = check(json!({"url": url}));
            assert_eq!(found.len(), expected.len(), "{url}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(&format!("c.url: {expected}")), "{found}");
            }
        }
    }

    #[test]
    fn services_have_names_ports_and_paths() {
        let service =
            |path: &str| json!({"service": {"name": "n", "namespace": "s", "path": path}});
        let none: Vec<String> = vec![];
        for good in ["", "/", "/a", "/a/b/"] {
            assert_eq!(check(service(good)), none, "{good}");
        }
        let cases = [
            ("//", "segment[0] may not be empty"),
            ("a", "must start with a '/'"),
            ("/a//b", "segment[1] may not be empty"),
            ("/A", "segment[0]: a lowercase RFC 1123 subdomain"),
        ];
        for (path, expected) in cases {
            let found = check(service(path)).join("\n");
            assert!(found.contains(expected), "{path}: {found}");
        }
        assert_eq!(
            check(json!({"service": {"port": 0}})),
            [
                "c.service.name: Required value",
                "c.service.namespace: Required value",
                "c.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ]
        );
        let expected = "c: Required value: exactly one of url or service is required";
        assert_eq!(check(json!({})), [expected]);
    }
}
