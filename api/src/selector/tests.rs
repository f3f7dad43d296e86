//! Tests of selectors: tables of texts, and that text and selector agree. Expectations are upstream's.

use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn label_selectors_parse() {
    for (text, want) in [
        ("", ""),
        ("a=b", "a=b"),
        ("a==b,c!=d", "a=b,c!=d"),
        ("e in (x,y)", "e in (x,y)"),
        ("e notin (x, y ,)", "e notin (,x,y)"),
        ("f", "f"),
        ("!g", "!g"),
        ("a>1", "a>1"),
        ("a in ()", "a in ()"),
        ("a=", "a="),
        ("a!=", "a!="),
        ("a notin(b)", "a notin (b)"),
        ("in in (in)", "in in (in)"),
        ("a=in", "a=in"),
        ("!a,!b,c=d", "!a,!b,c=d"),
        ("in", "in"),
        ("a=notin,b", "a=notin,b"),
        ("a=,b", "a=,b"),
        (" b , a ", "a,b"),
    ] {
        assert_eq!(
            LabelSelector::parse(text).map(|s| s.to_string()),
            Ok(want.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn label_selectors_are_refused() {
    for (text, want) in [
        (
            "a<b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        (
            "a in",
            "unable to parse requirement: found '' expected: '('",
        ),
        (
            "a in (x",
            "unable to parse requirement: found '', expected: ',' or ')'",
        ),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        (
            ",",
            "found ',', expected: !, identifier, or 'end of string'",
        ),
        ("a,,b", "found ',', expected: identifier after ','"),
        (
            "=b",
            "found '=', expected: !, identifier, or 'end of string'",
        ),
        (
            "a b",
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        ("a,", "found '', expected: identifier after ','"),
        (
            "!",
            "unable to parse requirement: found '', expected: identifier",
        ),
        ("a in (x) b", "found 'b', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        (
            "a in (x y)",
            "unable to parse requirement: found 'y', expected: ',' or ')'",
        ),
    ] {
        assert_eq!(
            LabelSelector::parse(text).map_err(|e| e.to_string()),
            Err(want.to_owned()),
            "{text}"
        );
    }
    for text in ["A/b/c=d", "a=b_", "a~b", "-a", "a in (x_)", "(a)"] {
        assert!(LabelSelector::parse(text).is_err(), "{text}");
    }
}

#[test]
fn label_selectors_match() {
    let labels: &[(&str, &str)] = &[("app", "web"), ("tier", "3")];
    for (text, want) in [
        ("", true),
        ("app=web", true),
        ("app!=web", false),
        ("none!=x", true),
        ("none=", false),
        ("app in (a,web)", true),
        ("app notin (a)", true),
        ("none notin (a)", true),
        ("app", true),
        ("!app", false),
        ("!none", true),
        ("tier>2", true),
        ("tier<2", false),
        ("app>1", false),
        ("app=web,tier=4", false),
    ] {
        assert_eq!(
            LabelSelector::parse(text).expect("valid").matches(labels),
            want,
            "{text}"
        );
    }
}

#[test]
fn structured_selectors() {
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "tier", "operator": "NotIn", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"},
    ]});
    let selector = LabelSelector::from_json(&selector).expect("valid");
    assert_eq!(selector.to_string(), "app in (web),tier notin (a,b),!x");
    assert!(selector.matches_object(&json!({"metadata": {"labels": {"app": "web"}}})));
    assert!(!selector.matches_object(&json!({"metadata": {}})));
    assert!(
        LabelSelector::from_json(&json!({}))
            .expect("valid")
            .is_everything()
    );
    assert!(
        LabelSelector::from_json(&json!(null))
            .expect("valid")
            .is_nothing()
    );
    assert!(!LabelSelector::nothing().matches_object(&json!({})));
    for bad in [
        json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        json!({"matchExpressions": [{"key": "a", "operator": "X"}]}),
    ] {
        assert!(LabelSelector::from_json(&bad).is_err());
    }
}

#[test]
fn field_selectors() {
    for (text, want) in [
        ("", ""),
        ("a=b", "a=b"),
        ("a==b,c!=d", "a=b,c!=d"),
        ("a=b\\,c", "a=b\\,c"),
        (",", ""),
        ("a=b,", "a=b"),
        ("a=", "a="),
    ] {
        assert_eq!(
            FieldSelector::parse(text).map(|s| s.to_string()),
            Ok(want.to_owned()),
            "{text}"
        );
    }
    for (text, want) in [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        (
            "a=b\\",
            "invalid field selector: invalid escape sequence: \\",
        ),
        (
            "a=b=c",
            "invalid field selector: unescaped character in value: 61",
        ),
        (
            "a=\\x",
            "invalid field selector: invalid escape sequence: \\x",
        ),
    ] {
        assert_eq!(
            FieldSelector::parse(text).map_err(|e| e.to_string()),
            Err(want.to_owned()),
            "{text}"
        );
    }
    let selector = FieldSelector::parse("status.phase!=Running,metadata.name=x").expect("valid");
    assert_eq!(selector.required_value("metadata.name"), Some("x"));
    assert!(selector.matches(|field| (field == "metadata.name").then_some("x")));
    assert!(!selector.matches(|field| (field == "status.phase").then_some("Running")));
}

proptest! {
    #[test]
    fn any_text_is_answered_and_round_trips(text in "[ab!=(),<> in.0-9-]{0,30}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
        }
    }
}
