//! Faults that reviews found in authorization.

use super::*;

#[test]
fn an_escaped_comma_made_a_selector_look_like_the_nodes_own() {
    let live = node_live();
    let n1 = User::authenticated("system:node:n1", ["system:nodes"]);
    for (selector, expected) in [
        ("spec.nodeName=n1", true),
        ("spec.nodeName==n1,status.phase=Running", true),
        ("metadata.name!=x\\,spec.nodeName=n1", false),
        ("spec.nodeName!=n1", false),
        ("", false),
    ] {
        let mut question = Attributes::resource(&n1, "list", "", "pods");
        question.field_selector = Some(selector);
        let allowed = live.authorize(&question).is_allowed();
        assert_eq!(allowed, expected, "{selector}");
    }
}
