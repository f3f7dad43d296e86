//! Sets of completion indexes as Jobs write them: `1,3-5,7`. Invariant: intervals are in order and do not touch.

use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intervals(Vec<(i32, i32)>);

impl Intervals {
    /// Reads a text; what is beyond `completions` or cannot be read is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let read = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<i32>().ok()?, last.parse::<i32>().ok()?);
            let last = last.min(completions - 1);
            (first >= 0 && first <= last).then_some((first, last))
        };
        Self::of(text.split(',').filter_map(read).collect())
    }

    fn of(mut parts: Vec<(i32, i32)>) -> Self {
        parts.sort_unstable();
        let mut joined: Vec<(i32, i32)> = Vec::with_capacity(parts.len());
        for (first, last) in parts {
            match joined.last_mut() {
                Some(held) if first <= held.1.saturating_add(1) => held.1 = held.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// The same set with these indexes in it.
    pub(super) fn with(&self, indexes: impl IntoIterator<Item = i32>) -> Self {
        let added = indexes.into_iter().map(|index| (index, index));
        Self::of(self.0.iter().copied().chain(added).collect())
    }

    /// Both sets together.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    pub(super) fn total(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, index: i32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many indexes both sets have.
    pub(super) fn common(&self, other: &Self) -> i32 {
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut count = 0;
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            count += (a.1.min(b.1) - a.0.max(b.0) + 1).max(0);
            if a.1 < b.1 {
                mine.next();
            } else {
                theirs.next();
            }
        }
        count
    }

    /// The indexes below `end` that are not in the set, in order.
    pub(super) fn missing(&self, end: i32) -> impl Iterator<Item = i32> + '_ {
        let after = self.0.iter().map(|(_, last)| last.saturating_add(1));
        let before = self.0.iter().map(|(first, _)| *first);
        let (starts, ends) = (std::iter::once(0).chain(after), before.chain([end]));
        starts
            .zip(ends)
            .flat_map(move |(start, stop)| start..stop.min(end))
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            // Two neighbours are a list, as upstream writes them.
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        let cases = [
            ("", 10, "", 0),
            ("1", 10, "1", 1),
            ("0,1", 10, "0,1", 2),
            ("0-2,4,6-7", 10, "0-2,4,6,7", 6),
            ("0-2,3,4", 10, "0-4", 5),
            ("1,3-9", 5, "1,3,4", 3),
            ("1,7", 5, "1", 1),
            ("x,1,2-y,3", 5, "1,3", 2),
        ];
        for (text, completions, expected, total) in cases {
            let set = Intervals::parse(text, completions);
            assert_eq!((set.to_string().as_str(), set.total()), (expected, total));
        }
    }

    #[test]
    fn sets_are_compared() {
        let set = Intervals::parse("1-3,6,8-9", 20);
        let members: Vec<i32> = (0..11).filter(|index| set.has(*index)).collect();
        assert_eq!(members, [1, 2, 3, 6, 8, 9]);
        assert_eq!(set.missing(11).collect::<Vec<_>>(), [0, 4, 5, 7, 10]);
        assert_eq!(set.missing(3).collect::<Vec<_>>(), [0]);
        assert_eq!(set.with([4, 0, 7]).to_string(), "0-4,6-9");
        for (other, common) in [
            ("", 0),
            ("0-20", 6),
            ("2,6-8", 3),
            ("4,5,7", 0),
            ("9-12", 1),
        ] {
            assert_eq!(set.common(&Intervals::parse(other, 21)), common, "{other}");
        }
    }
}
