//! Tests of the name rules. Invariant: the texts are those clients match on.

use super::*;

type Rule = fn(&str) -> Faults;

#[test]
fn good_names_pass() {
    let cases: &[(Rule, &[&str])] = &[
        (dns1123_label, &["a", "0", "a-b", "123-abc"]),
        (dns1123_subdomain, &["a", "a.b", "0.a-b.c"]),
        (dns1035_label, &["a", "a-1"]),
        (qualified_name, &["a", "A_b.c", "example.com/App", "1"]),
        (label_value, &["", "A_b.c", "1"]),
        (port_name, &["http", "a-1", "1a"]),
        (env_var_name, &["_A", "a.b", "-"]),
        (relaxed_env_var_name, &["1 a"]),
        (config_key, &["a.b", "...a".trim_start_matches(".."), "_"]),
        (path_segment, &["system:node", "a b"]),
        (wildcard_dns1123_subdomain, &["*.a.b"]),
        (percent, &["5%"]),
    ];
    for (rule, names) in cases {
        for name in *names {
            assert_eq!(rule(name), Faults::new(), "{name}");
        }
    }
}

#[test]
fn bad_names_are_refused() {
    let long = "x".repeat(64);
    let cases: &[(Rule, &[&str])] = &[
        (dns1123_label, &["", "A", "-a", "a-", "a.b", "a_b", &long]),
        (dns1123_subdomain, &["", "A", "a..b", ".a", "a."]),
        (dns1035_label, &["", "1a", "a-"]),
        (
            qualified_name,
            &["", "/a", "a/", "a/b/c", "A/b", "_a", &long],
        ),
        (label_value, &["_", "a b", "-a", &long]),
        (
            port_name,
            &["", "A", "123", "a--b", "-a", "0123456789012345a"],
        ),
        (env_var_name, &["", "1a", "a b", ".", "..", "..a"]),
        (relaxed_env_var_name, &["", "a=b", "é"]),
        (config_key, &["", "a/b", ".", "..", "..a"]),
        (path_segment, &[".", "..", "a/b", "a%b"]),
        (wildcard_dns1123_subdomain, &["a.b", "*"]),
        (percent, &["", "%", "5", "x%"]),
    ];
    for (rule, names) in cases {
        for name in *names {
            assert_ne!(rule(name), Faults::new(), "{name}");
        }
    }
}

#[test]
fn messages_are_upstreams() {
    let cases = [
        (
            dns1123_label("A_"),
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
             and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (
            dns1123_subdomain("A_"),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            qualified_name("a/b/c"),
            "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
             an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
             'example.com/MyName')",
        ),
        (
            label_value("A_"),
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
             for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (port_number(0), "must be between 1 and 65535, inclusive"),
    ];
    for (faults, want) in cases {
        assert_eq!(faults, [want]);
    }
    assert_eq!(qualified_name("/").len(), 3);
}
