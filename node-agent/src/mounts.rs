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

/// How mounts made below a path travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Travel {
    /// The mount that the path is on.
    pub point: PathBuf,
    /// To and from others of its group.
    pub shared: bool,
    /// From a group to here.
    pub slave: bool,
}

/// What the mount does that `path` is on.
pub fn travel(path: &Path) -> std::io::Result<Travel> {
    let path = path.canonicalize()?;
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    travel_in(&text, &path)
        .ok_or_else(|| std::io::Error::other(format!("{} is on no mount", path.display())))
}

/// Of mounts stacked on one point the last counts.
fn travel_in(mountinfo: &str, path: &Path) -> Option<Travel> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (head, _) = line.split_once(" - ")?;
        let mut fields = head.split(' ');
        let point = unescape(fields.nth(4)?);
        let tags: Vec<&str> = fields.skip(1).collect();
        let has = |tag: &str| tags.iter().any(|known| known.starts_with(tag));
        path.starts_with(&point).then(|| Travel {
            shared: has("shared:"),
            slave: has("master:"),
            point,
        })
    });
    // `max_by_key` gives the last of equals.
    mounts.max_by_key(|mount| mount.point.components().count())
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
    fn the_mount_that_a_path_is_on() {
        let text = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    30 27 0:25 / /data rw shared:3 - tmpfs none rw\n\
                    31 30 0:26 / /data/a\\040b rw master:3 - tmpfs none rw\n\
                    32 31 0:27 / /data/a\\040b rw shared:4 master:3 - tmpfs none rw\n";
        let of = |path: &str| {
            let found = travel_in(text, Path::new(path)).expect("a mount");
            (found.point.display().to_string(), found.shared, found.slave)
        };
        assert_eq!(of("/etc"), ("/".to_owned(), false, false));
        assert_eq!(of("/data/x"), ("/data".to_owned(), true, false));
        assert_eq!(of("/data/a b/c"), ("/data/a b".to_owned(), true, true));
        assert_eq!(of("/database"), ("/".to_owned(), false, false));
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("/a\\040b\\134"), Path::new("/a b\\"));
        assert_eq!(unescape("/plain\\"), Path::new("/plain\\"));
        assert!(is_point(Path::new("/proc")));
    }
}
