//! What a bucket answers, taken apart: a page of its list, and why it refuses.
//!
//! Trusts nothing of it. Invariant: what is not a whole page is an error and never a shorter list, since an empty list says
//! that there are no backups; and what is shown of a refusal is short and one line.

use jiff::Timestamp;

use super::super::Item;
use super::xml;

/// What S3 calls a list.
const LIST: &str = "ListBucketResult";
/// What is shown of a bucket's words: those of S3 have some hundred letters at most.
const WORDS_MAX: usize = 512;

/// A page of a list.
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// The token of the next page, if there is one.
    pub(super) next: Option<String>,
}

/// Reads a page of the names that begin with `prefix`; the error is what it lacks.
pub(super) fn read(answer: &str, prefix: &str) -> Result<Page, &'static str> {
    if !answer.contains(&format!("<{LIST}")) {
        return Err("a list");
    }
    if !answer.trim_end().ends_with(&format!("</{LIST}>")) {
        return Err("the end of its list");
    }
    let mut items = Vec::new();
    for item in xml::elements(answer, "Contents") {
        let key = xml::text(item, "Key").ok_or("a key")?;
        // Not what lies deeper: that is another prefix's.
        let Some(name) = key.strip_prefix(prefix) else {
            continue;
        };
        if name.is_empty() || name.contains('/') {
            continue;
        }
        let bytes = xml::text(item, "Size").and_then(|size| size.parse().ok());
        items.push(Item {
            name: name.to_owned(),
            bytes: bytes.ok_or("a size")?,
            modified: xml::text(item, "LastModified").and_then(|at| at.parse::<Timestamp>().ok()),
        });
    }
    let next = if xml::text(answer, "IsTruncated").as_deref() == Some("true") {
        let token = xml::text(answer, "NextContinuationToken");
        Some(token.ok_or("the token of the next page")?)
    } else {
        None
    };
    Ok(Page { items, next })
}

/// S3's word for a refusal, and its explanation.
pub(super) fn refusal(answer: &str) -> (String, String) {
    let words = |name| {
        let text = xml::text(answer, name).unwrap_or_default();
        let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        line.take(WORDS_MAX).collect()
    };
    (words("Code"), words("Message"))
}

/// Everything that is read of an answer: the names of a page, if it is one, and the words of a refusal.
#[cfg(test)]
pub(crate) fn read_for_tests(answer: &str, prefix: &str) -> (Option<Vec<String>>, String) {
    let _ = xml::text(answer, "UploadId");
    let _ = xml::escape(answer);
    let (code, message) = refusal(answer);
    let names = read(answer, prefix)
        .ok()
        .map(|page| page.items.into_iter().map(|item| item.name).collect());
    (names, code + &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(answer: &str) -> Result<Vec<String>, &'static str> {
        let page = read(answer, "p/")?;
        Ok(page.items.into_iter().map(|item| item.name).collect())
    }

    fn item(key: &str) -> String {
        format!("<Contents><Key>{key}</Key><Size>5</Size></Contents>")
    }

    #[test]
    fn names_of_a_page_are_those_right_below_the_prefix() {
        let keys = ["p/a", "p/", "p/b/c", "other/d", "p/e&amp;f"].map(item);
        let head = r#"<?xml version="1.0"?><ListBucketResult xmlns="x">"#;
        let page = format!("{head}{}</ListBucketResult>\n", keys.concat());
        assert_eq!(names(&page).expect("whole"), ["a", "e&f"]);
    }

    /// A proxy's page of welcome, or an answer whose end was lost with its connection.
    #[test]
    fn what_is_no_whole_list_was_taken_for_an_empty_bucket() {
        assert_eq!(names("<html>Please log in</html>"), Err("a list"));
        assert_eq!(names(""), Err("a list"));
        let cut = format!("<ListBucketResult>{}", item("p/a"));
        assert_eq!(names(&cut), Err("the end of its list"));
    }

    #[test]
    fn a_refusal_is_shown_in_one_short_line() {
        let long = format!(
            "<Code>No\x1b[2J</Code><Message>{}</Message>",
            "x".repeat(9999)
        );
        let (code, message) = refusal(&long);
        assert_eq!((code.as_str(), message.len()), ("No [2J", WORDS_MAX));
    }
}
