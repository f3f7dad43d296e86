//! Links of a proxied page: those that begin at its host's root would lead out of the proxy, so the proxy's path is put in front.
//!
//! Looks for attributes that hold an address within tags; comments and scripts stay as they are. Pure.

/// Attributes that hold an address.
const ATTRIBUTES: [&str; 14] = [
    "action",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "manifest",
    "poster",
    "src",
    "usemap",
];

/// An address as it is reached through the proxy; none when it leads elsewhere, or needs nothing.
pub(super) fn within(address: &str, prefix: &str, host: &str) -> Option<String> {
    let path = match address.strip_prefix("http://") {
        Some(rest) => rest.strip_prefix(host)?,
        None => address,
    };
    let rooted = path.starts_with('/') && !path.starts_with("//");
    // Whoever knows of the proxy has written it already.
    (rooted && !path.starts_with(prefix)).then(|| format!("{prefix}{path}"))
}

/// A page with its links led through the proxy.
pub(super) fn rewrite(page: &[u8], prefix: &str, host: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 8);
    let mut rest = page;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with(b"<!--") {
            find(rest, b"-->").map(|at| at + 3)
        } else {
            end_of_tag(rest)
        };
        let Some(end) = end else {
            break;
        };
        let (tag, behind) = rest.split_at(end);
        if tag.starts_with(b"<!--") {
            out.extend_from_slice(tag);
        } else {
            rewrite_tag(tag, prefix, host, &mut out);
        }
        rest = behind;
        if tag.len() >= 7 && tag[..7].eq_ignore_ascii_case(b"<script") {
            let end = find(rest, b"</").unwrap_or(rest.len());
            out.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.extend_from_slice(rest);
    out
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// Behind the `>` that is in no quotes.
fn end_of_tag(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            (None, b'>') => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn rewrite_tag(tag: &[u8], prefix: &str, host: &str, out: &mut Vec<u8>) {
    let mut rest = tag;
    // `name="value"`, again and again.
    while let Some(at) = rest.iter().position(|byte| *byte == b'=') {
        let name_from = rest[..at]
            .iter()
            .rposition(|byte| byte.is_ascii_whitespace())
            .map_or(0, |at| at + 1);
        let name = String::from_utf8_lossy(&rest[name_from..at]).to_ascii_lowercase();
        out.extend_from_slice(&rest[..=at]);
        rest = &rest[at + 1..];
        let Some(quote) = rest.first().filter(|byte| matches!(byte, b'"' | b'\'')) else {
            continue;
        };
        let Some(end) = rest[1..].iter().position(|byte| byte == quote) else {
            break;
        };
        let value = &rest[1..=end];
        let led = std::str::from_utf8(value)
            .ok()
            .filter(|_| ATTRIBUTES.contains(&name.as_str()))
            .and_then(|value| within(value, prefix, host));
        out.push(*quote);
        out.extend_from_slice(led.as_deref().map_or(value, str::as_bytes));
        out.push(*quote);
        rest = &rest[end + 2..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(page: &str) -> String {
        String::from_utf8(rewrite(page.as_bytes(), "/p/proxy", "10.0.0.1:80")).expect("text")
    }

    #[test]
    fn links_that_begin_at_the_root_stay_in_the_proxy() {
        let cases = [
            (
                "<a href=\"/rewriteme\">test</a>",
                "<a href=\"/p/proxy/rewriteme\">test</a>",
            ),
            (
                "<IMG SRC='/a.png' alt=\"/b\">",
                "<IMG SRC='/p/proxy/a.png' alt=\"/b\">",
            ),
            (
                "<a href=\"http://10.0.0.1:80/x\">",
                "<a href=\"/p/proxy/x\">",
            ),
            ("<a href=\"http://other/x\">", "<a href=\"http://other/x\">"),
            (
                "<a href=\"x\"><a href=\"//other/x\">",
                "<a href=\"x\"><a href=\"//other/x\">",
            ),
            ("<a href=\"/p/proxy/x\">", "<a href=\"/p/proxy/x\">"),
            ("<!-- <a href=\"/x\"> -->", "<!-- <a href=\"/x\"> -->"),
            (
                "<script>a < b; x='<a href=\"/x\">'</script>",
                "<script>a < b; x='<a href=\"/x\">'</script>",
            ),
            ("1 < 2", "1 < 2"),
            (
                "<a title=\"a > b\" href=\"/x\">",
                "<a title=\"a > b\" href=\"/p/proxy/x\">",
            ),
            ("<a href=\"/x", "<a href=\"/x"),
        ];
        for (page, expected) in cases {
            assert_eq!(through(page), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn pages_without_links_stay_as_they_are(page in "[<>=\"'a-z /!-]{0,60}") {
            if !page.contains("=\"/") && !page.contains("='/") {
                proptest::prop_assert_eq!(through(&page), page);
            }
        }
    }
}
