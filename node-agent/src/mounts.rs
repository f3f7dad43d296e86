//! What is mounted where, as this process sees it. Reads only.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// All mount points; a point appears once for each mount stacked on it.
pub fn points() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .collect()
}

/// Mount points below a directory, deepest first, so that they can be unmounted in order.
pub fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = points()
        .into_iter()
        .filter(|point| point.starts_with(directory) && point != directory)
        .collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// Whether something is mounted exactly here.
pub fn is_point(path: &Path) -> bool {
    points().iter().any(|point| point == path)
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        assert_eq!(unescape("/a\\040b\\134"), Path::new("/a b\\"));
        assert_eq!(unescape("/plain\\"), Path::new("/plain\\"));
        assert!(is_point(Path::new("/proc")));
    }
}
