//! What a (key, range_end) pair of the API covers.
//! Not a query: limits, filters and revisions are with the reader.
//! Invariant: `contains` agrees with the rows between `row_bounds`.

use bytes::Bytes;

use crate::codec;

/// One key, or a half-open range of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// Exactly one key.
    Key(Bytes),
    /// `start <= key < end`; no end: everything from `start` on.
    Range {
        /// First key that may be covered.
        start: Bytes,
        /// First key that is not.
        end: Option<Bytes>,
    },
}

/// `range_end` of a request that means "to the end".
const OPEN_END: &[u8] = &[0];

impl Span {
    /// Reads the pair as etcd does: no end is one key, a single zero byte is no end.
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        if range_end.is_empty() {
            Self::Key(key.clone())
        } else if range_end.as_ref() == OPEN_END {
            Self::Range {
                start: key.clone(),
                end: None,
            }
        } else {
            Self::Range {
                start: key.clone(),
                end: Some(range_end.clone()),
            }
        }
    }

    /// Whether the span covers a key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(own) => own.as_ref() == key,
            Self::Range { start, end } => {
                start.as_ref() <= key && end.as_ref().is_none_or(|end| key < end.as_ref())
            }
        }
    }

    /// Whether no key can be covered.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Range { start, end: Some(end) } if start >= end)
    }

    /// Bounds of the span's rows in `Keyspace::Key`.
    pub(crate) fn row_bounds(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Self::Key(key) => {
                let prefix = codec::key_prefix(key);
                let end = codec::prefix_end(&prefix);
                (prefix, Some(end))
            }
            Self::Range { start, end } => (
                codec::key_prefix(start),
                end.as_ref().map(|end| codec::key_prefix(end)),
            ),
        }
    }
}
