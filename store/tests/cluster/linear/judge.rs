//! The judge of what clients were answered.
//!
//! Invariant: the time it takes grows with the number of operations as sorting them does.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::super::history::{Change, History};
use super::{Did, Found, Operation, Seen};

/// What was there at each revision, by key.
struct Versions<'a>(BTreeMap<&'a str, BTreeMap<i64, Option<&'a Bytes>>>);

impl<'a> Versions<'a> {
    /// Fails if a value is there twice: all that is judged here is written once.
    fn of(history: &'a History, keys: &str) -> Self {
        let mut versions: BTreeMap<&str, BTreeMap<_, _>> = BTreeMap::new();
        let mut first: BTreeMap<&Bytes, i64> = BTreeMap::new();
        for (at, changes) in history {
            let ours = changes.iter().filter(|change| change.key.starts_with(keys));
            for Change { key, value } in ours {
                let value = value.as_ref();
                versions.entry(key).or_default().insert(*at, value);
                if let Some(value) = value
                    && let Some(before) = first.insert(value, *at)
                {
                    panic!("{value:?} was written at {before} and again at {at}");
                }
            }
        }
        Self(versions)
    }

    /// Whether a revision was as somebody saw it.
    fn agree(&self, seen: &Seen, at: i64) -> bool {
        let there = self.0.iter().filter(|(key, _)| match seen.to.as_str() {
            "" => **key == seen.from,
            to => (seen.from.as_str()..to).contains(*key),
        });
        let mut there = there.filter_map(|(key, versions)| {
            let (written, value) = versions.range(..=at).next_back()?;
            Some((*key, *written, (*value)?))
        });
        let same = |found: &Found, (key, written, value): (&str, i64, &Bytes)| {
            found.key == key
                && found.written == written
                && found.value.as_ref().is_none_or(|seen| seen == value)
        };
        let mut found = seen.found.iter();
        let all = found.all(|found| there.next().is_some_and(|there| same(found, there)));
        all && there.next().is_none()
    }
}

/// What the keys of clients begin with.
const PREFIX: &str = "x/";

/// Fails if there is no order in which all of it makes sense.
pub(crate) fn judge(mut operations: Vec<Operation>, history: &History) {
    let versions = Versions::of(history, PREFIX);
    let mut ended: Vec<(Instant, i64)> =
        operations.iter().map(|op| (op.end, op.revision)).collect();
    ended.sort_unstable();
    operations.sort_unstable_by_key(|op| op.begin);
    let (mut passed, mut newest) = (0, 0);
    for operation in operations {
        while passed < ended.len() && ended[passed].0 < operation.begin {
            newest = newest.max(ended[passed].1);
            passed += 1;
        }
        let at = operation.revision;
        match &operation.did {
            Did::Changed { changes, before } => {
                assert!(at > newest, "a change at {at} after {newest} was known");
                assert_eq!(history.get(&at), Some(changes), "what was changed at {at}");
                for seen in before {
                    let agreed = versions.agree(seen, at - 1);
                    assert!(agreed, "what was before the change at {at}: {seen:?}");
                }
            }
            Did::Read { seen, unlike } => {
                assert!(at >= newest, "a read at {at} after {newest} was known");
                for seen in seen {
                    assert!(versions.agree(seen, at), "a read at {at}: {seen:?}");
                }
                if let Some(unlike) = unlike {
                    let like = unlike.iter().all(|seen| versions.agree(seen, at));
                    assert!(!like, "refused at {at}, where it held: {unlike:?}");
                }
            }
        }
    }
}

/// An operation that begins at so many milliseconds, and takes five.
fn operation(zero: Instant, begin: u64, revision: i64, did: Did) -> Operation {
    let after = |ms| zero + std::time::Duration::from_millis(ms);
    Operation {
        begin: after(begin),
        end: after(begin + 5),
        revision,
        did,
    }
}

fn one(key: &str, found: &[(i64, &'static str)]) -> Seen {
    range(key, "", &[(key, found)])
}

/// What was found, key by key.
fn range(from: &str, to: &str, keys: &[(&str, &[(i64, &'static str)])]) -> Seen {
    let all = keys.iter().flat_map(|(key, found)| {
        found.iter().map(|(written, value)| Found {
            key: (*key).to_owned(),
            written: *written,
            value: Some(Bytes::from_static(value.as_bytes())),
        })
    });
    Seen {
        from: from.to_owned(),
        to: to.to_owned(),
        found: all.collect(),
    }
}

fn put(key: &str, value: &'static str, before: Seen) -> Did {
    Did::Changed {
        changes: vec![Change::put(key, value)],
        before: vec![before],
    }
}

fn read(seen: Seen) -> Did {
    let seen = vec![seen];
    Did::Read { seen, unlike: None }
}

/// `x/a` at 2 and 3, both keys at 4, `x/a` gone at 5.
fn history() -> History {
    History::from([
        (2, vec![Change::put("x/a", "1")]),
        (3, vec![Change::put("x/a", "2")]),
        (4, vec![Change::put("x/a", "3"), Change::put("x/b", "4")]),
        (5, vec![Change::delete("x/a")]),
    ])
}

fn judged(operations: &[(u64, i64, Did)]) {
    let zero = Instant::now();
    let operations = operations
        .iter()
        .map(|(begin, revision, did)| operation(zero, *begin, *revision, did.clone()));
    judge(operations.collect(), &history());
}

fn both(before: Seen) -> Did {
    Did::Changed {
        changes: vec![Change::put("x/a", "3"), Change::put("x/b", "4")],
        before: vec![before, one("x/b", &[])],
    }
}

#[test]
fn the_judge_passes_what_is_right() {
    let all: &[(&str, &[_])] = &[("x/a", &[(4, "3")]), ("x/b", &[(4, "4")])];
    let refused = Did::Read {
        seen: vec![one("x/a", &[(4, "3")])],
        unlike: Some(vec![one("x/a", &[(3, "2")]), one("x/b", &[])]),
    };
    judged(&[
        (0, 2, put("x/a", "1", one("x/a", &[]))),
        (10, 3, put("x/a", "2", one("x/a", &[(2, "1")]))),
        // Beside the put: before or after it.
        (12, 2, read(one("x/a", &[(2, "1")]))),
        (20, 4, both(one("x/a", &[(3, "2")]))),
        (30, 4, read(range("x/", "x0", all))),
        (40, 4, refused),
        (50, 5, read(range("x/", "x0", &all[1..]))),
    ]);
}

#[test]
#[should_panic(expected = "a read at 2 after 3 was known")]
fn the_judge_notices_a_stale_read() {
    judged(&[
        (0, 3, put("x/a", "2", one("x/a", &[(2, "1")]))),
        (10, 2, read(one("x/a", &[(2, "1")]))),
    ]);
}

#[test]
#[should_panic(expected = "what was changed at 3")]
fn the_judge_notices_a_lost_put() {
    judged(&[(0, 3, put("x/b", "9", one("x/b", &[])))]);
}

#[test]
#[should_panic(expected = "what was changed at 4")]
fn the_judge_notices_a_transaction_of_which_a_part_is_there() {
    judged(&[(0, 4, put("x/a", "3", one("x/a", &[(3, "2")])))]);
}

#[test]
#[should_panic(expected = "what was before the change at 4")]
fn the_judge_notices_a_swap_that_should_have_failed() {
    judged(&[(0, 4, both(one("x/a", &[(2, "1")])))]);
}

#[test]
#[should_panic(expected = "refused at 3, where it held")]
fn the_judge_notices_a_swap_that_should_have_succeeded() {
    let seen = vec![one("x/a", &[(3, "2")])];
    let unlike = Some(seen.clone());
    judged(&[(0, 3, Did::Read { seen, unlike })]);
}

#[test]
#[should_panic(expected = "a read at 5")]
fn the_judge_notices_a_range_with_a_key_that_is_gone() {
    let all: &[(&str, &[_])] = &[("x/a", &[(4, "3")]), ("x/b", &[(4, "4")])];
    judged(&[(0, 5, read(range("x/", "x0", all)))]);
}

#[test]
#[should_panic(expected = "was written at 2 and again at 3")]
fn the_judge_notices_a_write_that_was_done_twice() {
    let twice = |at| (at, vec![Change::put("x/a", "1")]);
    judge(Vec::new(), &History::from([2, 3].map(twice)));
}
