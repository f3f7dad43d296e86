//! Quoting of strings the way Go's `%q` prints them, because clients match our messages against upstream's.
//! It is not a JSON encoder. Invariant: the result is one line of printable text between double quotes.

use std::fmt::Write;

/// Quotes `text` as Go's `%q` does.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c < ' ' || c == '\x7f' => {
                push_escape(&mut out, format_args!("\\x{:02x}", c as u32))
            }
            c if !printable(c) && (c as u32) < 0x1_0000 => {
                push_escape(&mut out, format_args!("\\u{:04x}", c as u32));
            }
            c if !printable(c) => push_escape(&mut out, format_args!("\\U{:08x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Quotes each item and joins them with `, `.
pub fn quote_list<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<String> = items.into_iter().map(|item| quote(item.as_ref())).collect();
    quoted.join(", ")
}

fn push_escape(out: &mut String, escape: std::fmt::Arguments<'_>) {
    out.write_fmt(escape)
        .expect("writing to a String cannot fail");
}

/// Rust's `escape_debug` agrees with Go on which characters are not printable, but for a few spaces.
fn printable(c: char) -> bool {
    if matches!(c, '\'' | ' ') {
        return true;
    }
    !c.is_control() && !c.is_whitespace() && c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, want) in [
            ("", r#""""#),
            ("a'b", r#""a'b""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("tab\tnl\n\0\u{1b}", r#""tab\tnl\n\x00\x1b""#),
            ("héllo", r#""héllo""#),
            ("\u{a0}\u{200b}", r#""\u00a0\u200b""#),
        ] {
            assert_eq!(quote(text), want);
        }
        assert_eq!(quote_list(["a", "b"]), r#""a", "b""#);
    }
}
