//! Which keys a set of grants covers together.
//! Not who has them, nor what for.
//! Invariant: intervals are in order and neither overlap nor touch, so that a range is covered exactly when one of them
//! holds it whole.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::span::Span;

/// A union of keys and ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// `start <= key < end`; no end: everything from `start` on.
    intervals: Vec<(Bytes, Option<Bytes>)>,
}

impl Coverage {
    /// The union of spans.
    pub fn new(spans: impl IntoIterator<Item = Span>) -> Self {
        let mut all: Vec<_> = spans.into_iter().map(bounds).collect();
        all.retain(|(start, end)| end.as_ref().is_none_or(|end| start < end));
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut intervals: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        for (start, end) in all {
            match intervals.last_mut() {
                Some((_, None)) => break,
                Some((_, Some(last))) if start <= *last => match end {
                    Some(end) if end <= *last => {}
                    end => {
                        let (from, _) = intervals.pop().expect("looked at just now");
                        intervals.push((from, end));
                    }
                },
                _ => intervals.push((start, end)),
            }
        }
        Self { intervals }
    }

    /// Whether every key of the span is covered. A range that holds no key counts as its first key.
    pub fn covers(&self, span: &Span) -> bool {
        let (start, end) = bounds(span.clone());
        let after = self.intervals.partition_point(|(from, _)| *from <= start);
        let Some((_, to)) = after.checked_sub(1).map(|at| &self.intervals[at]) else {
            return false;
        };
        match (to, &end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(to), Some(end)) => start < *to && end <= to,
        }
    }
}

fn bounds(span: Span) -> (Bytes, Option<Bytes>) {
    match span {
        Span::Range { start, end } => (start, end),
        Span::Key(key) => {
            // The first key after this one.
            let mut end = BytesMut::with_capacity(key.len() + 1);
            end.extend_from_slice(&key);
            end.put_u8(0);
            (key, Some(end.freeze()))
        }
    }
}
