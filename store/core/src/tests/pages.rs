//! Lists read page by page: the same answers as in one piece, without counting the range again for each page.

use std::cell::Cell;

use bytes::Bytes;
use corten_proto::etcd::etcdserverpb::{RangeRequest, RangeResponse};

use super::harness::{Harness, b};
use crate::backend::{Backend as _, Cursor, Keyspace, Read, Result};
use crate::{Revision, counts::Counts, range};

/// Counts the rows that cursors step over.
struct Counting<'a> {
    inner: Box<dyn Read + Send + 'a>,
    steps: Cell<usize>,
}

struct Steps<'a> {
    inner: Box<dyn Cursor + 'a>,
    steps: &'a Cell<usize>,
}

impl Read for Counting<'_> {
    fn get(&self, space: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(space, key)
    }

    fn scan(
        &self,
        space: Keyspace,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Box<dyn Cursor + '_>> {
        Ok(Box::new(Steps {
            inner: self.inner.scan(space, from, to)?,
            steps: &self.steps,
        }))
    }
}

impl Cursor for Steps<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.inner.key()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }

    fn advance(&mut self) -> Result<()> {
        self.steps.set(self.steps.get() + 1);
        self.inner.advance()
    }

    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.steps.set(self.steps.get() + 1);
        self.inner.seek(key)
    }
}

fn page(from: &[u8], revision: i64, limit: i64) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(from),
        range_end: b("l"),
        revision,
        limit,
        ..Default::default()
    }
}

fn after(response: &RangeResponse) -> Vec<u8> {
    let last = response.kvs.last().expect("a page");
    [&last.key[..], &[0]].concat()
}

#[test]
fn pages_count_what_is_left_of_the_range() {
    let mut store = Harness::new();
    for number in 0..100 {
        store.put(&format!("k/{number:03}"), "v");
    }
    let at = store.store.revision().get();
    let mut from = b"k/".to_vec();
    for given in [0, 30, 60] {
        let response = store.range(&page(&from, at, 30)).unwrap();
        assert_eq!((response.count, response.more), (100 - given, true));
        assert_eq!(response.kvs.len(), 30);
        from = after(&response);
        // Writes meanwhile are not of this revision; deletions neither.
        store.delete(&format!("k/{:03}", given + 90), "");
        store.put(&format!("k/{:03}x", given + 95), "v");
    }
    let count = |request: RangeRequest| store.range(&request).unwrap().count;
    let count_only = |revision| RangeRequest {
        count_only: true,
        ..page(&from, revision, 0)
    };
    assert_eq!(count(count_only(at)), 10);
    assert_eq!(
        count(count_only(0)),
        9 + 3,
        "the newest revision counts for itself"
    );
    let rest = store.range(&page(&from, at, 30)).unwrap();
    assert_eq!((rest.count, rest.more, rest.kvs.len()), (10, false, 10));
}

#[test]
fn a_page_after_the_first_walks_no_further_than_itself() {
    let mut store = Harness::new();
    for number in 0..1000 {
        store.put(&format!("k/{number:04}"), "v");
    }
    let now = store.store.revision();
    let view = Counting {
        inner: store.backend.snapshot(),
        steps: Cell::new(0),
    };
    let counts = Counts::default();
    let read = |from: &[u8]| {
        view.steps.set(0);
        let request = page(from, now.get(), 10);
        let response = range::range(&view, now, Revision::ZERO, &request, Some(&counts)).unwrap();
        (response, view.steps.get())
    };
    let (first, steps) = read(b"k/");
    assert!(steps >= 1000, "the first page has to count: {steps}");
    let (second, steps) = read(&after(&first));
    assert_eq!(
        (second.count, second.more, second.kvs.len()),
        (990, true, 10)
    );
    assert!(steps <= 11, "{steps} steps for a page of ten");
    let (third, steps) = read(&after(&second));
    assert_eq!(third.count, 980);
    assert!(steps <= 11, "{steps} steps for a page of ten");
}
