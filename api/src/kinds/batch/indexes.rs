//! Lists of indexes as the status of an Indexed Job has them: `1,3-5,7`.
//!
//! Invariant: intervals that were read or made here ascend and do not touch each other in part.

use crate::quote::quote;

/// From the first to the last index, both of them included.
pub type Interval = (i64, i64);

/// Reads a list of indexes below `completions`; what is wrong is said in upstream's words.
pub fn parse(text: &str, completions: i64) -> Result<Vec<Interval>, String> {
    let mut intervals: Vec<Interval> = Vec::new();
    if text.is_empty() {
        return Ok(intervals);
    }
    for part in text.split(',') {
        let (first, last) = interval(part, completions)?;
        if let Some((_, before)) = intervals.last()
            && *before >= first
        {
            return Err(out_of_order(*before, first));
        }
        intervals.push((first, last));
    }
    Ok(intervals)
}

/// Writes a list of indexes, which must ascend, in its shortest form.
pub fn format(indexes: impl IntoIterator<Item = i64>) -> String {
    let mut intervals: Vec<Interval> = Vec::new();
    for index in indexes {
        match intervals.last_mut() {
            Some((_, last)) if index <= *last => {}
            Some((_, last)) if index == *last + 1 => *last = index,
            _ => intervals.push((index, index)),
        }
    }
    let texts: Vec<String> = intervals
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

/// How many indexes there are.
pub fn count(intervals: &[Interval]) -> i64 {
    intervals.iter().map(|(first, last)| last - first + 1).sum()
}

/// The first index that is in both lists. Parts that cannot be read are passed over: their own check names them.
pub(crate) fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<Interval> {
        let parts = text.split(',');
        parts.flat_map(|part| interval(part, completions)).collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (completed.get(i), failed.get(j)) {
        if a.0 <= b.1 && b.0 <= a.1 {
            return Some(a.0.max(b.0));
        }
        if a.0 <= b.0 {
            i += 1;
        } else {
            j += 1;
        }
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<Interval, String> {
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [one] => {
            let one = index(one, completions)?;
            Ok((one, one))
        }
        [first, last] => {
            let (first, last) = (index(first, completions)?, index(last, completions)?);
            if first >= last {
                return Err(out_of_order(first, last));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quote(text)
        )),
    }
}

fn index(text: &str, completions: i64) -> Result<i64, String> {
    match text.parse::<i64>() {
        Err(_) => Err(format!(
            "cannot convert string to integer for index: {}",
            quote(text)
        )),
        Ok(index) if index >= completions => Err(format!("too large index: {}", quote(text))),
        Ok(index) => Ok(index),
    }
}

fn out_of_order(previous: i64, current: i64) -> String {
    format!("non-increasing order, previous: {previous}, current: {current}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let cases: [(&str, &[Interval], i64); 4] = [
            ("", &[], 0),
            ("0", &[(0, 0)], 1),
            ("1,3-5,9", &[(1, 1), (3, 5), (9, 9)], 5),
            ("0-1,2", &[(0, 1), (2, 2)], 3),
        ];
        for (text, expected, total) in cases {
            let intervals = parse(text, 10).unwrap();
            assert_eq!((intervals.as_slice(), count(&intervals)), (expected, total));
        }
    }

    #[test]
    fn faults_are_named() {
        let cases = [
            ("x", "cannot convert string to integer for index: \"x\""),
            ("-1", "cannot convert string to integer for index: \"\""),
            ("10", "too large index: \"10\""),
            ("2-10", "too large index: \"10\""),
            ("3-1", "non-increasing order, previous: 3, current: 1"),
            ("4,4", "non-increasing order, previous: 4, current: 4"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                 separated by '-'",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, 10), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn lists_are_written_short() {
        let cases: [(&[i64], &str); 4] = [
            (&[], ""),
            (&[1, 3, 4, 5, 7], "1,3-5,7"),
            (&[3, 4], "3,4"),
            (&[3, 3, 4, 5], "3-5"),
        ];
        for (indexes, expected) in cases {
            assert_eq!(format(indexes.iter().copied()), expected);
        }
    }

    #[test]
    fn overlaps_are_found() {
        let cases = [
            ("1,3-5", "0,2", None),
            ("1,3-5", "5-7", Some(5)),
            ("x,2", "2", Some(2)),
            ("", "1", None),
        ];
        for (completed, failed, expected) in cases {
            assert_eq!(overlap(completed, failed, 10), expected);
        }
    }
}
