//! The little XML that S3 answers with: elements by name, and their text.
//!
//! Not an XML reader: no attributes, comments or nesting of equal names, none of which S3 uses here. Invariant: any bytes
//! give an answer in time linear in their length.

/// What is between the tags of each element of this name.
pub(super) fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inner, after) = after.split_once(&close)?;
        rest = after;
        Some(inner)
    })
}

/// The text of the first element of this name.
pub(super) fn text(text: &str, name: &str) -> Option<String> {
    elements(text, name).next().map(unescape)
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        // Entities have at most ten letters.
        let end = after.bytes().take(11).position(|byte| byte == b';');
        let entity = end.and_then(|end| Some((character(&after[..end])?, &after[end + 1..])));
        match entity {
            Some((character, after)) => {
                out.push(character);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

/// Text that can stand between tags.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_as_it_went_in() {
        let xml = format!("<a><K>{}</K><K>b</K></a>", escape("x&y <z> \"q\""));
        assert_eq!(text(&xml, "K").expect("there"), "x&y <z> \"q\"");
        assert_eq!(elements(&xml, "K").count(), 2);
        assert_eq!(unescape("&#65;&#x42;&apos;&nothing;&"), "AB'&nothing;&");
        assert_eq!(text("<K>never ends", "K"), None);
        assert_eq!(unescape("&ü;é&"), "&ü;é&");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(input in "[<>&;#xK/a-c\u{e9}]{0,200}") {
            let _ = text(&input, "K");
            let _ = unescape(&input);
            proptest::prop_assert_eq!(unescape(&escape(&input)), input);
        }
    }
}
