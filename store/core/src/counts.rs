//! How many keys follow the end of a page: so that a list read page by page counts its range once, not once per page.
//! Not a cache of keys or values, and no help for the first page: a count is what the API promises there.
//! Invariant: what is remembered is of one revision, which never changes; so nothing here can go stale.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{ids::Revision, span::Span};

/// Lists under way that are remembered; the oldest is forgotten, which costs its next page a walk.
const LISTS_MAX: usize = 1024;

/// A rest of a range at a revision.
type Rest = (Revision, Span);

/// Counts of the rests of pages.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: HashMap<Rest, i64>,
    /// In order of age.
    order: VecDeque<Rest>,
}

impl Counts {
    /// The number of living keys of a span at a revision, if a page ended just before it.
    pub(crate) fn get(&self, at: Revision, span: &Span) -> Option<i64> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.counts.get(&(at, span.clone())).copied()
    }

    /// Notes how many living keys of a span follow `last`.
    pub(crate) fn note(&self, at: Revision, span: &Span, last: &[u8], count: i64) {
        let Span::Range { end, .. } = span else {
            return;
        };
        let rest = Span::Range {
            start: successor(last),
            end: end.clone(),
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.counts.insert((at, rest.clone()), count).is_some() {
            return;
        }
        inner.order.push_back((at, rest));
        if inner.order.len() > LISTS_MAX
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.counts.remove(&oldest);
        }
    }
}

/// The first key after `key`: where clients go on.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.put_u8(0);
    next.freeze()
}
